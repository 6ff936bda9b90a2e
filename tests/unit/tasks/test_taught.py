"""A task beside a teacher: the distance for every kind of answer, of which logits it is, and that chance stays out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from sparkml.inference.scorer import rows_of
from sparkml.models.inputs import TextInputs
from sparkml.models.shaping.settings import Teaching
from sparkml.tasks.classify import Classify, ClassifyOptions
from sparkml.tasks.draws import draws_of
from sparkml.tasks.regress import Regress, RegressOptions
from sparkml.tasks.tag import Tag, TagOptions
from sparkml.tasks.task import Loss, Targets, Task
from sparkml.tasks.taught import Taught, said_of
from tests.unit.tasks.examples import Says, samples

TEMPERATURE = 2.0
LABELS = Targets(labels=("a", "b", "c"), counts={"a": 1, "b": 1, "c": 1})


def taught(task: Task[Any], rows: Any, said: list[list[list[float]]], weight: float) -> tuple[Taught, Any]:
    """The task beside a teacher that has said these rows of logits of each sample, and the batch."""
    cells = [np.asarray(one, np.float32).tobytes() for one in said]
    wrapped = Taught(task, Teaching(weight=weight, temperature=TEMPERATURE))
    columns = {**rows, "taught": np.asarray(cells, object)}
    return wrapped, wrapped.collate(columns, None)


def value(loss: Loss) -> float:
    return float(loss.total.detach())


def softened(logits: list[float]) -> np.ndarray[Any, Any]:
    found = np.exp(np.asarray(logits) / TEMPERATURE)
    return found / found.sum()


def test_classes_are_apart_by_what_their_softened_probabilities_say(inputs: TextInputs) -> None:
    task = Classify(ClassifyOptions(), LABELS, inputs)
    rows = samples(task, ["win", "home"], ["a", "b"])
    ours, theirs = [[1.0, 0.0, -1.0], [0.5, 0.5, 0.5]], [[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]
    wrapped, batch = taught(task, rows, [[one] for one in theirs], weight=0.25)
    apart = TEMPERATURE**2 * sum(
        float((softened(b) * np.log(softened(b) / softened(a))).sum())
        for a, b in zip(ours, theirs, strict=True)
    )
    own = task.loss(Says(ours), batch)
    both = wrapped.loss(Says(ours), batch)
    assert value(both) == pytest.approx(0.75 * value(own) + 0.25 * apart, rel=1e-5)
    assert both.units == own.units == 2
    assert wrapped.columns[-1][0] == "taught"


def test_several_labels_are_a_yes_or_no_each(inputs: TextInputs) -> None:
    task = Classify(ClassifyOptions(several=True), LABELS, inputs)
    rows = samples(task, ["win"], ["a|b"])
    ours, theirs = [1.0, 0.0, -1.0], [0.0, 2.0, 0.0]
    wrapped, batch = taught(task, rows, [[theirs]], weight=1.0)
    p, q = (1 / (1 + np.exp(-np.asarray(one) / TEMPERATURE)) for one in (theirs, ours))
    apart = TEMPERATURE**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert value(wrapped.loss(Says([ours]), batch)) == pytest.approx(apart, rel=1e-4)


def test_numbers_are_apart_by_their_squared_difference(inputs: TextInputs) -> None:
    task = Regress(
        RegressOptions(), Targets(labels=("value",), numbers={"mean": 10.0, "deviation": 4.0}), inputs
    )
    rows = samples(task, ["win", "home"], ["10", "14"])
    wrapped, batch = taught(task, rows, [[[2.0]], [[-1.0]]], weight=1.0)
    assert value(wrapped.loss(Says([[1.0], [1.0]]), batch)) == pytest.approx(1.0 + 4.0)


def test_a_teacher_says_as_many_rows_of_a_sentence_as_it_has_words(inputs: TextInputs) -> None:
    task = Tag(TagOptions(max_length=16), Targets(labels=("O", "B-X", "I-X")), inputs)
    kind = pa.list_(pa.string())
    words = [["win", "money", "now"], ["home"]]
    batch_in = pa.RecordBatch.from_pydict(
        {
            "doc_id": ["0", "1"],
            "tokens": pa.array(words, kind),
            "tags": pa.array([["O", "B-X", "O"], ["O"]], kind),
        }
    )
    rows = rows_of(task.encode(batch_in, purpose="measure").samples)
    shape = (*task.collate(rows, None).inputs["input_ids"].shape, 3)
    teacher = Says(torch.randn(shape, generator=torch.Generator().manual_seed(1)).tolist())
    plain = task.collate(rows, None)
    said, counts = said_of(task, teacher.logits.detach(), plain)
    assert counts == [3, 1]
    first = plain.targets["words"][0]
    np.testing.assert_array_equal(said[:3].numpy(), teacher.logits.detach()[0][first >= 0].numpy())
    parts = np.split(said.numpy(), np.cumsum(counts)[:-1])
    wrapped, batch = taught(task, rows, [part.tolist() for part in parts], weight=1.0)
    assert value(wrapped.loss(teacher, batch)) == pytest.approx(0.0, abs=1e-5)
    with torch.no_grad():
        sums = wrapped.sums(teacher, batch).numpy()
    assert len(sums) == wrapped.n_sums
    assert sums[-1] == 4
    assert wrapped.values(sums)["from_teacher"] == pytest.approx(0.0, abs=1e-5)
    flat = Says(np.zeros(shape).tolist())
    assert value(wrapped.loss(flat, batch)) > 0.1


class _Sees(nn.Module):
    """Says the sum of what it is shown."""

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=pixel_values.flatten(1).sum(dim=1, keepdim=True).repeat(1, 2))


def test_what_the_teacher_has_seen_is_what_the_student_sees(tmp_path: Any) -> None:
    from tests.unit.tasks.test_media import images

    task = images(tmp_path, mixup=0.5, flip=True)
    size = task.inputs.height * task.inputs.width * task.inputs.channels
    pixels = np.random.default_rng(1).integers(0, 255, (2, size), np.uint8)
    rows = {
        "pixels": np.asarray([one.tobytes() for one in pixels], object),
        "target": np.asarray([np.asarray([k], "<i4").tobytes() for k in range(2)], object),
        "n_tokens": np.asarray([1, 1]),
        "taught": np.asarray([np.zeros(len(task.targets.labels), np.float32).tobytes()] * 2, object),
    }
    draws = draws_of(1, 0, np.arange(2))
    still, drawn = Taught(task).collate(rows, None), Taught(task).collate(rows, draws)
    assert torch.equal(_Sees()(**still.inputs).logits, _Sees()(**drawn.inputs).logits)
    moved = task.collate(rows, draws)
    assert not torch.equal(still.inputs["pixel_values"], moved.inputs["pixel_values"])
