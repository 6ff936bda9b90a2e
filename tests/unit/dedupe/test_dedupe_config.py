from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from sparkml.stages.dedupe.config import DedupeConfig


def test_doc_id_breaks_ties_where_the_order_leaves_it_out() -> None:
    assert DedupeConfig(keep_order=("lang_score desc",)).keep_columns() == [
        ("lang_score", True),
        ("doc_id", False),
    ]


def test_nothing_after_doc_id_matters() -> None:
    config = DedupeConfig(keep_order=("n_words", "doc_id desc", "url"))
    assert config.keep_columns() == [("n_words", False), ("doc_id", True)]


def test_a_field_of_a_struct_can_order() -> None:
    assert DedupeConfig(keep_order=("signals.n_lines desc",)).keep_columns()[0] == ("signals.n_lines", True)


@pytest.mark.parametrize("entry", ["n_words down", "n_words desc nulls last", "-n_words", "", "n words"])
def test_an_order_of_another_form_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError, match="is not a column with `asc` or `desc`"):
        DedupeConfig(keep_order=(entry,))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("similarity_threshold", 0.0),
        ("similarity_threshold", 1.1),
        ("ngram", 0),
        ("n_bands", 0),
        ("bucket_window", 0),
    ],
)
def test_values_without_meaning_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        DedupeConfig(**{field: value})


def test_where_the_work_runs_is_no_part_of_the_fingerprint() -> None:
    here = DedupeConfig(single_task_edges=0, reliable_checkpoints=True)
    assert here.semantic() == DedupeConfig().semantic()
    assert DedupeConfig(signature_seed=1).semantic() != DedupeConfig().semantic()


def test_the_yaml_states_every_default() -> None:
    file = Path(__file__).parents[3] / "conf" / "base" / "dedupe.yaml"
    stated = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert DedupeConfig(**stated) == DedupeConfig()
    assert set(stated) == set(DedupeConfig.model_fields)
