"""What is measured of every row: which signals there are, and in which of its bins a row is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkml.frame.tables import sql_text
from sparkml.monitoring.profile import NULL, OTHER, ROWS, Kind, Signal
from sparkml.stages.monitor.config import MonitorConfig
from sparkml.stages.monitor.rows import TEACHES_WORDS

_QUANTILES = 20
DECILES = 10
CALIBRATION, CORRECT, DELAY = "calibration", "correct", "label.hours"
# The window of rows without a time.
NO_TIME = datetime(1970, 1, 1, tzinfo=timezone.utc)
Found = tuple[datetime, str, str, int, int]


@dataclass(frozen=True)
class Measure:
    """A signal before its bins are known, in SQL. `values`: those there can be; None: the reference's frequent ones."""

    name: str
    kind: Kind
    value: str
    is_ordered: bool = False
    values: tuple[str, ...] | None = None
    is_counted: str = "true"  # of which rows


def measures_of(rows: DataFrame, config: MonitorConfig, *, is_reference: bool) -> list[Measure]:
    """What the columns of the rows allow to measure."""
    has = set(rows.columns)
    found: list[Measure] = []
    if "characters" in has:
        state = "CASE WHEN characters IS NULL THEN 'null' WHEN characters = 0 THEN 'empty' ELSE 'there' END"
        is_there = "characters > 0"
        is_new = f"{is_there} AND NOT {TEACHES_WORDS}" if is_reference else is_there
        found += [
            Measure("text.missing", "quality", state, values=("there", "empty", "null")),
            Measure(
                "text.repeated",
                "quality",
                _yes_or_no("is_repeated"),
                values=("no", "yes"),
                is_counted=is_there,
            ),
            Measure("text.characters", "input", "characters", is_ordered=True, is_counted=is_there),
            Measure("text.words", "input", "words", is_ordered=True, is_counted=is_there),
            Measure("text.new_words", "input", "new_words", is_ordered=True, is_counted=is_new),
        ]
    if "lang" in has or config.text_language:
        found.append(Measure("lang", "quality", "lang" if "lang" in has else "found_lang"))
    found += [Measure(name, "input", f"`number:{name}`", is_ordered=True) for name in config.numbers]
    found += [Measure(name, "input", f"`category:{name}`") for name in config.categories]
    return [*found, *_of_answers(has), *_of_labels(has)]


def _yes_or_no(test: str) -> str:
    return f"IF({test}, 'yes', 'no')"


def _of_answers(has: set[str]) -> list[Measure]:
    found = []
    is_answered = "error IS NULL" if "error" in has else "true"
    if "prediction" in has:
        found.append(Measure("prediction", "score", "prediction", is_counted=is_answered))
    if "score" in has:
        found.append(Measure("score", "score", "score", is_ordered=True, is_counted=is_answered))
    if "error" in has:
        found.append(Measure("error", "quality", _yes_or_no("error IS NOT NULL"), values=("no", "yes")))
    return found


def _of_labels(has: set[str]) -> list[Measure]:
    if not {"label", "prediction"} <= has:
        return []
    both = "label IS NOT NULL AND prediction IS NOT NULL"
    right = "IF(label = prediction, 'right', 'wrong')"
    found = [Measure(CORRECT, "performance", right, values=("wrong", "right"), is_counted=both)]
    if "score" in has:
        decile = f"CAST(least({DECILES - 1}, floor(score * {DECILES})) AS STRING)"
        values = tuple(f"{at}{said}" for at in range(DECILES) for said in ("wrong", "right"))
        is_share = f"{both} AND score BETWEEN 0 AND 1"
        found.append(
            Measure(CALIBRATION, "performance", f"{decile} || {right}", values=values, is_counted=is_share)
        )
    if "labelled_at" in has:
        hours = "(CAST(labelled_at AS DOUBLE) - CAST(at AS DOUBLE)) / 3600"
        is_dated = "labelled_at IS NOT NULL AND at IS NOT NULL"
        found.append(Measure(DELAY, "performance", hours, is_ordered=True, is_counted=is_dated))
    return found


def signals_of(reference: DataFrame, measures: Sequence[Measure], most_values: int) -> tuple[Signal, ...]:
    """The measures with the bins that the reference gives: quantiles, and frequent values."""
    ordered = [one for one in measures if one.is_ordered]
    shares = ", ".join(str(at / _QUANTILES) for at in range(1, _QUANTILES))
    edges = {}
    if ordered:
        quantiles = [
            f"percentile_approx({_counted(one, 'DOUBLE')}, array({shares}), 10000)" for one in ordered
        ]
        row = reference.agg(*(F.expr(value).alias(f"e{at}") for at, value in enumerate(quantiles))).collect()[
            0
        ]
        edges = {one.name: _distinct(row[at]) for at, one in enumerate(ordered)}
    values = _frequent(
        reference, [one for one in measures if not one.is_ordered and one.values is None], most_values
    )
    return tuple(
        Signal(one.name, one.kind, edges=edges[one.name])
        if one.is_ordered
        else Signal(
            one.name, one.kind, values=one.values if one.values is not None else values.get(one.name, ())
        )
        for one in measures
    )


def _distinct(edges: list[float] | None) -> tuple[float, ...]:
    """The quantiles; a value that is several of them has a bin of its own, which others are beside."""
    found = sorted(edges or ())
    repeated = {low for low, high in itertools.pairwise(found) if low == high}
    return tuple(sorted({*found, *(math.nextafter(edge, math.inf) for edge in repeated)}))


def _counted(one: Measure, kind: str) -> str:
    return f"IF({one.is_counted}, CAST({one.value} AS {kind}), NULL)"


def _frequent(reference: DataFrame, measures: Sequence[Measure], most: int) -> dict[str, tuple[str, ...]]:
    if not measures:
        return {}
    cells = ", ".join(
        f"named_struct('name', {sql_text(one.name)}, 'value', {_counted(one, 'STRING')})" for one in measures
    )
    cell = F.expr(f"explode(array({cells}))").alias("cell")
    counted = (
        reference.select(cell).where("cell.value IS NOT NULL").groupBy("cell.name", "cell.value").count()
    )
    place = F.row_number().over(Window.partitionBy("name").orderBy(F.desc("count"), "value"))
    found: dict[str, list[str]] = {}
    for row in (
        counted.withColumn("place", place).where(F.col("place") <= most).orderBy("name", "place").collect()
    ):
        found.setdefault(row["name"], []).append(row["value"])
    return {name: tuple(values) for name, values in found.items()}


def slices_of(reference: DataFrame, most_values: int) -> tuple[str, ...]:
    """All rows, and the frequent values of every column that makes slices."""
    counted = reference.select(F.explode("slices").alias("slice")).groupBy("slice").count()
    column = F.substring_index("slice", "=", 1)
    place = F.row_number().over(Window.partitionBy(column).orderBy(F.desc("count"), "slice"))
    ranked = counted.withColumn("place", place).where(F.col("place") <= most_values)
    # The slice of all rows has no `=`: it is a column of its own, and comes first.
    return tuple(
        row["slice"] for row in ranked.orderBy(F.col("slice").contains("="), column, "place").collect()
    )


def counted(rows: DataFrame, measures: Sequence[Measure], signals: Sequence[Signal]) -> list[Found]:
    """Rows by window, slice, signal and bin."""
    by_name = {signal.name: signal for signal in signals}
    cells = [f"named_struct('signal', {sql_text(ROWS)}, 'bin', 0)"]
    for one in measures:
        if one.name in by_name:
            cell = (
                f"named_struct('signal', {sql_text(one.name)}, 'bin', {_bin(one.value, by_name[one.name])})"
            )
            cells.append(f"IF({one.is_counted}, {cell}, NULL)")
    all_cells = F.expr(f"array_compact(array({', '.join(cells)}))").alias("cells")
    exploded = rows.select("start", F.explode("slices").alias("slice"), all_cells)
    grouped = (
        exploded.select("start", "slice", F.explode("cells").alias("cell"))
        .groupBy("start", "slice", "cell.signal", "cell.bin")
        .agg(F.count(F.lit(1)).alias("n"))
    )
    # So many windows, slices, signals and bins: however many rows.
    return [
        (in_utc(row["start"]) if row["start"] else NO_TIME, row["slice"], row["signal"], row["bin"], row["n"])
        for row in grouped.collect()
    ]


def in_utc(moment: datetime) -> datetime:
    """A timestamp as Spark gives it, in the zone of the process and without its name."""
    return moment.astimezone(timezone.utc)


def _bin(value: str, signal: Signal) -> str:
    """The number of the bin of a value."""
    last = len(signal.bins) - 1
    if signal.edges is not None:
        number = f"CAST({value} AS DOUBLE)"
        # Literals in Java's notation, so that every bit of an edge is kept.
        tests = "".join(f" + CAST({number} >= CAST('{edge!r}' AS DOUBLE) AS INT)" for edge in signal.edges)
        return f"CASE WHEN {number} IS NULL OR isnan({number}) THEN {last} ELSE 0{tests} END"
    null, other = signal.bins.index(NULL), signal.bins.index(OTHER)
    cases = "".join(f" WHEN {sql_text(one)} THEN {place}" for place, one in enumerate(signal.values))
    known = f"CASE CAST({value} AS STRING){cases} ELSE {other} END" if signal.values else str(other)
    return f"CASE WHEN {value} IS NULL THEN {null} ELSE {known} END"
