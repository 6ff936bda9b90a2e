"""Compare: what two model versions answered to the same documents -> `evaluations`, by slice and by kind of change."""

from __future__ import annotations

import itertools
from typing import Any

from pydantic import Field
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import EVALUATIONS
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Uses
from sparkml.measures.evaluation import ALL_ROWS, CHANGE
from sparkml.measures.intervals import wilson_interval
from sparkml.tasks.evaluating import SLICE_COLUMNS

# Upper ends of the slices by length, in characters.
_LENGTHS = (100, 300, 1_000, 3_000, 10_000)
_ANSWER = ("prediction", "score", "error")


class CompareConfig(StageConfig):
    """What `conf/base/compare.yaml` holds."""

    source: Reads = Field("scores", description="Scores of both models")
    documents: Reads = Field(
        "kept", description="The documents: their slices, and their labels where they have some"
    )
    target: Shares = Field("evaluations", description="Figures, one row per slice and kind of change")
    first: Uses = Field("classifier", description="The model to compare with: `name/v1`")
    second: Uses = Field("classifier-compact", description="The model that is compared: `name/v2`")
    max_values: int = Field(
        20, ge=1, description="Values of a column that are slices, the most frequent ones"
    )
    max_changes: int = Field(50, ge=1, description="Kinds of change that are told, the most frequent ones")


def transform(scores: DataFrame, documents: DataFrame, first: ModelRecord, second: ModelRecord) -> DataFrame:
    """One row a document that both models have a row of: both answers, its label (or null) and its `slices`."""
    both = _answers(scores, first, "a").join(_answers(scores, second, "b"), "doc_id")
    label = F.col("label") if "label" in documents.columns else F.lit(None).cast("string")
    sliced = documents.select(
        "doc_id", label.alias("label"), F.filter(_slices(documents), F.isnotnull).alias("slices")
    )
    return both.join(sliced, "doc_id")


def _answers(scores: DataFrame, model: ModelRecord, name: str) -> DataFrame:
    """The answers of one model; of several steps that asked it the one of the first name."""
    own = scores.where((F.col("model_id") == model.model_id) & (F.col("model_version") == model.version))
    chosen = own.groupBy("doc_id").agg(F.min_by(F.struct(*_ANSWER), "step").alias(name))
    return chosen.select("doc_id", name)


def _slices(documents: DataFrame) -> Column:
    """`column=value` of every column that makes slices; null where a document has no value."""
    named = [
        F.concat(F.lit(f"{name}="), F.col(name))
        for name in (*SLICE_COLUMNS, "label")
        if name in documents.columns
    ]
    length = F.length("text")
    bucket = F.lit(f"characters={_LENGTHS[-1]} and more")
    for lower, upper in reversed([*itertools.pairwise((0, *_LENGTHS))]):
        bucket = F.when(length < upper, F.lit(f"characters={lower} to {upper}")).otherwise(bucket)
    return F.array(F.lit(ALL_ROWS), *named, *([bucket] if "text" in documents.columns else []))


def run(job: StageRun, config: CompareConfig) -> RunReport:
    """Compare, and write what was found of this pair of models."""
    first, second = job.model(config.first), job.model(config.second)
    rows = transform(job.read(config.source), job.read(config.documents), first, second)
    found = [row.asDict() for row in _by_slice(rows, config).collect()]  # so many a column at most
    if not found:
        raise InputError(
            "no document has answers of both models",
            where=f"table `{config.source}`",
            expected=f"rows of {first.name} and of {second.name}",
            next_action="score the same table with both",
        )
    job.put_rows(config.target, [_row(job, config, second, one) for one in found], "run_id", EVALUATIONS)
    return RunReport(metrics={**_metrics(found[0]), "documents": float(found[0]["n"])})


def _by_slice(rows: DataFrame, config: CompareConfig) -> DataFrame:
    """Figures of all rows, which come first, of the most frequent values of every column and kinds of change."""
    flipped = ~F.col("a.prediction").eqNullSafe(F.col("b.prediction"))
    change = F.when(F.col("flipped"), F.array(F.concat(F.lit(CHANGE), _said("a"), F.lit(" > "), _said("b"))))
    every = F.concat("slices", F.coalesce(change, F.array().cast("array<string>")))
    sliced = rows.withColumn("flipped", flipped).select(F.explode(every).alias("slice"), "*")
    column = F.substring_index("slice", "=", 1)
    place = F.row_number().over(Window.partitionBy(column).orderBy(F.desc("n"), "slice"))
    most = F.when(F.startswith("slice", F.lit(CHANGE)), config.max_changes).otherwise(config.max_values)
    ranked = (
        sliced.groupBy("slice").agg(*_figures()).withColumn("_place", place).where(F.col("_place") <= most)
    )
    return ranked.orderBy(F.col("slice") != ALL_ROWS, column, "_place").drop("_place")


def _said(which: str) -> Column:
    return F.coalesce(F.col(f"{which}.prediction"), F.lit("(error)"))


def _figures() -> list[Column]:
    labelled = F.col("label").isNotNull()

    def right(which: str) -> Column:
        return F.avg(F.when(labelled, F.col(f"{which}.prediction").eqNullSafe(F.col("label")).cast("double")))

    return [
        F.count(F.lit(1)).alias("n"),
        F.count_if("flipped").alias("flipped"),
        F.avg(F.abs(F.col("b.score") - F.col("a.score"))).alias("score_change"),
        F.count("a.error").alias("first_errors"),
        F.count("b.error").alias("second_errors"),
        right("a").alias("first_accuracy"),
        right("b").alias("second_accuracy"),
    ]


def _metrics(found: dict[str, Any]) -> dict[str, float]:
    interval = wilson_interval(found["flipped"], found["n"])
    known = {name: value for name, value in found.items() if name not in ("slice", "n") and value is not None}
    known |= {
        "flips": found["flipped"] / found["n"],
        "flips_low": interval.low,
        "flips_high": interval.high,
    }
    return {name: float(value) for name, value in known.items()}


def _row(
    job: StageRun, config: CompareConfig, model: ModelRecord, found: dict[str, Any]
) -> dict[str, object]:
    return {
        "run_id": job.run_id,
        "model_id": model.model_id,
        "model_version": model.version,
        "step": job.step,
        "input_table": config.source,
        "input_version": job.input_version(config.source),
        "slice": found["slice"],
        "metrics": sorted(_metrics(found).items()),
        "n": found["n"],
    }


def sections() -> tuple[object, ...]:
    """What the report says of a comparison."""
    from sparkml.report.comparison import COMPARISON

    return (COMPARISON,)


STAGE = Stage(
    CompareConfig, run, "two model versions on the same documents -> evaluations", sections=sections
)
