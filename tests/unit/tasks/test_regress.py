"""A number per text: standardised for the network, answered in its own unit."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from sparkml.errors import NotApplicableError
from sparkml.models.inputs import TextInputs
from sparkml.tasks.regress import Regress, RegressOptions, number_of
from sparkml.tasks.task import Targets
from tests.unit.tasks.examples import Says, examples_of, samples


@pytest.fixture
def task(inputs: TextInputs) -> Regress:
    return Regress(
        RegressOptions(), Targets(labels=("value",), numbers={"mean": 10.0, "deviation": 4.0}), inputs
    )


def test_numbers() -> None:
    found = [number_of(text) for text in ("3", " -1.5e2 ", "nan", "inf", "three", "", None)]
    assert found == [3.0, -150.0, None, None, None, None, None]


def test_mean_and_deviation_of_the_training_rows() -> None:
    options = RegressOptions()
    counts = Regress.count(options, examples_of(["x"] * 5, ["1", "3", "5", None, "many"]))
    assert counts == {"rows": 3, "sum": 9.0, "squares": 35.0}
    targets = Regress.fit(options, {"train": counts, "validation": {"rows": 9, "sum": 900, "squares": 1e6}})
    assert targets.numbers == {"mean": 3.0, "deviation": pytest.approx(math.sqrt(8 / 3))}
    equal = Regress.fit(options, {"train": {"rows": 2, "sum": 4.0, "squares": 8.0}})
    assert equal.numbers == {"mean": 2.0, "deviation": 1.0}
    with pytest.raises(NotApplicableError, match=r"no numbers[\s\S]*1 rows"):
        Regress.fit(options, {"train": {"rows": 1, "sum": 1, "squares": 1}})


def test_what_is_no_number_is_left_out_with_its_reason(task: Regress) -> None:
    labels = ["1.5", None, "many", "2"]
    encoded = task.encode(examples_of(["win", "win", "win", None], labels), purpose="train")
    reasons = {reject.example: (reject.reason, reject.detail) for reject in encoded.rejects}
    assert reasons == {1: ("label_missing", ""), 2: ("label_no_number", "many"), 3: ("text_missing", "null")}
    assert encoded.samples.column("target").to_pylist() == [1.5]
    answered = task.encode(examples_of(["win"] * 2, [None, "many"]), purpose="answer")
    assert (answered.samples.num_rows, list(answered.rejects)) == (2, [])


def test_the_loss_is_of_standardised_targets_and_figures_in_their_unit(task: Regress) -> None:
    batch = task.collate(samples(task, ["win", "lunch"], ["14", "8"]), None)
    assert batch.targets["target"].tolist() == [1.0, -0.5]
    said = Says([[0.5], [0.5]])
    loss = task.loss(said, batch)
    assert (float(loss.total.detach()), loss.units) == (pytest.approx(0.25 + 1.0), 2.0)
    found = task.values(task.sums(said, batch).detach().numpy())
    assert found == {
        "loss": pytest.approx(0.625),
        "rmse": pytest.approx(math.sqrt(0.625) * 4),
        "mae": pytest.approx(0.75 * 4),
    }


def test_answers_are_in_the_unit_of_the_targets(task: Regress) -> None:
    batch = task.collate(samples(task, ["win", "lunch"], ["14", "8"]), None)
    with torch.inference_mode():
        outputs = task.outputs(Says([[0.5], [-3.0]]), batch)
    assert [(one.prediction, one.score) for one in (task.answer({}, output) for output in outputs)] == [
        ("12", 12.0),
        ("-2", -2.0),
    ]
    windows = {"n_tokens": np.array([30, 10]), "window": np.array([0, 1])}
    assert task.combine(windows, outputs).tolist() == [pytest.approx((30 * 12.0 + 10 * -2.0) / 40)]
    assert task.answer({}, np.array([np.inf])).error == "the model's number is not finite"


def test_figures_and_the_simple_model(task: Regress) -> None:
    held_out = pa.Table.from_batches([examples_of(["cash", "home"], ["9", "1"])])
    found = task.evaluate(held_out, [np.array([9.0]), np.array([4.0])], 17)
    assert found is not None
    assert found.metrics["mae"] == pytest.approx(1.5)
    train = pa.Table.from_batches([examples_of(["win cash", "at home", "x"] * 20, ["9", "1", "many"] * 20)])
    simple = task.baseline(train, held_out, 17)
    assert simple is not None
    assert simple.metrics["mae"] < 2.5  # the mean for both would be wrong by 4
