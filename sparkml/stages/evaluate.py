"""Evaluate: a model on a labelled table, or on one of its splits -> `evaluations`, by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame import artifacts, storage
from sparkml.frame.effects import effect
from sparkml.frame.run import StageRun
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.stage import Reads, RunReport, Shares, Stage
from sparkml.hosting.asking import AskingConfig, asked_model
from sparkml.hosting.evaluations import write_evaluation
from sparkml.hosting.examples import Columns, affordable_answers, examples_of, judged_columns, split_as_given
from sparkml.hosting.samples import kept_on_disk
from sparkml.hosting.scoring import suitable_buckets
from sparkml.inference.batches import ModelSource, chunks, worker_scorer
from sparkml.log import get_logger
from sparkml.tasks.asked import asked_spec
from sparkml.tasks.task import make_task

_log = get_logger(__name__)
_CHUNK_ROWS = 256
_OUTPUT = [
    ("output", pa.binary()),
    ("dtype", pa.string()),
    ("drop_reason", pa.string()),
    ("value", pa.float64()),
    ("threshold", pa.float64()),
    ("detail", pa.string()),
]


class EvaluateConfig(AskingConfig):
    """What `conf/base/evaluate.yaml` holds."""

    source: Reads = Field("kept", description="Labelled table")
    duplicates: Reads | None = Field(
        None, description="Its duplicates, where splits follow from a hash of their clusters as in finetune"
    )
    rejects: Shares = Field("rejects", description="Rows that cannot be measured")
    target: Shares = Field("evaluations", description="Figures, one row per slice")
    split: Literal["train", "validation", "test", "all"] = Field("all", description="Rows that are measured")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="Part of the clusters that is held out, where the table names no split"
    )
    columns: Columns = Field(Columns(), description="Which columns of the table the model's task reads")
    max_rows: int = Field(1_000_000, ge=1, description="Rows that are measured at most, chosen by a hash")


def run(job: StageRun, config: EvaluateConfig) -> RunReport:
    """Answer every row of the split, compare with what the table says."""
    record, scorer = asked_model(job, config)
    if not scorer.task.has_figures:
        raise InputError(f"task {scorer.task.name} has no figures but its loss", where=record.name)
    spec = asked_spec(artifacts.localise(record.path, verify=False), config.task)
    task, kind = make_task(spec, scorer.source.inputs), scorer.task
    where = f"table `{config.source}`"
    examples = split_as_given(
        examples_of(job.read(config.source), kind, config.columns, where=where),
        job.read(config.duplicates) if config.duplicates else None,
        config.validation_fraction,
        job.seed,
    )
    chosen = examples if config.split == "all" else examples.where(F.col("split") == config.split)
    most = affordable_answers(len(task.targets.labels), config.max_rows)
    if job.input_rows(config.source) > most:
        chosen = chosen.orderBy(F.xxhash64("doc_id"), "doc_id").limit(most)
    n_buckets = suitable_buckets(job.input_bytes(config.source))
    answered = kept_on_disk(_answered(chosen, scorer.source, n_buckets))
    try:
        bad = F.col("drop_reason").isNotNull()
        reasons = job.write_rejects(answered.where(bad), config.rejects)
        good = answered.where(~bad).select(*judged_columns(answered, kind), "output", "dtype").toArrow()
    finally:
        answered.unpersist()
    if not good.num_rows:
        raise InputError(
            "there is nothing to measure",
            where=where,
            got=f"no usable row of split {config.split}; rejects by reason: {reasons}",
            next_action="name the columns: columns.text=COLUMN, columns.label=COLUMN, or another split",
        )
    good = good.sort_by("doc_id")
    outputs = [_array(row) for row in good.select(["output", "dtype"]).to_pylist()]
    evaluation = task.evaluate(good.drop_columns(["output", "dtype"]), outputs, job.seed)
    if evaluation is None:
        raise InputError(f"task {task.name} has no figures but its loss", where=record.name)
    location = artifacts.evaluation_location(job.artifacts, job.step, job.fingerprint)
    storage.write_bytes(location, evaluation.to_json().encode())
    effect(f"evaluation written: {location}")
    write_evaluation(
        job, config.target, evaluation, model=(record.model_id, record.version), source=config.source
    )
    return RunReport(
        bytes_in=job.input_bytes(config.source),
        metrics={
            **evaluation.metrics,
            "measured": float(evaluation.n),
            "rejected": float(sum(reasons.values())),
        },
    )


def _array(row: dict[str, Any]) -> Any:
    import numpy as np

    return np.frombuffer(row["output"], row["dtype"])


def _answered(examples: DataFrame, model: ModelSource, n_buckets: int) -> DataFrame:
    """The examples with what the network says of each, or why it cannot be measured."""
    schema = pa.schema([*_kept_fields(examples), *_OUTPUT])
    bucket = F.pmod(F.xxhash64("doc_id"), F.lit(n_buckets)).cast("int")
    grouped = examples.withColumn("_bucket", bucket).repartitionById(n_buckets, F.col("_bucket"))
    ordered = grouped.sortWithinPartitions("doc_id").drop("_bucket")
    return ordered.mapInArrow(_answering(model, schema), spark_schema(schema))


def _kept_fields(examples: DataFrame) -> list[tuple[str, pa.DataType]]:
    from pyspark.sql.pandas.types import to_arrow_schema

    return [(field.name, field.type) for field in to_arrow_schema(examples.schema)]


def _answering(
    model: ModelSource, schema: pa.Schema
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for chunk in chunks(batches, _CHUNK_ROWS):
            yield _compared(worker_scorer(model), chunk, schema)

    return answer


def _compared(scorer: Any, chunk: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The chunk with outputs; rows whose label the model does not know are rejects, as in training."""
    outputs, rejects, _ = scorer.outputs_of(chunk, purpose="measure")
    reasons = {reject.example: reject for reject in rejects}
    found: dict[str, list[Any]] = {name: [] for name, _ in _OUTPUT}
    for row, output in enumerate(outputs):
        reject = reasons.get(row)
        good = reject is None and output is not None
        found["output"].append(output.tobytes() if good else None)
        found["dtype"].append(output.dtype.str if good else None)
        found["drop_reason"].append(None if good else (reject.reason if reject else "no_answer"))
        found["value"].append(reject.value if reject else None)
        found["threshold"].append(reject.threshold if reject else None)
        found["detail"].append(reject.detail if reject else None)
    own = [chunk.column(name).cast(schema.field(name).type) for name in chunk.schema.names]
    arrays = [pa.array(found[name], kind) for name, kind in _OUTPUT]
    return pa.RecordBatch.from_arrays([*own, *arrays], schema=schema)


def sections() -> tuple[object, ...]:
    """What the report says of an evaluation."""
    from sparkml.report.evaluations import MEASURED

    return (MEASURED,)


STAGE = Stage(EvaluateConfig, run, "measure a model on a labelled table -> evaluations", sections=sections)
