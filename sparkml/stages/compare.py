"""Compare: what two model versions answered to the same documents -> `evaluations`, by slice and by kind of change."""

from __future__ import annotations

import itertools
from typing import Any

from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import EVALUATIONS
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Uses
from sparkml.measures.evaluation import ALL_ROWS
from sparkml.measures.intervals import wilson_interval
from sparkml.tasks.evaluating import SLICE_COLUMNS

# Upper ends of the slices by length, in characters.
_LENGTHS = (100, 300, 1_000, 3_000, 10_000)
_ANSWER = ("prediction", "score", "error")
CHANGE = "change="


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
    flipped = ~F.col("a.prediction").eqNullSafe(F.col("b.prediction"))
    rows = rows.withColumn("flipped", flipped)
    by_slice = rows.select(F.explode("slices").alias("slice"), "*").groupBy("slice").agg(*_figures())
    change = F.concat(F.lit(CHANGE), _said("a"), F.lit(" > "), _said("b")).alias("slice")
    by_change = rows.where("flipped").groupBy(change).agg(*_figures())
    most = by_change.orderBy(F.desc("n"), "slice").limit(config.max_changes)
    found = _most_frequent([row.asDict() for row in by_slice.collect()], config.max_values)
    if not found:
        raise InputError(
            "no document has answers of both models",
            where=f"table `{config.source}`",
            expected=f"rows of {first.name} and of {second.name}",
            next_action="score the same table with both",
        )
    found += [row.asDict() for row in most.collect()]
    job.put_rows(config.target, [_row(job, config, second, one) for one in found], "run_id", EVALUATIONS)
    return RunReport(metrics={**_metrics(found[0]), "documents": float(found[0]["n"])})


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


def _most_frequent(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """All rows first, then the most frequent values of every column."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda one: (-one["n"], one["slice"])):
        found.setdefault(row["slice"].partition("=")[0], []).append(row)
    first = found.pop(ALL_ROWS, [])
    return first + [row for column in sorted(found) for row in found[column][:most]]


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
