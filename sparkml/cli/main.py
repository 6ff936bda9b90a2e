"""The commands: `run`, `run-all`, `train`, `serve`, `label`, `plan`, `estimate`, `runs`, `trace` and others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from sparkml import __version__
from sparkml.cli import screens
from sparkml.cli.choice import Choice, ConfDir, PipelineName, chosen
from sparkml.cli.databricks import job_yaml
from sparkml.cli.serving import label, serve
from sparkml.errors import SparkmlError, UsageError
from sparkml.frame.checks import check_storage, everything_is_there
from sparkml.frame.config import DEFAULT_PIPELINE, ProjectConfig
from sparkml.frame.config_layers import parse_settings
from sparkml.frame.estimate import estimate as estimated
from sparkml.frame.lineage import explain as explained
from sparkml.frame.lineage import trace as trace_document
from sparkml.frame.locks import lake_lock
from sparkml.frame.pipeline import Step
from sparkml.frame.progress import Progress
from sparkml.frame.runner import Runner
from sparkml.frame.session import Session
from sparkml.frame.stage import Cluster
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
A pipeline (`conf/pipelines/NAME.yaml`, or any file) names its **steps**; a step is a use of a **stage**. Steps run in
the order that follows from what they read and write. `--pipeline default` carries documents to scores; `curate` makes
no model; `reviews` learns from labelled short texts.

**Examples**

`sparkml run-all --env local` — the installed Python documentation, from source to report

`sparkml run-all --pipeline reviews lake=./reviews ingest.source.path=/data/reviews.csv ingest.source.label_field=stars`

`sparkml steps --pipeline reviews` — its steps; `sparkml steps clean` — every field of one

`sparkml run clean dedupe clean.gopher_quality.min_words=20` — two steps with another setting

`sparkml plan clean.gopher_quality.min_words=20` — every key with its value and origin, and what would run

**Exit codes**: 0 done, 1 the work failed, 2 wrong use or configuration
"""

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, for example clean.gopher_quality.min_words=20.")
]
Force = Annotated[bool, typer.Option("--force", help="Run even what is up to date.")]
LogLevel = Annotated[str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")]


@app.command(epilog=EPILOG)
@chosen
def run(
    words: Annotated[
        list[str], typer.Argument(help="Steps, then key=value overrides.", metavar="STEP... [KEY=VALUE]...")
    ],
    *,
    choice: Choice,
    force: Force = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run nothing: read again what the steps have pinned.")
    ] = False,
    log_level: LogLevel = "INFO",
) -> None:
    """Run some steps of a pipeline, in its order. What is up to date is skipped."""
    config, steps = _named(words, choice)
    if verify:
        with _opened(config, log_level) as opened:
            for step in steps:
                screens.show_verified(opened.console, step, opened.runner.verify(step))
        return
    _execute(config, steps, force, log_level)


@app.command("run-all", epilog=EPILOG)
@chosen
def run_all(
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option("--until", help="Last step to run.")] = None,
    *,
    choice: Choice,
    force: Force = False,
    log_level: LogLevel = "INFO",
) -> None:
    """Run all steps of a pipeline.

    A step that does not apply (learning labels, where documents have none) is left out, and what depends on it.
    """
    config = choice.load(overrides)
    _execute(config, config.pipeline.until(until), force, log_level, whole=True)


@app.command()
def train(
    job: Annotated[
        str, typer.Argument(help="job.json, or the folder that holds it: a step with ranks=0 names it.")
    ],
    out: Annotated[str, typer.Option("--out", help="The model directory to write: a folder or a URI.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Other settings of the loop: learning_rate=0.0001.")
    ] = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Train in this process, without Spark and without Java, what a step has prepared.

    `sparkml run STEP STEP.ranks=0` encodes the samples, pins them and writes the job; this trains it on a machine that
    sees the same storage, on its GPU where it has one. The same command goes on from the last checkpoint.
    """
    from sparkml.training.alone import read_job, train_alone

    console = screens.open_console()
    configure_logging(log_level, terminal=console.is_terminal)
    given = parse_settings(settings or ())
    with Progress(console) as progress, progress.task("train", total=None, unit="steps") as shown:

        def told(step: int, total: int, values: Mapping[str, float]) -> None:
            note = f"loss {values['train_loss']:.3f}, {values['tokens_per_second']:,.0f} tokens/s"
            shown.update(step, total=total, note=note)

        measured = train_alone(read_job(job), out, given, told)
    screens.show_trained(console, out, measured)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="A model directory with weights of torch or GGUF, or a .gguf file.")
    ],
    out: Annotated[str, typer.Argument(help="The model directory to write: a folder or a URI.")],
) -> None:
    """Write a model with weights of another form as a directory with safetensors.

    Pickled weights are read as tensors alone; what would run code is refused. GGUF (pip install gguf) becomes
    float32.
    """
    from sparkml.models.convert import convert as write_converted

    screens.show_converted(screens.open_console(), out, write_converted(source, out))


@app.command(epilog=EPILOG)
@chosen
def plan(overrides: Overrides = None, *, choice: Choice) -> None:
    """Show the resolved configuration with each value's origin, and which steps would run. Nothing is run."""
    with _opened(choice.load(overrides), "WARNING") as opened:
        screens.show_config(opened.console, opened.config)
        states = [opened.runner.state(step) for step in opened.config.pipeline.steps]
        screens.show_plan(opened.console, states, opened.config)


@app.command(epilog=EPILOG)
@chosen
def estimate(
    words: Annotated[
        list[str], typer.Argument(help="Steps, then key=value overrides.", metavar="STEP... [KEY=VALUE]...")
    ],
    *,
    choice: Choice,
    times: Annotated[
        float, typer.Option("--times", min=0, help="Rows, as a multiple of the last run's.")
    ] = 1.0,
    slots: Annotated[
        int, typer.Option("--slots", min=0, help="Task slots of the cluster; 0: as the run had.")
    ] = 0,
    gigabits: Annotated[
        float, typer.Option("--gigabits", min=0.001, help="Network of a host, per second.")
    ] = 10.0,
) -> None:
    """What steps would take for a larger corpus on another cluster: time, memory, shuffles, storage.

    From what runs on samples in this lake have used, best of two sizes. Ranks and batch of a training are its settings:
    `sparkml estimate train train.ranks=100 train.batch_size=3200 --times 1000`.
    """
    config, steps = _named(words, choice)
    cluster = Cluster(times, slots, gigabits)
    with _opened(config, "WARNING") as opened:
        runner = opened.runner
        found = [estimated(runner.ledger, runner.tables, step, cluster) for step in steps]
        screens.show_estimates(opened.console, found)


@app.command(epilog=EPILOG)
@chosen
def runs(
    overrides: Overrides = None,
    *,
    choice: Choice,
    last: Annotated[int, typer.Option("--last", min=1, help="How many runs to show.")] = 30,
) -> None:
    """Show the ledger: every run of every step with its rows, reasons, seconds and status."""
    with _opened(choice.load(overrides), "WARNING") as opened:
        screens.show_runs(opened.console, opened.runner.ledger.runs()[-last:], opened.config.lake)


@app.command(epilog=EPILOG)
@chosen
def trace(
    table: Annotated[
        str, typer.Argument(help="A table with doc_id: scores, kept, clean, duplicates, rejects, bronze.")
    ],
    doc_id: Annotated[str, typer.Argument(help="The document.")],
    overrides: Overrides = None,
    *,
    choice: Choice,
) -> None:
    """Walk from a row back over models, manifests, decisions and versions to its source."""
    with _opened(choice.load(overrides), "WARNING") as opened:
        stations = trace_document(opened.runner.tables, opened.runner.ledger, table, doc_id)
        screens.show_trace(opened.console, table, doc_id, stations)


@app.command(epilog=EPILOG)
@chosen
def explain(
    doc_id: Annotated[str, typer.Argument(help="The document, by its id in bronze.")],
    overrides: Overrides = None,
    *,
    choice: Choice,
) -> None:
    """Show why a document was kept or dropped: every signal beside its limits."""
    with _opened(choice.load(overrides), "WARNING") as opened:
        runner = opened.runner
        stations = explained(runner.tables, runner.ledger, opened.config.pipeline.steps, doc_id)
        screens.show_trace(opened.console, "document", doc_id, stations)


@app.command(epilog=EPILOG)
@chosen
def steps(
    step: Annotated[str | None, typer.Argument(help="A step: shows its fields with their meaning.")] = None,
    *,
    choice: Choice,
) -> None:
    """Show a pipeline's steps in their order, with what each reads and makes, or every field of one step."""
    config = choice.load(known=everything_is_there)
    console = screens.open_console()
    if step is None:
        screens.show_steps(console, config)
    else:
        screens.show_step(console, config, config.pipeline.step(step))


@app.command(epilog=EPILOG)
@chosen
def report(overrides: Overrides = None, *, choice: Choice) -> None:
    """Write the HTML report of the lake as it stands, and print its path."""
    config = choice.load(overrides)
    _execute(config, [step for step in config.pipeline.steps if step.stage.last], True, "INFO")


@app.command(epilog=EPILOG)
def bundle(pipeline: PipelineName = DEFAULT_PIPELINE, conf_dir: ConfDir = None) -> None:
    """Print the Databricks job of a pipeline: a task a step, each after those whose outputs it takes."""
    choice = Choice(pipeline, "databricks", conf_dir)
    print(job_yaml(choice.load(known=everything_is_there)), end="")


app.command(epilog=EPILOG)(serve)
app.command(epilog=EPILOG)(label)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _named(words: Sequence[str], choice: Choice) -> tuple[ProjectConfig, list[Step]]:
    """The configuration with the overrides among some words, and the steps that the others name."""
    names = [word for word in words if "=" not in word]
    config = choice.load([word for word in words if "=" in word])
    if not names:
        raise UsageError("no step is named", expected=", ".join(config.pipeline.by_name))
    return config, list(config.pipeline.chosen(names))


@dataclass(frozen=True)
class _Opened:
    config: ProjectConfig
    runner: Runner
    console: Console


@contextmanager
def _opened(config: ProjectConfig, log_level: str) -> Iterator[_Opened]:
    """A resolved configuration and a runner; a session starts when something needs it, and ends with the block."""
    console = screens.open_console()
    configure_logging(log_level, terminal=console.is_terminal)
    with Progress(console) as progress, Session(config.spark, progress) as session:
        yield _Opened(config, Runner(session, config, progress, expect=session.expect), console)


def _execute(
    config: ProjectConfig,
    steps: Sequence[Step],
    force: bool,
    log_level: str,
    *,
    whole: bool = False,
) -> None:
    # Refuse what cannot work, and lock the lake, before waiting for a session.
    check_storage(config)
    command = "sparkml " + " ".join(step.name for step in steps)
    with lake_lock(config.lake, command) as locked, _opened(config, log_level) as opened:
        if locked:
            opened.runner.ledger.abandon_started()
        console = opened.console
        outcomes = opened.runner.run_steps(
            steps,
            force=force,
            whole=whole,
            on_outcome=lambda outcome: screens.show_outcome(console, outcome),
            on_left_out=lambda step, why: screens.show_left_out(console, step, why),
        )
        screens.show_closing(console, outcomes, config)


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
    """Wrong use, as click reports it, gives 2; anything else is failed work: one line, and the traceback in the log."""
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
