"""The page of a monitor: what is open, every signal of every window, how performance goes. It opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sparkml.monitoring.profile import ALL_ROWS
from sparkml.monitoring.thresholds import FEWEST_WINDOWS
from sparkml.report.charts import Chart, Curve, Lines
from sparkml.report.page import draw_all, render_template

Row = Mapping[str, Any]
_CHARTS = 8
_EVENTS = 100
_LOOKS = ("accent", "contrast", "quiet")
# Colours of a cell by how far a value is on the way to its limit.
_NEAR = 0.7


@dataclass(frozen=True)
class Shown:
    """What the page is about, and how its limits were set."""

    step: str
    table: str
    reference: str
    written_at: datetime
    false_alarms: float
    tests: int
    learnt_windows: int

    @property
    def is_learnt(self) -> bool:
        """Whether the limits follow from the reference's windows."""
        return self.learnt_windows >= FEWEST_WINDOWS


@dataclass(frozen=True)
class Cell:
    """A window of a signal: `alarm`, `near`, `calm` or `none`, and its figures in words."""

    look: str
    words: str


@dataclass(frozen=True)
class Line:
    """A signal of a slice over the windows."""

    slice: str
    signal: str
    kind: str
    alarms: int
    cells: Sequence[Cell]


def page(shown: Shown, verdicts: Sequence[Row], events: Sequence[Row]) -> str:
    """The page as HTML; it refers to nothing outside itself. `verdicts`: rows of `monitored`, `events`: of `alerts`."""
    windows = sorted({row["window_start"] for row in verdicts})
    lines = _lines(verdicts, windows)
    newest = sorted(events, key=lambda row: (row["window_start"], row["slice"], row["signal"]), reverse=True)
    return render_template(
        "dashboard.html.j2",
        shown=shown,
        windows=windows,
        lines=[line for line in lines if line.slice == ALL_ROWS],
        sliced=[line for line in lines if line.slice != ALL_ROWS],
        open=open_events(events),
        events=newest[:_EVENTS],
        more=max(0, len(newest) - _EVENTS),
        plots=draw_all("monitor", _charts(verdicts)),
        limit_words=f"{100 * shown.false_alarms:g} % of the windows without drift raise an alarm",
    )


def open_events(events: Sequence[Row]) -> list[Row]:
    """Of every alert whose cause lasts its latest event, the longest first."""
    begun: dict[str, datetime] = {}
    latest: dict[str, Row] = {}
    for row in sorted(events, key=lambda row: row["window_start"]):
        begun.setdefault(row["alert_id"], row["window_start"])
        latest[row["alert_id"]] = row
    found = [{**row, "since": begun[key]} for key, row in latest.items() if row["state"] != "recovered"]
    return sorted(found, key=lambda row: (row["since"], row["slice"], row["signal"]))


def _lines(verdicts: Sequence[Row], windows: Sequence[datetime]) -> list[Line]:
    by_key: dict[tuple[str, str], dict[datetime, Row]] = {}
    for row in verdicts:
        by_key.setdefault((row["slice"], row["signal"]), {})[row["window_start"]] = row
    found = []
    for (name, signal), rows in by_key.items():
        cells = [_cell(rows.get(start)) for start in windows]
        kind = next(iter(rows.values()))["kind"]
        found.append(Line(name, signal, kind, sum(cell.look == "alarm" for cell in cells), cells))
    order = ("quality", "input", "score", "performance")
    return sorted(
        found, key=lambda line: (line.slice != ALL_ROWS, line.slice, order.index(line.kind), line.signal)
    )


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell("none", "not judged")
    words = f"{row['window_start']:%Y-%m-%d %H:%M}: {row['value']:.4g}, limit {row['threshold']:.4g}. {row['detail']}"
    if row["alarm"]:
        return Cell("alarm", words)
    nothing = 0.5 if row["signal"] == "content" else 0.0  # of an area under the curve
    is_near = row["signal"] != "rows" and row["value"] - nothing >= _NEAR * (row["threshold"] - nothing)
    return Cell("near" if is_near else "calm", words)


def _charts(verdicts: Sequence[Row]) -> dict[str, Chart]:
    """Of all rows: performance, and the signals beside their limits, those with most alarms first."""
    mine = [row for row in verdicts if row["slice"] == ALL_ROWS]
    by_signal: dict[str, list[Row]] = {}
    for row in sorted(mine, key=lambda row: row["window_start"]):
        by_signal.setdefault(row["signal"], []).append(row)
    found: dict[str, Chart] = {}
    for rows in by_signal.values():
        figures = dict(rows[0]["statistics"] or ())
        if "accuracy" in figures:
            found["Accuracy, and what the scores promised"] = _performance(rows)
        if rows[0]["signal"] == "prediction" and len(rows) > 1 and len(_shares(rows)) > 1:
            found["What was predicted"] = Lines(
                _shares(rows), "window", "share", "share of each prediction by window"
            )
    ranked = sorted(by_signal.items(), key=lambda one: (-sum(row["alarm"] for row in one[1]), one[0]))
    for signal, rows in ranked[:_CHARTS]:
        if len(rows) > 1:
            alarms = sum(row["alarm"] for row in rows)
            caption = f"{signal}, {alarms} alarms" if alarms else signal
            found[caption] = _against_limit(signal, rows)
    return found


def _against_limit(signal: str, rows: Sequence[Row]) -> Lines:
    # Where now one statistic decides and now another, they have in common how near they are to their limits.
    is_mixed = len({row["statistic"] for row in rows}) > 1
    parts = [row["threshold"] if is_mixed else 1.0 for row in rows]
    values = [
        (float(at), row["value"] / part) for at, (row, part) in enumerate(zip(rows, parts, strict=True))
    ]
    limits = [
        (float(at), row["threshold"] / part) for at, (row, part) in enumerate(zip(rows, parts, strict=True))
    ]
    alarms = [point for point, row in zip(values, rows, strict=True) if row["alarm"]]
    curves = [Curve("value", values), Curve("limit", limits, "quiet")]
    if alarms:
        curves.append(Curve("alarm", alarms, "contrast", dots=True))
    label = "share of the limit" if is_mixed else _value_name(signal)
    return Lines(curves, "window", label, f"{signal} by window, with its limit", from_zero=True)


def _value_name(signal: str) -> str:
    return {"rows": "rows", "content": "area under the curve"}.get(signal, "distance from the reference")


def _performance(rows: Sequence[Row]) -> Lines:
    named = {"accuracy": "accent", "mean_score": "quiet"}
    curves = [
        Curve(
            name.replace("_", " "),
            [(float(at), dict(row["statistics"])[name]) for at, row in enumerate(rows)],
            look,
        )
        for name, look in named.items()
    ]
    return Lines(curves, "window", "share", "accuracy and mean score by window")


def _shares(rows: Sequence[Row]) -> list[Curve]:
    """The first predictions' shares over the windows."""
    names = [name for name in dict(rows[0]["statistics"] or ()) if name.startswith("share ")][: len(_LOOKS)]
    return [
        Curve(
            name.removeprefix("share "),
            [(float(at), dict(row["statistics"]).get(name, 0.0)) for at, row in enumerate(rows)],
            look,
        )
        for name, look in zip(names, _LOOKS, strict=False)
    ]
