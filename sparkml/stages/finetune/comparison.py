"""The same network trained from pretrained and from random weights, measured on held-out documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.progress import Progress, ProgressTask
from sparkml.frame.splits import TRAIN
from sparkml.models.bert import BertClassifier
from sparkml.models.classifier import fill_encoder, new_classifier
from sparkml.models.evaluation import HeldOut, classification_report
from sparkml.stages.finetune.training import Budget, CurvePoint, LabelledTokens, predict, train_classifier

# Held-out documents that are scored along the way, for the curve.
_PROBE_DOCUMENTS = 256
PRETRAINED, RANDOM = "pretrained", "random"


@dataclass(frozen=True)
class TrainingPlan:
    """What both trainings share."""

    encoder_folder: str
    labels: tuple[str, ...]
    pooling: str
    dropout: float
    budget: Budget
    with_random: bool
    threads: int


@dataclass(frozen=True)
class Comparison:
    """The trained classifier, and both trainings' reports and curves."""

    model: BertClassifier
    budget: Budget
    reports: dict[str, dict[str, Any]]
    curves: dict[str, list[CurvePoint]]
    train_documents: int
    held_out: HeldOut

    @property
    def documents(self) -> int:
        """Documents that were used: trained on or held out."""
        return self.train_documents + len(self.held_out.labels)

    def metrics(self) -> dict[str, float]:
        """Accuracy and macro F1; with prefix `random_` those of the network from random weights."""
        prefixes = {PRETRAINED: "", RANDOM: "random_"}
        return {
            f"{prefixes[name]}{metric}": float(report[metric])
            for name, report in self.reports.items()
            for metric in ("accuracy", "macro_f1")
        }

    def curve_rows(self) -> Iterator[dict[str, Any]]:
        """The lines of curve.jsonl: every step of both trainings."""
        for name, points in self.curves.items():
            for point in points:
                yield {"weights": name, **asdict(point)}


def read_tokens(folder: str) -> tuple[LabelledTokens, HeldOut]:
    """Training and held-out documents from the Parquet files that Spark wrote, in the order of `doc_id`."""
    filesystem, path = storage.filesystem_of(folder)
    table = pq.read_table(path, filesystem=filesystem).sort_by("doc_id")
    in_training = np.array([split == TRAIN for split in table["split"].to_pylist()], dtype=bool)
    labels = np.asarray(table["label_id"].to_pylist(), dtype=np.int64)
    input_ids, doc_ids = table["input_ids"].to_pylist(), table["doc_id"].to_pylist()
    train, held_out = np.flatnonzero(in_training), np.flatnonzero(~in_training)
    return (
        LabelledTokens([input_ids[index] for index in train], labels[train]),
        HeldOut(
            [doc_ids[index] for index in held_out], [input_ids[index] for index in held_out], labels[held_out]
        ),
    )


def compare(plan: TrainingPlan, train: LabelledTokens, held_out: HeldOut, progress: Progress) -> Comparison:
    """Train and measure; both networks have the same head, order of documents, steps and learning rates."""
    _check(train, held_out)
    torch.set_num_threads(plan.threads)
    names = [PRETRAINED, RANDOM] if plan.with_random else [PRETRAINED]
    models: dict[str, BertClassifier] = {}
    curves: dict[str, list[CurvePoint]] = {}
    reports: dict[str, dict[str, Any]] = {}
    probe = _probe(held_out, plan.budget.seed)
    steps = plan.budget.steps(len(train.labels))
    for name in names:
        model = new_classifier(
            plan.encoder_folder, len(plan.labels), plan.pooling, plan.budget.seed, plan.dropout
        )
        if name == PRETRAINED:
            fill_encoder(model, plan.encoder_folder)
        with progress.task(f"finetune from {name} weights", total=steps, unit="steps") as task:
            curves[name] = train_classifier(model, train, probe, plan.budget, _shown_on(task))
        reports[name] = classification_report(
            held_out.labels, predict(model, held_out.input_ids), plan.labels
        )
        models[name] = model
    return Comparison(models[PRETRAINED], plan.budget, reports, curves, len(train.labels), held_out)


def _check(train: LabelledTokens, held_out: HeldOut) -> None:
    if len(held_out.labels) == 0 or len(np.unique(train.labels)) < 2:
        raise InputError(
            "too few documents to train a classifier and to measure it",
            got=f"{len(train.labels)} training and {len(held_out.labels)} held-out documents",
            expected="training documents of two labels and at least one held-out document",
            next_action="give more documents, or raise finetune.validation_fraction",
        )


def _probe(held_out: HeldOut, seed: int) -> LabelledTokens:
    """A few held-out documents to follow the training with."""
    some = np.random.default_rng(seed).permutation(len(held_out.labels))[:_PROBE_DOCUMENTS]
    return LabelledTokens([held_out.input_ids[index] for index in some], held_out.labels[some])


def _shown_on(task: ProgressTask) -> Callable[[CurvePoint], None]:
    def show(point: CurvePoint) -> None:
        task.update(point.step, note=f"loss {point.loss:.3f}")

    return show
