"""Scores: what the classifier predicts, how sure it is, what it could not score, where it is least sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.report.config import ReportConfig
from sparkml.report.formats import excerpt, ratio
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
    models = _models(scores) if scores is not None else []
    if scores is None or not models:
        return None
    newest = models[0]
    mine = scores.where(
        (F.col("model_id") == newest.model_id) & (F.col("model_version") == newest.model_version)
    )
    good = mine.where(F.col("error").isNull())
    predictions, other_documents, other_labels = _predictions(good, newest)
    return Scores(
        newest,
        tuple(models[1:]),
        predictions,
        other_documents,
        other_labels,
        tuple(at / _BINS for at in range(_BINS + 1)),
        _histogram(good),
        _errors(mine) if newest.errors else (),
        _unsure(lake, good, config),
    )


def _models(scores: DataFrame) -> list[ModelScores]:
    """Model versions, the one that was applied to the newest input first."""
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
    return [ModelScores(**row.asDict()) for row in rows]


def _predictions(good: DataFrame, newest: ModelScores) -> tuple[tuple[Prediction, ...], int, int]:
    grouped = good.groupBy("prediction").agg(
        F.count(F.lit(1)).alias("documents"), F.avg("score").alias("score")
    )
    totals = grouped.agg(F.count(F.lit(1)), F.sum("documents")).collect()[0]
    rows = grouped.orderBy(F.desc("documents"), "prediction").limit(_SHOWN).collect()
    most = max((row["documents"] for row in rows), default=1)
    scored = newest.documents - newest.errors
    shown = tuple(
        Prediction(
            row["prediction"] or "(none)",
            row["documents"],
            ratio(row["documents"], scored) or 0.0,
            row["documents"] / most,
            row["score"],
        )
        for row in rows
    )
    return shown, (totals[1] or 0) - sum(row.documents for row in shown), totals[0] - len(shown)


def _histogram(good: DataFrame) -> tuple[int, ...]:
    place = F.greatest(F.lit(0), F.least(F.lit(_BINS - 1), F.floor(F.col("score") * _BINS))).cast("int")
    counts = {row["bin"]: row["count"] for row in good.groupBy(place.alias("bin")).count().collect()}
    return tuple(counts.get(at, 0) for at in range(_BINS))


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
    names = {key: one.name for key, one in lake.documents(config.bronze, wanted, 1).items()}
    return tuple(_example(row, texts.get(row["doc_id"]), names, config) for row in rows)


def _example(
    row: Mapping[str, Any], document: Excerpt | None, names: Mapping[str, str], config: ReportConfig
) -> Unsure:
    others: Mapping[str, float] = row["scores"] or {}
    ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    following = tuple(item for item in ranked if item[0] != row["prediction"])[:_RUNNERS_UP]
    return Unsure(
        row["doc_id"],
        names.get(row["doc_id"], row["doc_id"]),
        document.label if document else None,
        row["prediction"] or "(none)",
        row["score"],
        following,
        excerpt(document.text, config.excerpt_characters) if document else "",
    )
