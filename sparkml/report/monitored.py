"""What the report says of a monitor: its alerts, and the signals of the newest window."""

from __future__ import annotations

from pyspark.sql import functions as F

from sparkml.report import formats
from sparkml.report.section import Facts, KeyFigure, Rows, Section
from sparkml.report.view import StepView

_ALERTS = 50


def gather(view: StepView) -> Facts | None:
    """The newest window's signals, those nearest to their limits first, and the latest alerts."""
    table = view.table("target")
    if table is None:
        return None
    newest, windows = table.agg(F.max("window_start"), F.count_distinct("window_start")).collect()[0]
    if newest is None:
        return None
    rows = table.where(F.col("window_start") == newest).orderBy("p_value", "slice", "signal").collect()
    alarms = sum(row["alarm"] for row in rows)
    signals = [
        [
            row["signal"],
            row["slice"],
            row["n"],
            formats.measured(row["value"]),
            formats.measured(row["threshold"]),
            "alarm" if row["alarm"] else "",
            row["detail"],
        ]
        for row in rows
    ]
    columns = ("signal", "slice", "rows", "value", "limit", "", "what moved most")
    tables = [Rows("The newest window, the most unusual first", columns, signals)]
    alerts = view.table("alerts")
    if alerts is not None:
        told = alerts.orderBy(F.desc("window_start"), "slice", "signal").limit(_ALERTS).collect()
        events = [
            [formats.clock(row["window_start"]), row["state"], row["signal"], row["slice"], row["detail"]]
            for row in told
        ]
        tables.append(
            Rows("Alerts, the latest first", ("window", "state", "signal", "slice", "what"), events)
        )
    lead = f"{windows:,} windows; in the newest, from {formats.clock(newest)}, {alarms} of {len(rows)} signals alarm."
    return Facts(lead=lead, tables=tables)


def figures(facts: Facts) -> tuple[KeyFigure, ...]:
    """Alarms of the newest window."""
    alarms = sum(row[5] == "alarm" for row in facts.tables[0].rows)
    return (KeyFigure("Alarms", str(alarms), "in the newest window"),)


MONITORED = Section("Monitor", gather, figures=figures)
