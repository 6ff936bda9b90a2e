"""Signals of documents against the limits of rules: how they are spread, and documents on both sides of each limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.report import formats
from sparkml.report.charts import Histogram
from sparkml.report.lake import Excerpt
from sparkml.report.section import Facts, Rows, Section
from sparkml.report.view import StepView

_SAMPLE = 20_000  # documents that the charts show
_BINS = 24
_CHARTS = 12
_GROUPS = 12  # sources and languages


class Limit(NamedTuple):
    """A limit of a rule: documents below `value`, or above it, are dropped."""

    reason: str
    signal: str
    value: float
    is_least: bool


Limits = Callable[[Mapping[str, Any]], Sequence[Limit]]


def signals_section(limits_of: Limits) -> Section[Facts]:
    """The section of a stage whose tables hold signals; `limits_of` reads the limits from a run's configuration."""
    return Section("Signals", lambda view: gather(view, limits_of))


def gather(view: StepView, limits_of: Limits) -> Facts | None:
    """None where the step's tables hold no signals."""
    kept, rejected = view.table("target"), view.table("rejects")
    if kept is None or rejected is None or "signals" not in kept.columns or "signals" not in rejected.columns:
        return None
    names = kept.select("signals.*").columns
    limits = [limit for limit in limits_of(view.config) if limit.signal in names]
    stayed, documents = view.run.rows_kept or 0, view.run.rows_in or 0
    if not documents:
        return None
    sample = _sampled(_measured(kept, rejected, names), documents).toPandas()
    dropped = view.run.reasons
    shown = sorted(limits, key=lambda limit: -dropped.get(limit.reason, 0))[:_CHARTS]
    charts = {}
    for limit in shown:
        chart = _chart(limit, sample[limit.signal].to_numpy(float), dropped.get(limit.reason, 0))
        if chart is not None:
            charts[f"{limit.reason}: {limit.signal}"] = chart
    share = formats.percent(stayed / documents)
    lead = f"Of {formats.count(documents)} documents {share} stayed; charts and margins are of"
    of = (
        "all that were measured"
        if documents <= _SAMPLE
        else f"{formats.count(len(sample))}, chosen by a hash"
    )
    tables = [_margins(view, sample, shown), *_groups(view, kept, rejected)]
    return Facts(lead=f"{lead} {of}.", charts=charts, tables=[table for table in tables if table.rows])


def _measured(kept: DataFrame, rejected: DataFrame, names: Sequence[str]) -> DataFrame:
    """Every document with its signals as columns, and whether it stayed."""
    here = kept.select("doc_id", F.lit(True).alias("is_kept"), *(F.col(f"signals.{name}") for name in names))
    gone = rejected.where(F.col("signals").isNotNull())
    return here.unionByName(
        gone.select(
            "doc_id", F.lit(False).alias("is_kept"), *(F.col("signals")[name].alias(name) for name in names)
        )
    )


def _sampled(measured: DataFrame, documents: int) -> DataFrame:
    if documents <= _SAMPLE:
        return measured
    of_a_million = int(_SAMPLE / documents * 1_000_000)
    return measured.where(F.pmod(F.xxhash64("doc_id"), F.lit(1_000_000)) < of_a_million)


def _chart(limit: Limit, values: np.ndarray[Any, np.dtype[np.float64]], dropped: int) -> Histogram | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    # The tails would flatten all others into one bar; the limit itself is always to be seen.
    low, high = (float(np.quantile(values, part)) for part in (0.01, 0.99))
    low, high = min(low, limit.value), max(high, limit.value)
    if low == high:
        return None
    counts, edges = np.histogram(np.clip(values, low, high), _BINS, (low, high))
    side = "least" if limit.is_least else "most"
    return Histogram(
        edges=[float(edge) for edge in edges],
        values=[int(count) for count in counts],
        x_label=limit.signal,
        y_label="documents",
        description=f"Documents by {limit.signal}; {formats.count(dropped)} were dropped as {limit.reason}",
        mark=limit.value,
        mark_label=f"at {side} {limit.value:g}",
    )


def _margins(view: StepView, sample: Any, limits: Sequence[Limit]) -> Rows:
    """Of every limit the nearest document on each side of it."""
    found = []
    for limit in limits:
        values = sample[limit.signal].to_numpy(float)
        inside = values >= limit.value if limit.is_least else values <= limit.value
        stays = sample["is_kept"].to_numpy(bool)
        for side, chosen in (("stays", inside & stays), ("goes", ~inside & ~np.isnan(values))):
            near = np.where(chosen, np.abs(values - limit.value), np.inf)
            if len(near) and np.isfinite(near.min()):
                # Of several the first by its id: the same on every run.
                rows = np.flatnonzero(near == near.min())
                row = min(rows, key=lambda row: sample["doc_id"].iat[row])
                found.append((limit, side, float(values[row]), sample["doc_id"].iat[row]))
    texts = view.documents("source", [doc_id for *_, doc_id in found], 3 * view.limits.excerpt_characters)
    rows_shown = [
        [limit.reason, side, value, limit.value, doc_id, _excerpt(texts.get(doc_id), view)]
        for limit, side, value, doc_id in found
    ]
    columns = ("rule", "document", "measured", "limit", "doc_id", "text as it was read")
    return Rows("At the margin: the nearest document on each side of a limit", columns, rows_shown)


def _excerpt(document: Excerpt | None, view: StepView) -> str:
    return formats.excerpt(document.text, view.limits.excerpt_characters) if document is not None else ""


def _groups(view: StepView, kept: DataFrame, rejected: DataFrame) -> list[Rows]:
    """What stayed by source and by language, of the largest of each."""
    tables = []
    source = view.table("source")
    if source is not None and {"dataset", "source"} <= set(source.columns):
        file = F.regexp_replace("source", "[?#].*", "")  # a query may hold a token
        site = F.lower(F.try_parse_url("url", F.lit("HOST")))
        name = F.coalesce(site, F.element_at(F.split(file, "/"), -1))
        places = source.select("doc_id", F.coalesce(name, F.lit("?")).alias("place"))
        gone = rejected.select("doc_id", "drop_reason")
        joined = places.join(gone, "doc_id", "left").groupBy("place")
        counts = joined.agg(
            F.count(F.lit(1)).alias("read"),
            F.count("drop_reason").alias("dropped"),
            F.mode("drop_reason").alias("reason"),
        )
        rows = counts.orderBy(F.desc("read"), "place").limit(_GROUPS).collect()
        listed = [[r[0], r[1], formats.percent(1 - r[2] / r[1]), r[3] or "—"] for r in rows]
        title = "By source: the site of a page, else the file; the largest"
        tables.append(Rows(title, ("source", "documents", "stayed", "most frequent reason"), listed))
    languages = kept.where(F.col("lang").isNotNull()).groupBy("lang")
    found = languages.agg(F.count(F.lit(1)).alias("n"), F.avg("lang_score"), F.avg("n_words")).orderBy(
        F.desc("n"), "lang"
    )
    rows = found.limit(_GROUPS).collect()
    listed = [[r[0], r[1], round(r[2], 3) if r[2] is not None else None, round(r[3] or 0.0)] for r in rows]
    tables.append(
        Rows("By language, of what stayed", ("language", "documents", "mean share", "mean words"), listed)
    )
    return tables
