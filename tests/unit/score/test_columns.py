"""Arrays of what a task reads in, arrays of answers out."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sparkml.errors import UsageError
from sparkml.inference.batches import ModelSource, worker_scorer
from sparkml.inference.columns import ANSWER_SCHEMA, column_function
from sparkml.inference.scorer import load_scorer
from tests.tiny import DECIDED, WORDS, tiny_classifier

TEXTS = [*" ".join(WORDS).split(), None, "win a prize", "lunch tomorrow at home"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tiny_classifier(tmp_path_factory.mktemp("models") / "m", config=DECIDED)
    return ModelSource(str(folder), "one", threads=1)


@pytest.mark.parametrize("sizes", [[1] * len(TEXTS), [3, 0, len(TEXTS) - 3], [len(TEXTS)]])
def test_every_text_is_answered_in_order_whatever_the_batches(model: ModelSource, sizes: list[int]) -> None:
    texts = iter(TEXTS)
    batches = [pa.array([next(texts) for _ in range(size)], pa.string()) for size in sizes]
    answers = list(column_function(model, "f", ["text"])(iter(batches)))
    assert {array.type for array in answers} == {pa.struct(list(ANSWER_SCHEMA))}
    rows = [row for array in answers for row in array.to_pylist()]
    expected = load_scorer(model.location).answer(TEXTS)
    assert [row["prediction"] for row in rows] == [one.prediction for one in expected]
    assert [row["error"] for row in rows] == [one.error for one in expected]
    assert [row["score"] for row in rows] == [
        one.score and pytest.approx(one.score, abs=1e-5) for one in expected
    ]
    assert len({row["prediction"] for row in rows}) > 2


def test_types_that_hold_the_same_are_taken(model: ModelSource) -> None:
    function = column_function(model, "f", ["text"])
    (plain,) = function(iter([pa.array(["7", None])]))
    for given in (pa.array(["7", None], pa.large_string()), pa.array([7, None]), pa.array([b"7", None])):
        assert list(function(iter([given]))) == [plain]
    (missing,) = function(iter([pa.nulls(2)]))
    assert [row["error"] for row in missing.to_pylist()] == ["text_missing null"] * 2


def test_other_columns_than_the_task_reads_are_an_error(model: ModelSource) -> None:
    function = column_function(model, "mood", ["text"])
    with pytest.raises(UsageError, match=r"mood\(text\)"):
        list(function(iter([(pa.array(["a"]), pa.array(["b"]))])))
    with pytest.raises(UsageError, match="argument `text`"):
        list(function(iter([pa.array([["a"]])])))


def test_no_batches_give_no_answers(model: ModelSource) -> None:
    assert list(column_function(model, "f", ["text"])(iter([]))) == []


def test_a_process_keeps_the_models_of_a_query(model: ModelSource, tmp_path: Path) -> None:
    other = ModelSource(str(tiny_classifier(tmp_path / "other", ("x", "y"))), "two", threads=1)
    first, second = worker_scorer(model), worker_scorer(other)
    assert worker_scorer(model) is first
    assert worker_scorer(other) is second
