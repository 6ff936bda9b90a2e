"""The stage `finetune`: documents with labels and a pretrained encoder -> model `classifier`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sparkml.errors import NotApplicableError
from sparkml.frame import artifacts, storage
from sparkml.frame.registry import TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Makes, Reads, RunReport, Shares, Stage, StageConfig, Uses
from sparkml.log import get_logger
from sparkml.models.encoder import check_bert_folder, encoder_shape
from sparkml.models.folder import TOKENIZER_FILE, write_json
from sparkml.stages.finetune.documents import (
    LabelCounts,
    Selection,
    count_labels,
    rejected,
    tokens,
    with_reason,
)

if TYPE_CHECKING:
    from sparkml.stages.finetune.comparison import Comparison

_log = get_logger(__name__)


class FinetuneConfig(StageConfig):
    """Fields of `conf/base/finetune.yaml`."""

    source: Reads = "kept"
    duplicates: Reads = "duplicates"
    rejects: Shares = "rejects"
    model: Uses = Field("encoder", description="The pretrained model to start from")
    model_id: Makes = Field("", description="The model to make; empty: the step's name")
    n_labels: int = Field(10, ge=2, description="The most frequent labels are learnt")
    min_documents_per_label: int = Field(10, ge=2, description="A label with fewer documents is left out")
    max_documents_per_label: int = Field(900, ge=1, description="Documents of a label in training at most")
    max_held_out_per_label: int = Field(200, ge=1, description="Held-out documents of a label at most")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="Part of the clusters that is held out")
    max_length: int = Field(512, ge=8, description="Tokens of a document that are read")
    pooling: Literal["mean", "cls"] = Field("mean", description="How token vectors become one vector")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of activations dropped in training")
    max_steps: int = Field(300, ge=1, description="Optimiser steps of each training")
    max_epochs: int = Field(10, ge=1, description="Passes over the training documents at most")
    batch_size: int = Field(32, ge=1, description="Documents a step")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="Part of the steps that warm up")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW")
    compare_with_random: bool = Field(True, description="Train the same network from random weights too")
    threads: int = Field(0, ge=0, description="Threads; 0: all cores", json_schema_extra={"semantic": False})


def run(job: StageRun, config: FinetuneConfig) -> RunReport:
    """Choose and tokenise on Spark, train twice on the driver, write the better-founded one as a model."""
    documents = job.read(config.source)
    counts = count_labels(documents)
    labels = learnable_labels(counts, config)
    encoder = job.model(config.model)
    encoder_folder = check_bert_folder(artifacts.localise(encoder.path))
    _remove_what_dead_runs_left(job)
    selection = Selection(
        tuple(labels),
        config.validation_fraction,
        job.seed,
        config.max_documents_per_label,
        config.max_held_out_per_label,
    )
    chosen = with_reason(documents, job.read(config.duplicates), selection)
    reasons = job.write_rejects(rejected(chosen), config.rejects)
    folder = _token_files(job, job.run_id)
    content = (encoder_folder / TOKENIZER_FILE).read_text(encoding="utf-8")
    max_length = config.max_length
    if config.pooling == "cls":  # a vector of the first window knows nothing of the others
        max_length = min(max_length, encoder_shape(encoder_folder).max_length)
    tokens(chosen, labels, content, max_length).write.mode("overwrite").parquet(storage.spark_uri(folder))
    try:
        comparison = _train(job, config, encoder_folder, labels, folder)
    finally:
        storage.remove(folder)
    metrics = comparison.metrics()
    with job.new_model(config.model_id) as staging:
        _write(staging, encoder_folder, encoder.name, config, labels, max_length, comparison)
    trained_on = TrainedOn(table=config.source, version=job.input_version(config.source))
    made = job.register(
        config.model_id,
        kind="finetuned",
        parent=encoder.name,
        trained_on=trained_on,
        metrics=metrics,
    )
    _log.info("%s: %s", made.name, _shown(metrics))
    return RunReport(
        rows_in=job.input_rows(config.source),
        rows_kept=comparison.documents,
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        bytes_in=counts.text_bytes,
        metrics=metrics,
    )


def _token_files(job: StageRun, run_id: str) -> str:
    """Where the token files of a run lie while it trains."""
    return storage.join(job.artifacts, "finetune", run_id)


def _remove_what_dead_runs_left(job: StageRun) -> None:
    dead = job.ledger.unfinished() - {job.run_id}
    for run_id in dead & set(storage.names(storage.join(job.artifacts, "finetune"))):
        storage.remove(_token_files(job, run_id))


def learnable_labels(counts: LabelCounts, config: FinetuneConfig) -> list[str]:
    """The labels to learn; `NotApplicableError` when there are not two of them."""
    labels = counts.most_frequent(config.n_labels, config.min_documents_per_label)
    if len(labels) >= 2:
        return labels
    found = ", ".join(f"{label!r} ({number})" for label, number in sorted(counts.by_label.items())[:5])
    raise NotApplicableError(
        "there are no labels to learn" if not counts.by_label else "there are too few labels to learn",
        where=f"column `label` of table `{config.source}`",
        got=found or f"{counts.documents} documents, none with a label",
        expected=f"two labels with {config.min_documents_per_label} documents each",
        next_action="set ingest.source.label_field=FIELD",
    )


def _train(
    job: StageRun, config: FinetuneConfig, encoder_folder: Path, labels: list[str], folder: str
) -> Comparison:
    # torch takes seconds to import: `sparkml plan` reads this module for its configuration only.
    from sparkml.stages.finetune.comparison import TrainingPlan, compare, read_tokens
    from sparkml.stages.finetune.training import Budget

    plan = TrainingPlan(
        encoder_folder=str(encoder_folder),
        labels=tuple(labels),
        pooling=config.pooling,
        dropout=config.dropout,
        budget=Budget(
            max_steps=config.max_steps,
            max_epochs=config.max_epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            warmup_fraction=config.warmup_fraction,
            weight_decay=config.weight_decay,
            seed=job.seed,
        ),
        with_random=config.compare_with_random,
        threads=config.threads or os.cpu_count() or 1,
    )
    return compare(plan, *read_tokens(folder), job.progress)


def _write(
    staging: Path,
    encoder_folder: Path,
    parent: str,
    config: FinetuneConfig,
    labels: list[str],
    max_length: int,
    comparison: Comparison,
) -> None:
    from sparkml.models.classifier import FLOAT32, write_classifier
    from sparkml.models.evaluation import write_held_out
    from sparkml.models.folder import CONFIG_FILE, read_json

    described = {
        **read_json(encoder_folder / CONFIG_FILE),
        "pooling": config.pooling,
        "precision": FLOAT32,
        "max_length": max_length,
    }
    write_classifier(staging, comparison.model, labels, described, encoder_folder / TOKENIZER_FILE)
    write_held_out(staging, comparison.held_out)
    report: dict[str, Any] = {
        "labels": labels,
        "parent": parent,
        "budget": asdict(comparison.budget),
        "train_documents": comparison.train_documents,
        "held_out_documents": len(comparison.held_out.labels),
        **comparison.reports,
    }
    write_json(staging / "report.json", report)
    lines = [json.dumps(line, sort_keys=True) for line in comparison.curve_rows()]
    (staging / "curve.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def sections() -> tuple[object, ...]:
    """What the report says of a fine-tuning."""
    from sparkml.report.finetuning import FINETUNING

    return (FINETUNING,)


STAGE = Stage(
    FinetuneConfig, run, "classify documents by label, from an encoder -> a model", sections=sections
)
