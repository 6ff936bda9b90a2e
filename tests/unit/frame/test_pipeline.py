"""Pipelines: order from what steps read and write; cycles, two writers and unknown references are refused."""

from __future__ import annotations

import random

import pytest

from sparkml.errors import ConfigError, UsageError
from sparkml.frame.pipeline import Pipeline, Step, is_directory, model_name
from sparkml.frame.stage import Makes, Reads, RunReport, Shares, Stage, StageConfig, Uses, Writes


class TableConfig(StageConfig):
    source: Reads
    target: Writes
    rejects: Shares = "rejects"


class LearnConfig(StageConfig):
    source: Reads
    model: Uses | None = None
    model_id: Makes


class ScoreConfig(StageConfig):
    source: Reads
    model: Uses
    target: Shares = "scores"


def stage(config: type[StageConfig], *, last: bool = False) -> Stage:
    return Stage(config, lambda job, chosen: RunReport(), "", last=last)


def table(name: str, source: str, target: str) -> Step:
    return Step(name, stage(TableConfig), TableConfig(source=source, target=target))


def learn(name: str, source: str, model: str | None = None) -> Step:
    return Step(name, stage(LearnConfig), LearnConfig(source=source, model=model, model_id=name))


def score(name: str, source: str, model: str) -> Step:
    return Step(name, stage(ScoreConfig), ScoreConfig(source=source, model=model))


CHAIN = [
    table("clean", "/in/bronze", "clean"),
    table("dedupe", "clean", "kept"),
    learn("encoder", "kept"),
    learn("ner", "kept", "encoder"),
    learn("mood", "clean", "encoder/v3"),
    score("score_ner", "kept", "ner"),
    score("score_mood", "kept", "mood"),
    Step("report", stage(StageConfig, last=True), StageConfig()),
]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_follows_from_reads_and_writes_not_from_the_file(seed: int) -> None:
    steps = random.Random(seed).sample(CHAIN, len(CHAIN))
    order = [step.name for step in Pipeline.of("p", steps).steps]
    for before, after in (
        ("clean", "dedupe"),
        ("dedupe", "encoder"),
        ("encoder", "ner"),
        ("encoder", "mood"),
        ("ner", "score_ner"),
        ("mood", "score_mood"),
    ):
        assert order.index(before) < order.index(after)
    assert order[-1] == "report"


def test_free_steps_keep_the_order_of_the_file() -> None:
    assert [step.name for step in Pipeline.of("p", CHAIN).steps] == [step.name for step in CHAIN]


def test_a_cycle_names_both_ends() -> None:
    with pytest.raises(ConfigError, match="circle") as caught:
        Pipeline.of("p", [table("a", "y", "x"), table("b", "x", "y")])
    assert "a.source = y, made by b" in caught.value.got
    assert "b.source = x, made by a" in caught.value.got


def test_an_unknown_table_or_model_names_who_wants_it_and_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"step `dedupe` takes table `claen`") as caught:
        Pipeline.of("p", [CHAIN[0], table("dedupe", "claen", "kept")])
    assert (caught.value.where, caught.value.next_action) == (
        "pipeline `p`, dedupe.source",
        "did you mean `clean`?",
    )
    with pytest.raises(ConfigError, match="takes model `encodr`") as caught:
        Pipeline.of("p", [*CHAIN[:3], learn("ner", "kept", "encodr")])
    assert "did you mean `encoder`?" in caught.value.next_action


def test_what_the_lake_has_and_what_lies_elsewhere_needs_no_step() -> None:
    steps = [
        score("s", "kept", "encoder"),
        score("t", "/data/other", "s3://models/x"),
        score("u", "c.s.t", "/m"),
    ]
    found = Pipeline.of("p", steps, {"kept", "models:encoder"}.__contains__)
    assert [step.name for step in found.steps] == ["s", "t", "u"]


def test_two_steps_may_share_a_table_but_not_write_one() -> None:
    with pytest.raises(ConfigError, match="two steps write `kept`") as caught:
        Pipeline.of("p", [*CHAIN[:2], table("again", "clean", "kept")])
    assert "`dedupe` and `again`" in caught.value.where
    with pytest.raises(ConfigError, match="two steps write `models:x`"):
        Pipeline.of(
            "p", [learn("x", "/a"), Step("y", stage(LearnConfig), LearnConfig(source="/a", model_id="x"))]
        )
    with pytest.raises(ConfigError, match="two steps write `rejects`"):
        Pipeline.of("p", [CHAIN[0], table("own", "/a", "rejects")])


def test_upstream_until_and_chosen() -> None:
    found = Pipeline.of("p", CHAIN)
    assert found.upstream(found.step("score_mood")) == ("dedupe", "mood")
    assert found.upstream(found.step("report")) == tuple(step.name for step in CHAIN[:-1])
    assert [step.name for step in found.until("encoder")] == ["clean", "dedupe", "encoder"]
    assert [step.name for step in found.chosen(["ner", "clean"])] == ["clean", "ner"]
    with pytest.raises(UsageError, match="did you mean `encoder`"):
        found.step("encoderr")


@pytest.mark.parametrize(
    ("model", "name", "directory"),
    [
        ("mood", "mood", False),
        ("mood/v3", "mood", False),
        ("/models/mood/v3", "/models/mood/v3", True),
        ("s3://b/mood", "s3://b/mood", True),
        ("./here", "./here", True),
    ],
)
def test_model_fields_name_the_registry_or_a_directory(model: str, name: str, directory: bool) -> None:
    assert (model_name(model), is_directory(model)) == (name, directory)
