"""The command line: `sparkml run`, `run-all`, `plan`, `runs`, `trace`, `report`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from pyspark.sql import SparkSession
from rich.console import Console

from sparkml import __version__
from sparkml.cli import screens
from sparkml.errors import NotApplicableError, SparkmlError, UsageError
from sparkml.frame.config import ProjectConfig, load_config
from sparkml.frame.lineage import trace as trace_document
from sparkml.frame.locks import lake_lock
from sparkml.frame.pipeline import STAGES, Stage, config_types, stage_named, until, upstream
from sparkml.frame.progress import Progress
from sparkml.frame.runner import Runner, StageOutcome
from sparkml.frame.session import opened_session
from sparkml.frame.tables import first_line
from sparkml.log import configure_logging, get_logger

_log = get_logger(__name__)

app = typer.Typer(
    name="sparkml",
    help="From raw documents to scored tables on one Spark cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

EPILOG = """
**Examples**

`sparkml run-all --env local` — the installed Python documentation, the whole way

`sparkml run-all lake=./my-lake ingest.source.path='/data/*.jsonl.gz' ingest.source.label_field=topic`

`sparkml run clean dedupe --env local clean.min_words=20` — two stages with another setting

`sparkml plan clean.min_words=20` — every key with its value and origin, and what would run

**Exit codes**: 0 done, 1 the work failed, 2 wrong use or configuration
"""

Env = Annotated[str, typer.Option("--env", help="Environment: an overlay in the configuration folder.")]
ConfDir = Annotated[str | None, typer.Option("--conf-dir", help="Configuration folder. Default: ./conf.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, for example clean.min_words=20.")]
Force = Annotated[bool, typer.Option("--force", help="Run even what is up to date.")]
LogLevel = Annotated[str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")]


@app.command(epilog=EPILOG)
def run(
    words: Annotated[
        list[str], typer.Argument(help="Stages, then key=value overrides.", metavar="STAGE... [KEY=VALUE]...")
    ],
    env: Env = "local",
    force: Force = False,
    conf_dir: ConfDir = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Run some stages, in the order of the way. What is up to date is skipped."""
    names = [word for word in words if "=" not in word]
    if not names:
        raise UsageError("no stage is named", expected=", ".join(stage.name for stage in STAGES))
    chosen = {stage_named(name).name for name in names}
    stages = [stage for stage in STAGES if stage.name in chosen]
    _execute(stages, env, [word for word in words if "=" in word], force, conf_dir, log_level)


@app.command("run-all", epilog=EPILOG)
def run_all(
    overrides: Overrides = None,
    until_stage: Annotated[str | None, typer.Option("--until", help="Last stage to run.")] = None,
    env: Env = "local",
    force: Force = False,
    conf_dir: ConfDir = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Run the whole way: ingest, clean, dedupe, shard, train, finetune, compress, score, report.

    Documents without labels end in the encoder: finetune, compress and score are left out.
    """
    _execute(until(until_stage), env, overrides or [], force, conf_dir, log_level, whole=True)


@app.command(epilog=EPILOG)
def plan(overrides: Overrides = None, env: Env = "local", conf_dir: ConfDir = None) -> None:
    """Show the resolved configuration with each value's origin, and what would run. Nothing is run."""
    with _opened(env, overrides or [], conf_dir, "WARNING") as opened:
        screens.show_config(opened.console, opened.config)
        states = [opened.runner.state(stage) for stage in STAGES]
        screens.show_plan(opened.console, states, opened.config)


@app.command(epilog=EPILOG)
def runs(
    overrides: Overrides = None,
    env: Env = "local",
    conf_dir: ConfDir = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many runs to show.")] = 30,
) -> None:
    """Show the ledger: every run of every stage with its rows, reasons, seconds and status."""
    with _opened(env, overrides or [], conf_dir, "WARNING") as opened:
        screens.show_runs(opened.console, opened.runner.ledger.rows()[-last:], opened.config.lake)


@app.command(epilog=EPILOG)
def trace(
    table: Annotated[
        str, typer.Argument(help="A table with doc_id: scores, kept, clean, duplicates, rejects, bronze.")
    ],
    doc_id: Annotated[str, typer.Argument(help="The document.")],
    overrides: Overrides = None,
    env: Env = "local",
    conf_dir: ConfDir = None,
) -> None:
    """Walk from a row back to its model, shard manifest, dedupe and clean decisions, and source."""
    with _opened(env, overrides or [], conf_dir, "WARNING") as opened:
        steps = trace_document(opened.runner.tables, opened.runner.ledger, opened.config, table, doc_id)
        screens.show_trace(opened.console, table, doc_id, steps)


@app.command(epilog=EPILOG)
def report(overrides: Overrides = None, env: Env = "local", conf_dir: ConfDir = None) -> None:
    """Write the HTML report of the lake as it stands, and print its path."""
    _execute([stage_named("report")], env, overrides or [], True, conf_dir, "INFO")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@dataclass(frozen=True)
class _Opened:
    config: ProjectConfig
    spark: SparkSession
    runner: Runner
    console: Console


@contextmanager
def _opened(env: str, overrides: Sequence[str], conf_dir: str | None, log_level: str) -> Iterator[_Opened]:
    """A resolved configuration, a session on it and a runner; the session ends with the block."""
    console = screens.open_console()
    configure_logging(log_level, terminal=console.is_terminal)
    config = load_config(env, overrides, stages=config_types(), conf_dir=conf_dir)
    with Progress(console) as progress, ExitStack() as stack:
        with progress.task("starting Spark", unit=""):
            spark = stack.enter_context(opened_session(config.spark))
        yield _Opened(config, spark, Runner(spark, config, progress), console)


def _execute(
    stages: Sequence[Stage],
    env: str,
    overrides: Sequence[str],
    force: bool,
    conf_dir: str | None,
    log_level: str,
    *,
    whole: bool = False,
) -> None:
    # The configuration is checked, and the lake taken, before the seconds that a session takes.
    lake = load_config(env, overrides, stages=config_types(), conf_dir=conf_dir).lake
    command = "sparkml " + " ".join(stage.name for stage in stages)
    with lake_lock(lake, command) as locked, _opened(env, overrides, conf_dir, log_level) as opened:
        if locked:
            opened.runner.ledger.abandon_started()
        outcomes = run_stages(opened.runner, opened.console, stages, opened.config, force=force, whole=whole)
        screens.show_closing(opened.console, outcomes, opened.config)


def run_stages(
    runner: Runner,
    console: Console,
    stages: Sequence[Stage],
    config: ProjectConfig,
    *,
    force: bool,
    whole: bool,
) -> list[StageOutcome]:
    """Run stages in order. On the `whole` way, one that does not apply is left out, and what depends on it."""
    outcomes: list[StageOutcome] = []
    left_out: set[str] = set()
    for stage in stages:
        missing = left_out.intersection(upstream(stage, config.stages))
        if missing and not stage.always:
            left_out.add(stage.name)
            screens.show_left_out(console, stage, f"needs {', '.join(sorted(missing))}")
            continue
        try:
            outcome = runner.run(stage, force=force)
        except NotApplicableError as error:
            if not whole:
                raise
            left_out.add(stage.name)
            screens.show_left_out(console, stage, f"{error.what}; {error.next_action}")
            continue
        outcomes.append(outcome)
        screens.show_outcome(console, outcome)
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0 done, 1 the work failed, 2 wrong use or configuration."""
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except SparkmlError as error:
        Console(stderr=True).print(
            f"[bold red]error:[/] {_escape(error.message())}", highlight=False, soft_wrap=True
        )
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        Console(stderr=True).print("stopped; the same command goes on from here")
        return 1
    except Exception as error:
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception) -> int:
    """Wrong use as click tells it is 2; anything else is failed work: a line, and its trace in the log."""
    stderr = Console(stderr=True)
    shown = getattr(error, "format_message", None)
    if shown is not None:
        stderr.print(f"[bold red]error:[/] {_escape(shown())}", highlight=False, soft_wrap=True)
        stderr.print("  next: sparkml --help")
        return 2
    _log.error("unexpected error", exc_info=error)
    shown_line = f"{type(error).__name__}: {_escape(first_line(error))}"
    stderr.print(f"[bold red]error:[/] {shown_line}", highlight=False, soft_wrap=True)
    return 1


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
