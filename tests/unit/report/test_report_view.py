"""What the report derives from the ledger alone: the order of steps, and the funnel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from sparkml.frame.ledger import FAILED, SUCCEEDED, Run
from sparkml.report import contents, funnel
from sparkml.report.lake import Place
from sparkml.report.section import KeyFigure
from sparkml.report.view import StepView, step_views, upstream

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


def run_of(
    at: int,
    step: str,
    inputs: Mapping[str, int] | None = None,
    outputs: Mapping[str, int] | None = None,
    rows: tuple[int, int] | None = None,
    pipeline: str = "default",
    status: str = SUCCEEDED,
) -> Run:
    counts = (rows[0], rows[1], rows[0] - rows[1]) if rows else (None, None, None)
    return Run(
        run_id=f"run-{step}-{at}",
        step=step,
        stage="toy",
        fingerprint="f",
        status=status,
        started_at=NOON + timedelta(minutes=at),
        pipeline=pipeline,
        inputs=inputs or {},
        outputs=outputs or {},
        rows_in=counts[0],
        rows_kept=counts[1],
        rows_rejected=counts[2],
    )


def lake_of(*runs: Run, pipeline: str = "default") -> Any:
    ordered = sorted(runs, key=lambda run: run.started_at)
    return SimpleNamespace(runs=ordered, pipeline=pipeline, stage=lambda name: None)


def order(*runs: Run, pipeline: str = "default") -> list[str]:
    return [view.step for view in step_views(lake_of(*runs, pipeline=pipeline))]


def test_steps_follow_those_whose_outputs_they_take() -> None:
    chain = [
        run_of(3, "a", {}, {"x": 0}),
        run_of(2, "b", {"x": 0}, {"models:m": 1}),
        run_of(1, "c", {"models:m": 1}, {"y": 0}),
    ]
    assert order(*chain) == ["a", "b", "c"]


def test_a_step_that_is_repeated_keeps_its_place() -> None:
    runs = [run_of(1, "a"), run_of(2, "b"), run_of(3, "a"), run_of(0, "b", status=FAILED)]
    assert order(*runs) == ["a", "b"]
    assert [view.run.run_id for view in step_views(lake_of(*runs))] == ["run-a-3", "run-b-2"]


def test_steps_of_other_pipelines_come_after_those_of_the_report() -> None:
    runs = [run_of(1, "a", {}, {"x": 0}, pipeline="other"), run_of(2, "b"), run_of(3, "c", {"x": 0})]
    assert order(*runs) == ["b", "a", "c"]  # but not after one that reads what they wrote
    assert order(*runs, pipeline="other") == ["a", "b", "c"]


def test_a_table_of_many_steps_and_tables_that_changed_hands_make_no_endless_circle() -> None:
    shared = [run_of(1, "a", {"scores": 0}, {"scores": 1}), run_of(2, "b", {"scores": 1}, {"scores": 2})]
    assert order(*shared) == ["a", "b"]
    circle = [
        run_of(1, "a", {"y": 0}, {"x": 0}),
        run_of(2, "b", {"x": 0}, {"y": 1}),
        run_of(3, "c", {"y": 1}),
    ]
    assert order(*circle) == ["a", "b", "c"]


def test_upstream_by_tables_leaves_models_out() -> None:
    views = step_views(
        lake_of(
            run_of(1, "a", {}, {"x": 0}),
            run_of(2, "b", {}, {"models:m": 1}),
            run_of(3, "c", {"x": 0, "models:m": 1}),
        )
    )
    assert [view.step for view in upstream(views[2], views)] == ["a", "b"]
    assert [view.step for view in upstream(views[2], views, tables_only=True)] == ["a"]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables whose name begins with `docs` hold the documents that were kept, 10 bytes each."""

    def table_of(lake: Any, view: StepView) -> Place | None:
        return next((place for place in view.owned if place.ref.startswith("docs")), None)

    monkeypatch.setattr(funnel, "_table_of_documents", table_of)
    monkeypatch.setattr(funnel, "_text_bytes", lambda lake, place: 10 * place.version)


@pytest.mark.usefixtures("measured")
def test_two_sources_that_run_together_have_a_bar_each() -> None:
    lake = lake_of(
        run_of(1, "read_a", {}, {"docs_a": 9}, (10, 9)),
        run_of(2, "read_b", {}, {"docs_b": 5}, (5, 5)),
        run_of(3, "clean_a", {"docs_a": 9}, {"docs_clean": 6}, (9, 6)),
        run_of(4, "both", {"docs_clean": 6, "docs_b": 5}, {"docs_all": 11}, (11, 11)),
        run_of(5, "count", {"docs_all": 11}, {"counts": 0}),  # gives no account
        run_of(6, "check", {"counts": 0}, {"checks": 0}, (4, 3)),
    )
    found = funnel.gather(lake, step_views(lake))
    assert found is not None
    assert [(chain.steps, chain.rows_in, chain.left) for chain in found.chains] == [
        (("read_a", "clean_a"), 10, 6),
        (("read_b",), 5, 5),
    ]
    steps = {step.step: step for step in found.steps}
    assert list(steps) == ["read_a", "read_b", "clean_a", "both", "check"]
    assert (steps["clean_a"].share, steps["clean_a"].bytes_share) == (6 / 10, 60 / 90)
    assert (steps["both"].share, steps["both"].bytes_share) == (11 / 15, 110 / 140)
    assert (steps["check"].share, steps["check"].bytes) == (3 / 15, None)
    assert contents._sizes(found) == (
        KeyFigure("Documents left", "11", "of 15 read, 73.3 %"),
        KeyFigure("Text left", "110 B", "of 140 B read, 78.6 %"),
    )


@pytest.mark.usefixtures("measured")
def test_a_chain_takes_the_longer_branch_and_ends_where_versions_part() -> None:
    lake = lake_of(
        run_of(1, "read", {}, {"docs": 8}, (8, 8)),
        run_of(2, "side", {"docs": 8}, {"docs_side": 1}, (8, 1)),
        run_of(3, "clean", {"docs": 8}, {"docs_clean": 6}, (8, 6)),
        run_of(4, "dedupe", {"docs_clean": 6}, {"docs_kept": 5}, (6, 5)),
        run_of(5, "old", {"docs_kept": 4}, {"docs_old": 4}, (5, 4)),  # of another version of `docs_kept`
    )
    found = funnel.gather(lake, step_views(lake))
    assert found is not None
    (chain,) = found.chains
    assert chain.steps == ("read", "clean", "dedupe")
    assert [(fate.name, fate.documents, fate.tone) for fate in chain.fates] == [
        ("left after dedupe", 5, "accent"),
        ("rejected by clean", 2, "contrast"),
        ("rejected by dedupe", 1, "amber"),
    ]


def test_a_lake_that_counts_nothing_has_no_funnel() -> None:
    lake = lake_of(run_of(1, "train", {}, {"models:m": 1}))
    assert funnel.gather(lake, step_views(lake)) is None
    assert [figure.note for figure in contents._sizes(None)] == ["not read yet", "not read yet"]
