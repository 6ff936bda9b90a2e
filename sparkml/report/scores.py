"""Scores: what a model predicts, how sure it is, what it could not score, where it is least sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.frame import storage
from sparkml.report import formats
from sparkml.report.charts import Chart, Histogram
from sparkml.report.config import ReportConfig
from sparkml.report.formats import excerpt
from sparkml.report.lake import Excerpt, Model
from sparkml.report.section import KeyFigure, Section
from sparkml.report.view import StepView

_BINS = 25
_SHOWN = 20
_ERRORS_SHOWN = 10
_RUNNERS_UP = 3


@dataclass(frozen=True)
class ModelScores:
    """What one model version has scored."""

    model_id: str
    model_version: int
    input_table: str
    input_version: int | None
    documents: int
    errors: int
    mean_score: float | None

    @property
    def name(self) -> str:
        """`model_id/vN`, as the registry names it."""
        return storage.redacted(f"{self.model_id}/v{self.model_version}")

    @property
    def source(self) -> str:
        """The table and the version that were scored last."""
        version = "" if self.input_version is None else f"@{self.input_version}"
        return storage.redacted(f"{self.input_table}{version}")


@dataclass(frozen=True)
class Prediction:
    """Documents that were given one label."""

    label: str
    documents: int
    share: float
    bar: float
    mean_score: float | None


@dataclass(frozen=True)
class Unsure:
    """A prediction with a low score, with the labels that came next."""

    doc_id: str
    name: str
    label: str | None
    prediction: str
    score: float
    runners_up: tuple[tuple[str, float], ...]
    text: str


@dataclass(frozen=True)
class Scores:
    """The scores by the model version that the run applied, and a line for each that the step applied before."""

    applied: ModelScores
    others: tuple[ModelScores, ...]
    predictions: tuple[Prediction, ...]
    other_documents: int
    other_labels: int
    edges: tuple[float, ...]
    histogram: tuple[int, ...]
    errors: tuple[tuple[str, int], ...]
    unsure: tuple[Unsure, ...]


def gather(view: StepView) -> Scores | None:
    """The scores of one step; None where it has left none."""
    mine, model = view.table("target"), view.model("model")
    if mine is None or model is None:
        return None
    applied, others = _models(mine, view, model)
    is_applied = (F.col("model_id") == applied.model_id) & (F.col("model_version") == applied.model_version)
    scored = mine.where(is_applied)
    good = scored.where(F.col("error").isNull())
    predictions, histogram = _predictions(good)
    return Scores(
        applied,
        others,
        tuple(predictions[:_SHOWN]),
        sum(one.documents for one in predictions[_SHOWN:]),
        len(predictions[_SHOWN:]),
        tuple(at / _BINS for at in range(_BINS + 1)),
        histogram,
        _errors(scored) if applied.errors else (),
        _unsure(view, good),
    )


def _models(scores: DataFrame, view: StepView, model: Model) -> tuple[ModelScores, tuple[ModelScores, ...]]:
    """What the run's model has scored, and what the step's earlier ones had, those of the newest inputs first."""
    rows = (
        scores.groupBy("model_id", "model_version")
        .agg(
            F.max_by("input_table", "input_version").alias("input_table"),
            F.max("input_version").alias("input_version"),
            F.count(F.lit(1)).alias("documents"),
            F.count_if(F.col("error").isNotNull()).alias("errors"),
            F.avg("score").alias("mean_score"),
        )
        .collect()
    )
    found = [ModelScores(**row.asDict()) for row in rows]
    found.sort(key=lambda one: (one.input_version or 0, one.model_version, one.model_id), reverse=True)
    key = (model.record.model_id, model.record.version)
    source = view.place("source")
    nothing = ModelScores(*key, source.ref if source else "", source.version if source else None, 0, 0, None)
    applied = next((one for one in found if (one.model_id, one.model_version) == key), nothing)
    return applied, tuple(one for one in found if one is not applied)


def _predictions(good: DataFrame) -> tuple[list[Prediction], tuple[int, ...]]:
    """All labels, the most frequent first, and the histogram of the scores: one pass, labels x bins rows."""
    place = F.greatest(F.lit(0), F.least(F.lit(_BINS - 1), F.floor(F.col("score") * _BINS))).cast("int")
    rows = (
        good.groupBy("prediction", place.alias("bin"))
        .agg(F.count(F.lit(1)).alias("documents"), F.sum("score").alias("score"))
        .collect()
    )
    histogram = [0] * _BINS
    labels: dict[str, tuple[int, float]] = {}
    for row in rows:
        histogram[row["bin"] or 0] += row["documents"]
        if row["prediction"] is None:  # a text that was written is no label
            continue
        documents, score = labels.get(row["prediction"], (0, 0.0))
        labels[row["prediction"]] = documents + row["documents"], score + (row["score"] or 0.0)
    total = sum(histogram)
    most = max((documents for documents, _ in labels.values()), default=1)
    found = [
        Prediction(label, documents, documents / total, documents / most, score / documents)
        for label, (documents, score) in labels.items()
    ]
    return sorted(found, key=lambda one: (-one.documents, one.label)), tuple(histogram)


def _errors(mine: DataFrame) -> tuple[tuple[str, int], ...]:
    failed = mine.where(F.col("error").isNotNull())
    grouped = failed.groupBy(F.substring("error", 1, 160).alias("error")).count()
    rows = grouped.orderBy(F.desc("count"), "error").limit(_ERRORS_SHOWN).collect()
    return tuple((storage.redacted(row["error"]), row["count"]) for row in rows)


def _unsure(view: StepView, good: DataFrame) -> tuple[Unsure, ...]:
    limits = view.limits
    said = F.coalesce("prediction", F.substring("output", 1, limits.excerpt_characters)).alias("prediction")
    columns = good.select("doc_id", said, "score", "scores").where(F.col("score").isNotNull())
    rows = [row.asDict() for row in columns.orderBy("score", "doc_id").limit(limits.score_examples).collect()]
    wanted = [row["doc_id"] for row in rows]
    texts = view.documents("source", wanted, 3 * limits.excerpt_characters)
    return tuple(_example(row, texts.get(row["doc_id"]), limits) for row in rows)


def _example(row: Mapping[str, Any], document: Excerpt | None, limits: ReportConfig) -> Unsure:
    others: Mapping[str, float] = row["scores"] or {}
    ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    following = tuple(item for item in ranked if item[0] != row["prediction"])[:_RUNNERS_UP]
    return Unsure(
        row["doc_id"],
        document.name if document else row["doc_id"],
        document.label if document else None,
        row["prediction"] or "(none)",
        row["score"],
        following,
        excerpt(document.text, limits.excerpt_characters) if document else "",
    )


def charts(found: Scores) -> dict[str, Chart]:
    """How sure the model is."""
    if not any(found.histogram):
        return {}
    return {
        "confidence": Histogram(
            found.edges,
            found.histogram,
            x_label="score of the answer",
            y_label="documents",
            description=f"Histogram of the scores of {sum(found.histogram):,} predictions.",
        )
    }


def figures(found: Scores) -> list[KeyFigure]:
    """Documents that have a prediction."""
    scored = found.applied.documents - found.applied.errors
    note = f"{formats.count(found.applied.errors)} errors, by {found.applied.name}"
    return [KeyFigure("Documents scored", formats.compact(scored), note)]


SCORES = Section("Scores", gather, template="scores", charts=charts, figures=figures)
