"""Scores: what the classifier predicts, how sure it is, what it could not score, where it is least sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.report.config import ReportConfig
from sparkml.report.formats import excerpt
from sparkml.report.lake import Excerpt, Lake

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
        return f"{self.model_id}/v{self.model_version}"


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
    """The scores of the newest model version, and a line for each older one."""

    newest: ModelScores
    older: tuple[ModelScores, ...]
    predictions: tuple[Prediction, ...]
    other_documents: int
    other_labels: int
    edges: tuple[float, ...]
    histogram: tuple[int, ...]
    errors: tuple[tuple[str, int], ...]
    unsure: tuple[Unsure, ...]


def gather(lake: Lake, config: ReportConfig) -> Scores | None:
    """None where nothing was scored yet."""
    scores = lake.table(config.scores)
    models = _models(scores, lake.scored_model()) if scores is not None else []
    if scores is None or not models:
        return None
    newest = models[0]
    mine = scores.where(
        (F.col("model_id") == newest.model_id) & (F.col("model_version") == newest.model_version)
    )
    good = mine.where(F.col("error").isNull())
    predictions, histogram = _predictions(good)
    return Scores(
        newest,
        tuple(models[1:]),
        tuple(predictions[:_SHOWN]),
        sum(one.documents for one in predictions[_SHOWN:]),
        len(predictions[_SHOWN:]),
        tuple(at / _BINS for at in range(_BINS + 1)),
        histogram,
        _errors(mine) if newest.errors else (),
        _unsure(lake, good, config),
    )


def _models(scores: DataFrame, applied: tuple[str, int] | None) -> list[ModelScores]:
    """Model versions: the one that was applied last, then those of the newest inputs."""
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
    rows.sort(key=lambda row: row["model_id"])
    rows.sort(key=lambda row: (row["input_version"] or 0, row["model_version"]), reverse=True)
    rows.sort(key=lambda row: (row["model_id"], row["model_version"]) != applied)
    return [ModelScores(**row.asDict()) for row in rows]


def _predictions(good: DataFrame) -> tuple[list[Prediction], tuple[int, ...]]:
    """All labels by falling number of documents, and the histogram of the scores: one pass, labels x bins rows."""
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
        documents, score = labels.get(row["prediction"] or "(none)", (0, 0.0))
        labels[row["prediction"] or "(none)"] = documents + row["documents"], score + (row["score"] or 0.0)
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
    return tuple((row["error"], row["count"]) for row in rows)


def _unsure(lake: Lake, good: DataFrame, config: ReportConfig) -> tuple[Unsure, ...]:
    columns = good.select("doc_id", "prediction", "score", "scores").where(F.col("score").isNotNull())
    rows = [row.asDict() for row in columns.orderBy("score", "doc_id").limit(config.score_examples).collect()]
    wanted = [row["doc_id"] for row in rows]
    texts = lake.documents(config.kept, wanted, 3 * config.excerpt_characters)
    return tuple(_example(row, texts.get(row["doc_id"]), config) for row in rows)


def _example(row: Mapping[str, Any], document: Excerpt | None, config: ReportConfig) -> Unsure:
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
        excerpt(document.text, config.excerpt_characters) if document else "",
    )
