"""Classify texts by one label or several (`a|b`): a linear layer on the encoder's pooled vector."""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws
from sparkml.tasks.label_counts import LabelOptions
from sparkml.tasks.labels import TARGET, Labels
from sparkml.tasks.task import Batch, Encoded, Purpose, Rows, Targets
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


class ClassifyOptions(LabelOptions, TextOptions):
    """Settings of `task:` where its name is `classify`."""

    pooling: Pooling = Field(
        "network", description="One vector of a text: as the network has it, or the mean over its tokens"
    )


class Classify(Labels[ClassifyOptions]):
    """One label a text, or several."""

    name = "classify"
    summary = "texts by label: one, or several written a|b"
    reads: ClassVar[tuple[str, ...]] = ("text", "label")
    columns = (IDS, TYPES, TARGET)
    Options = ClassifyOptions
    text_columns: tuple[str, ...] = ("text",)

    def __init__(self, options: ClassifyOptions, targets: Targets, inputs: Any) -> None:
        super().__init__(options, targets, inputs)
        self._texts = Texts(inputs, options)

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """One sample a window; examples without text, or without a label that is learnt, are left out."""
        texts = [examples.column(name).to_pylist() for name in self.text_columns]
        rejects = missing_texts(texts, self.text_columns)
        targets = self.targets_of(examples, rejects, purpose)
        used = [place for place in range(examples.num_rows) if place not in rejects]
        first, *rest = [[column[place] for place in used] for column in texts]
        windows = self._texts.windows(first, rest[0] if rest else None)
        samples = samples_of_windows(used, windows, self.columns, {"target": targets})
        return Encoded(samples, list(rejects.values()))

    def network(self) -> NetworkSpec:
        """transformers' sequence classifier, or the mean of the encoder's vectors with a layer of ours."""
        head = "AutoModel" if self.options.pooling == "mean" else "AutoModelForSequenceClassification"
        return self.classifier(head, self.options.pooling)

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """Padded ids, and the targets as `gold_of` has them."""
        tensors, tokens = self._texts.tensors(rows)
        return batch_of(tensors, self.gold_of(rows), len(rows["input_ids"]), tokens)

    def features(self, train: pa.Table, held_out: pa.Table) -> tuple[Any, Any]:
        """TF-IDF of words and pairs of words."""
        from sparkml.tasks.baselines import joined_texts, text_features

        return text_features(
            joined_texts(train, self.text_columns), joined_texts(held_out, self.text_columns)
        )


TASK = Classify
