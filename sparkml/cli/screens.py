"""What the command line shows: tables of the plan, the ledger, a trace, and the closing summary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import Row
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from sparkml.frame.config import ProjectConfig
from sparkml.frame.lineage import Step
from sparkml.frame.pipeline import Stage, upstream
from sparkml.frame.runner import StageOutcome, StageState

# Where no terminal tells its width (a log file, a CI page), tables are not folded to 80 columns.
_LOG_COLUMNS = 140
_STATUS_STYLE = {"succeeded": "green", "failed": "red", "started": "yellow"}


def open_console() -> Console:
    """What is shown goes to stdout, as wide as the terminal, or as COLUMNS says."""
    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_LOG_COLUMNS)


def show_config(console: Console, config: ProjectConfig) -> None:
    """Every key with its value and where it came from."""
    table = Table(title=f"configuration of environment {config.env}", title_justify="left", box=None)
    for column in ("key", "value", "origin"):
        table.add_column(column, overflow="fold")
    for key, value, origin in config.flat():
        table.add_row(key, escape(str(value)), origin, style="bold" if origin == "command line" else "")
    console.print(table)


def show_plan(console: Console, states: Sequence[StageState], config: ProjectConfig) -> None:
    """What would run and why; a stage after one that runs will run too."""
    table = Table(title="plan", title_justify="left", box=None)
    for column in ("stage", "would", "because", "last run", "what it does"):
        table.add_column(column, overflow="fold")
    rerun: set[str] = set()
    for state in states:
        before = sorted(rerun & set(upstream(state.stage, config.stages)))
        runs = not state.up_to_date or bool(before)
        if runs:
            rerun.add(state.stage.name)
        because = f"after {', '.join(before)}" if state.up_to_date and before else state.reason
        last = state.last["run_id"] if state.last is not None else "-"
        style = "bold" if runs else "dim"
        table.add_row(
            state.stage.name, "run" if runs else "skip", because, last, state.stage.summary, style=style
        )
    console.print(table)


def show_outcome(console: Console, outcome: StageOutcome) -> None:
    """One line as a stage ends."""
    name = outcome.stage.name
    if outcome.skipped:
        console.print(f"[dim]- {name:<9} up to date (run {outcome.run_id})[/]", highlight=False)
        return
    report = outcome.report
    rejected = f", {report.rows_rejected:,} rejected" if report.rows_rejected else ""
    rate = (
        f", {report.bytes_in / 1e6 / outcome.seconds:.1f} MB/s" if report.bytes_in and outcome.seconds else ""
    )
    console.print(
        f"[green]✓[/] {name:<9} {outcome.seconds:6.1f} s  "
        f"{report.rows_in:,} in, {report.rows_kept:,} kept{rejected}{rate}",
        highlight=False,
    )


def show_left_out(console: Console, stage: Stage, why: str) -> None:
    """One line for a stage that does not apply."""
    console.print(f"[yellow]-[/] {stage.name:<9} left out: {escape(why)}", highlight=False)


def show_closing(console: Console, outcomes: Sequence[StageOutcome], config: ProjectConfig) -> None:
    """The closing table and the path of the report."""
    table = Table(title="done", title_justify="left", box=None)
    table.add_column("stage")
    for column in ("in", "kept", "rejected", "seconds", "MB/s"):
        table.add_column(column, justify="right")
    table.add_column("first reasons and figures", overflow="fold")
    for outcome in outcomes:
        report = outcome.report
        seconds = "up to date" if outcome.skipped else f"{outcome.seconds:.1f}"
        fast = report.bytes_in and outcome.seconds and not outcome.skipped
        table.add_row(
            outcome.stage.name,
            f"{report.rows_in:,}",
            f"{report.rows_kept:,}",
            f"{report.rows_rejected:,}",
            seconds,
            f"{report.bytes_in / 1e6 / outcome.seconds:.1f}" if fast else "",
            _headline(outcome),
        )
    console.print(table)
    total = sum(outcome.seconds for outcome in outcomes)
    console.print(f"{total:,.0f} s in all · lake {config.lake}", highlight=False, soft_wrap=True)
    page = Path(config.artifacts) / "report" / "report.html"
    if page.exists():
        console.print(f"report: {page}", highlight=False, soft_wrap=True)


def _headline(outcome: StageOutcome) -> str:
    report = outcome.report
    reasons = sorted(report.reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
    figures = list(report.metrics.items())[:4]
    shown = [f"{name} {count:,}" for name, count in reasons]
    return ", ".join(shown + [f"{name} {_figure(value)}" for name, value in figures])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def show_runs(console: Console, rows: Sequence[Row], lake: str) -> None:
    """The ledger, newest last."""
    table = Table(title=f"runs of {lake}", title_justify="left", box=None)
    table.add_column("run", no_wrap=True)
    table.add_column("status")
    for column in ("in", "kept", "rejected", "seconds"):
        table.add_column(column, justify="right")
    for column in ("wrote", "reasons or error"):
        table.add_column(column, overflow="fold")
    for row in rows:
        outputs = ", ".join(f"{out['table']}@{out['version']}" for out in row["outputs"] or [])
        reasons = sorted((row["reasons"] or {}).items(), key=lambda item: -item[1])[:4]
        note = row["error"].splitlines()[0] if row["error"] else ", ".join(f"{k} {v:,}" for k, v in reasons)
        style = _STATUS_STYLE.get(row["status"], "")
        table.add_row(
            row["run_id"],
            f"[{style}]{row['status']}[/]",
            *(_number(row[name]) for name in ("rows_in", "rows_kept", "rows_rejected")),
            f"{row['seconds']:.1f}" if row["seconds"] is not None else "",
            outputs,
            escape(note),
        )
    console.print(table)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def show_trace(console: Console, table: str, doc_id: str, steps: Sequence[Step]) -> None:
    """The way of one document, newest fact first."""
    tree = Tree(f"[bold]{escape(table)}[/] {escape(doc_id)}")
    for step in steps:
        branch = tree.add(f"[bold]{escape(step.title)}[/]")
        for key, value in step.facts:
            branch.add(f"{key}: {escape(value)}", highlight=False)
    console.print(tree, soft_wrap=True)
