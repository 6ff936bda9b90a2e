"""What the command line shows: steps, the plan, the ledger, a trace, and the closing summary."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from sparkml.frame import storage
from sparkml.frame.config import ProjectConfig, model_keys
from sparkml.frame.ledger import Run
from sparkml.frame.lineage import Station
from sparkml.frame.pipeline import MODEL_MARK, Step
from sparkml.frame.runner import StepOutcome, StepState, in_words
from sparkml.frame.stage import Estimate
from sparkml.serving.settings import ServeSettings
from sparkml.tasks.task import TaskChoice

# Where there is no terminal (a log file, a CI page), tables are not folded to 80 columns.
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


def show_serving(console: Console, routes: Sequence[Mapping[str, object]], settings: ServeSettings) -> None:
    """Which version answers under which name, and where."""
    for route in routes:
        versions = ", ".join(f"{role} {value}" for role, value in route.items() if role != "name")
        console.print(f"{route['name']}: {versions}", highlight=False, soft_wrap=True)
    address = f"http://{settings.host}:{settings.port}"
    console.print(
        f"{address} (a page to try it), {address}/docs, {address}/ready", highlight=False, soft_wrap=True
    )


def show_steps(console: Console, config: ProjectConfig) -> None:
    """The steps in their order, with what each takes and makes."""
    table = Table(title=f"pipeline {config.pipeline.name}", title_justify="left", box=None)
    for column in ("step", "stage", "reads", "writes", "what it does"):
        table.add_column(column, overflow="fold")
    for step in config.pipeline.steps:
        ends = [
            ", ".join(dict.fromkeys(ref.replace(MODEL_MARK, "model ") for _, ref in pairs))
            for pairs in (step.inputs(), step.outputs())
        ]
        table.add_row(step.name, step.stage.name, *map(escape, ends), escape(step.stage.summary))
    console.print(table)


def show_step(console: Console, config: ProjectConfig, step: Step) -> None:
    """Every field of a step: its value, and what it means."""
    table = Table(title=f"step {step.name}: {step.stage.summary}", title_justify="left", box=None)
    for column in ("key", "value", "meaning"):
        table.add_column(column, overflow="fold")
    values = {key: value for key, value, _ in config.flat()}
    for key, meaning in model_keys(step.stage.config, step.name):
        table.add_row(key, escape(str(values.get(key, ""))), escape(meaning))
    for field in type(step.config).model_fields:
        choice = getattr(step.config, field)
        if isinstance(choice, TaskChoice):  # the settings that this task has
            prefix = f"{step.name}.{field}"
            for key, meaning in model_keys(type(choice.options), prefix):
                value = getattr(choice.options, key.removeprefix(f"{prefix}."))
                table.add_row(key, escape(str(value)), escape(meaning))
    console.print(table)


def show_verified(console: Console, step: Step, found: Mapping[str, float]) -> None:
    """That what a step has pinned is as it was written."""
    console.print(
        f"[green]✓[/] {step.name}: {found['files']:.0f} files, {found['bytes'] / 1e6:,.1f} MB, all sound"
    )


def show_plan(console: Console, states: Sequence[StepState], config: ProjectConfig) -> None:
    """What would run and why; a step runs too where a step before it runs."""
    table = Table(title="plan", title_justify="left", box=None)
    for column in ("step", "would", "because", "last run", "what it does"):
        table.add_column(column, overflow="fold")
    rerun: set[str] = set()
    for state in states:
        before = sorted(rerun & set(config.pipeline.upstream(state.step)))
        runs = not state.up_to_date or bool(before)
        if runs:
            rerun.add(state.step.name)
        because = f"after {', '.join(before)}" if state.up_to_date and before else state.reason
        last = state.last.run_id if state.last is not None else "-"
        style = "bold" if runs else "dim"
        table.add_row(
            state.step.name, "run" if runs else "skip", because, last, state.step.stage.summary, style=style
        )
    console.print(table)


def show_outcome(console: Console, outcome: StepOutcome) -> None:
    """One line as a step ends."""
    name = outcome.step.name
    if outcome.skipped:
        console.print(f"[dim]- {name:<9} up to date (run {outcome.run_id})[/]", highlight=False)
        return
    report = outcome.report
    rate = (
        f", {report.bytes_in / 1e6 / outcome.seconds:.1f} MB/s" if report.bytes_in and outcome.seconds else ""
    )
    console.print(
        f"[green]✓[/] {name:<9} {outcome.seconds:6.1f} s  {escape(in_words(report))}{rate}", highlight=False
    )


def show_left_out(console: Console, step: Step, why: str) -> None:
    """One line for a step that does not apply."""
    console.print(f"[yellow]-[/] {step.name:<9} left out: {escape(why)}", highlight=False)


def show_closing(console: Console, outcomes: Sequence[StepOutcome], config: ProjectConfig) -> None:
    """The closing table and the path of the report."""
    table = Table(title="done", title_justify="left", box=None)
    table.add_column("step")
    for column in ("in", "kept", "rejected", "seconds", "MB/s"):
        table.add_column(column, justify="right")
    table.add_column("first reasons and figures", overflow="fold")
    for outcome in outcomes:
        report = outcome.report
        seconds = "up to date" if outcome.skipped else f"{outcome.seconds:.1f}"
        fast = report.bytes_in and outcome.seconds and not outcome.skipped
        table.add_row(
            outcome.step.name,
            *(_number(value) for value in (report.rows_in, report.rows_kept, report.rows_rejected)),
            seconds,
            f"{report.bytes_in / 1e6 / outcome.seconds:.1f}" if fast else "",
            _headline(outcome),
        )
    console.print(table)
    total = sum(outcome.seconds for outcome in outcomes)
    shown = storage.redacted(config.lake)
    console.print(f"{total:,.0f} s in all · lake {shown}", highlight=False, soft_wrap=True)
    page = storage.join(config.artifacts, "report", "report.html")
    if storage.exists(page):
        console.print(f"report: {page}", highlight=False, soft_wrap=True)


def _headline(outcome: StepOutcome) -> str:
    report = outcome.report
    reasons = sorted(report.reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
    figures = list(report.metrics.items())[:4]
    shown = [f"{name} {count:,}" for name, count in reasons]
    return ", ".join(shown + [f"{name} {_figure(value)}" for name, value in figures])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def show_runs(console: Console, runs: Sequence[Run], lake: str) -> None:
    """The ledger, newest last."""
    table = Table(title=f"runs of {storage.redacted(lake)}", title_justify="left", box=None)
    table.add_column("run", no_wrap=True)
    table.add_column("status")
    for column in ("in", "kept", "rejected", "seconds"):
        table.add_column(column, justify="right")
    for column in ("wrote", "reasons or error"):
        table.add_column(column, overflow="fold")
    for run in runs:
        outputs = ", ".join(
            f"{ref.removeprefix(MODEL_MARK)}@{version}" for ref, version in run.outputs.items()
        )
        reasons = sorted(run.reasons.items(), key=lambda item: -item[1])[:4]
        note = run.error.splitlines()[0] if run.error else ", ".join(f"{k} {v:,}" for k, v in reasons)
        style = _STATUS_STYLE.get(run.status, "")
        table.add_row(
            run.run_id,
            f"[{style}]{run.status}[/]",
            *(_number(value) for value in (run.rows_in, run.rows_kept, run.rows_rejected)),
            f"{run.seconds:.1f}" if run.seconds is not None else "",
            outputs,
            escape(note),
        )
    console.print(table)


def show_estimates(console: Console, estimates: Sequence[Estimate]) -> None:
    """What steps would take, and all of them."""
    table = Table(box=None)
    table.add_column("step")
    for column in ("rows", "slots", "time", "memory, MB", "shuffled, GB", "written, GB"):
        table.add_column(column, justify="right")
    table.add_column("from")
    for one in estimates:
        sizes = "two sizes or more" if one.runs > 1 else "one size: nothing is known of what is fixed"
        table.add_row(
            one.step,
            f"{one.rows:,.0f}",
            f"{one.slots:,}",
            _duration(one.seconds),
            f"{one.memory_mb:,.0f}",
            *(f"{size / 1e9:,.3g}" for size in (one.shuffle_bytes, one.written_bytes)),
            f"{one.note}; {sizes}" if one.note else sizes,
        )
    if len(estimates) > 1:
        sums = [sum(getattr(one, name) for one in estimates) for name in ("shuffle_bytes", "written_bytes")]
        total = _duration(sum(one.seconds for one in estimates))
        table.add_row("all", "", "", total, "", *(f"{size / 1e9:,.3g}" for size in sums), "")
    console.print(table)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def show_trained(console: Console, out: str, measured: Mapping[str, float]) -> None:
    """What a training outside Spark came to, and how its model is used."""
    for name, value in measured.items():
        console.print(f"{name}: {_figure(value)}", highlight=False)
    shown = storage.redacted(out)
    console.print(
        f"model: {shown} · use it: sparkml run score score.model={shown}", highlight=False, soft_wrap=True
    )


def show_converted(console: Console, out: str, files: Sequence[str]) -> None:
    """The files of a directory that was converted, and how it is used."""
    shown = storage.redacted(out)
    console.print(f"{shown}: {', '.join(files)}", highlight=False, soft_wrap=True)
    console.print(
        f"start from it: sparkml run finetune finetune.model={shown}", highlight=False, soft_wrap=True
    )


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def show_trace(console: Console, table: str, doc_id: str, stations: Sequence[Station]) -> None:
    """The stations of one document, from the row back to its source."""
    tree = Tree(f"[bold]{escape(table)}[/] {escape(doc_id)}")
    for station in stations:
        branch = tree.add(f"[bold]{escape(station.title)}[/]")
        for key, value in station.facts:
            branch.add(f"{escape(key)}: {escape(value)}", highlight=False)
    console.print(tree, soft_wrap=True)
