"""Predict a number from a text: squared error on the standardised target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from sparkml.errors import NotApplicableError
from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws
from sparkml.tasks.task import Answer, Batch, Encoded, Loss, Purpose, Reject, Rows, Targets, Task
from sparkml.tasks.texts import (
    IDS,
    TYPES,
    Pooling,
    TextOptions,
    Texts,
    batch_of,
    missing_texts,
    samples_of_windows,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparkml.measures.evaluation import Evaluation
    from sparkml.measures.judged import Judged

_VALUE = "value"


class RegressOptions(TextOptions):
    """Settings of `task:` where its name is `regress`."""

    pooling: Pooling = Field(
        "network", description="One vector of a text: as the network has it, or the mean over its tokens"
    )


class Regress(Task[RegressOptions]):
    """One number per text."""

    name = "regress"
    summary = "a number per text"
    reads = ("text", "label")
    target_columns = ("label",)
    sample_targets = ("target",)
    columns = (IDS, TYPES, ("target", pa.float64()))
    Options = RegressOptions

    def __init__(self, options: RegressOptions, targets: Targets, inputs: Any) -> None:
        super().__init__(options, targets, inputs)
        self._texts = Texts(inputs, options)
        self._mean = targets.numbers.get("mean", 0.0)
        self._deviation = targets.numbers.get("deviation", 1.0)

    @classmethod
    def count(cls, options: RegressOptions, examples: pa.RecordBatch) -> Mapping[str, float]:
        """Rows with a number, their sum and the sum of their squares."""
        values = [
            value for value in map(number_of, examples.column("label").to_pylist()) if value is not None
        ]
        return {"rows": len(values), "sum": math.fsum(values), "squares": math.fsum(v * v for v in values)}

    @classmethod
    def fit(cls, options: RegressOptions, counts: Mapping[str, Mapping[str, float]]) -> Targets:
        """Mean and standard deviation of the training rows."""
        train = counts.get("train", {})
        rows = train.get("rows", 0)
        if rows < 2:
            raise NotApplicableError(
                "there are no numbers to learn",
                where="column `label` of the training rows",
                got=f"{rows:.0f} rows with a number",
                expected="at least two",
                next_action="name the number's field: columns.label=COLUMN",
            )
        mean = train["sum"] / rows
        variance = max(train["squares"] / rows - mean * mean, 0.0)
        return Targets(labels=(_VALUE,), numbers={"mean": mean, "deviation": math.sqrt(variance) or 1.0})

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """One sample a window; examples without text, or without a finite number, are left out."""
        texts = examples.column("text").to_pylist()
        rejects = missing_texts([texts], ["text"])
        values: list[float | None] = [None] * examples.num_rows
        if purpose != "answer":
            for place, label in enumerate(examples.column("label").to_pylist()):
                values[place] = number_of(label)
                if values[place] is None and place not in rejects:
                    reason = "label_missing" if label is None else "label_no_number"
                    rejects[place] = Reject(place, reason, str(label or "")[:100])
        used = [place for place in range(examples.num_rows) if place not in rejects]
        windows = self._texts.windows([texts[place] for place in used])
        samples = samples_of_windows(used, windows, self.columns, {"target": values})
        return Encoded(samples, list(rejects.values()))

    def network(self) -> NetworkSpec:
        """transformers' sequence classifier with one output, or the mean of the encoder's vectors."""
        head = "AutoModel" if self.options.pooling == "mean" else "AutoModelForSequenceClassification"
        return NetworkSpec(head, (_VALUE,), {"problem_type": "regression"}, self.options.pooling)

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """Padded ids, and the targets as `gold_of` has them."""
        tensors, tokens = self._texts.tensors(rows)
        return batch_of(tensors, self.gold_of(rows), len(rows["input_ids"]), tokens)

    def gold_of(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """`target` float32 [rows], standardised; nothing of rows to be answered."""
        if "target" not in rows:
            return {}
        values = (np.asarray(rows["target"], np.float64) - self._mean) / self._deviation
        return {"target": values.astype(np.float32)}

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """Squared error, summed over rows."""
        predicted = network(**batch.inputs).logits.float().squeeze(1)
        return Loss((predicted - batch.targets["target"]).square().sum(), float(batch.rows))

    def distance(self, logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """Squared differences of standardised numbers, summed; there is nothing to soften."""
        return (logits - taught).square().sum()

    @property
    def n_sums(self) -> int:
        """Squared error, absolute error, rows."""
        return 3

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """Squared and absolute errors of standardised targets, and rows."""
        import torch

        error = network(**batch.inputs).logits.float().squeeze(1) - batch.targets["target"]
        return torch.stack([error.square().sum(), error.abs().sum(), error.new_tensor(batch.rows)]).double()

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """Loss (mean squared error of standardised targets), and errors in the target's unit."""
        squared, absolute, _ = sums / max(sums[2], 1.0)
        return {
            "loss": float(squared),
            "rmse": float(math.sqrt(squared)) * self._deviation,
            "mae": float(absolute) * self._deviation,
        }

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """The number, float64 [1] a sample, in the target's unit."""
        found = network(**batch.inputs).logits.double().cpu().numpy() * self._deviation + self._mean
        return list(found)

    def combine(self, windows: Rows, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The mean over the windows, weighted by their tokens."""
        return np.asarray(np.average(np.stack(outputs), axis=0, weights=windows["n_tokens"]))

    def answer(self, example: Mapping[str, Any], output: npt.NDArray[Any]) -> Answer:
        """The number as `score` and, written out, as `prediction`."""
        value = float(output[0])
        if not math.isfinite(value):
            return Answer(error="the model's number is not finite")
        return Answer(prediction=f"{value:.6g}", score=value)

    def judged(self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]]) -> Judged:
        """R2."""
        from sparkml.measures.judged import explained_variance

        return explained_variance(*_both(examples, outputs))

    def evaluate(
        self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]], seed: int
    ) -> Evaluation | None:
        """RMSE, MAE, R2, correlations, with intervals and slices."""
        from sparkml.measures.number_evaluation import evaluate_numbers
        from sparkml.tasks.evaluating import settings_of, slices_of

        gold, predicted = _both(examples, outputs)
        ids = examples.column("doc_id").to_pylist()
        return evaluate_numbers(gold, predicted, ids, slices=slices_of(examples), settings=settings_of(seed))

    def baseline(self, train: pa.Table, held_out: pa.Table, seed: int) -> Evaluation | None:
        """TF-IDF of words and pairs of words with ridge regression."""
        from sparkml.tasks.baselines import joined_texts, linear_numbers, text_features

        numbers = [number_of(label) for label in train.column("label").to_pylist()]
        train = train.filter(pa.array([number is not None for number in numbers]))
        gold = np.array([number for number in numbers if number is not None], np.float64)
        train_x, held_x = text_features(joined_texts(train, ("text",)), joined_texts(held_out, ("text",)))
        found = linear_numbers(train_x, gold, held_x)
        return self.evaluate(held_out, list(found[:, None]), seed)


def _both(
    examples: pa.Table, outputs: Sequence[npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gold and predicted numbers."""
    gold = np.array([number_of(label) for label in examples.column("label").to_pylist()], np.float64)
    return gold, np.array([float(output[0]) for output in outputs])


def number_of(label: str | None) -> float | None:
    """The finite number that a label is, or None."""
    try:
        value = float(label) if label is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


TASK = Regress
