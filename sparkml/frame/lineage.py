"""Lineage of one document: from a row back over the runs and versions that the ledger names, to its source.

A trace starts at the run that wrote the row. For every run on the way it shows what the run's tables say about the
document, at the version that the run left, and goes on with the versions that the run read, whatever the tables hold
today. Needs no JVM where the lake is a folder or URI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkml.errors import ConfigError, InputError
from sparkml.frame import storage
from sparkml.frame.ledger import Ledger, Run
from sparkml.frame.pipeline import MODEL_MARK, Step
from sparkml.frame.registry import ModelRecord, Registry
from sparkml.frame.stage import load_stage
from sparkml.frame.tables import Tables

_TEXT_SHOWN = 160
_ROWS_SHOWN = 20
_HIDDEN = ("run_id", "step", "stage", "media", "embedding")


@dataclass(frozen=True)
class Station:
    """One place on the way back: a title and its facts."""

    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TracedRun:
    """A run on the way of a document: what a stage's `trace` is given."""

    run: Run
    doc_id: str
    tables: Tables

    def rows(
        self,
        ref: str,
        column: str = "doc_id",
        value: str | None = None,
        where: Mapping[str, int] | None = None,
    ) -> list[dict[str, Any]]:
        """A few rows of a table as this run left it (or read it) whose `column` holds the document's id.

        `where`: what such a row has in other columns, where that tells which files need not be read.
        """
        version = self.run.outputs.get(ref, self.run.inputs.get(ref))
        if version is None:
            return []
        found = self.tables.log(ref).find(column, value or self.doc_id, version, _ROWS_SHOWN, where or {})
        return [row for row in found if row.get("step") in (None, self.run.step)]

    def outputs(self) -> list[str]:
        """The tables that the run wrote."""
        return [ref for ref in self.run.outputs if not ref.startswith(MODEL_MARK)]


def trace(tables: Tables, ledger: Ledger, table: str, doc_id: str) -> list[Station]:
    """Every station of `doc_id`, from `table` to its source; InputError where the table does not hold it."""
    version = tables.published(table, ledger.unfinished())
    if version is None:
        raise InputError(f"there is no table `{table}`", where=storage.redacted(tables.lake))
    log = tables.log(table)
    rows = log.find("doc_id", doc_id, version, _ROWS_SHOWN) or log.find(
        "doc_ids", doc_id, version, _ROWS_SHOWN
    )
    if not rows:
        raise InputError(
            f"table `{table}` has no document `{doc_id}`",
            where=storage.redacted(tables.lake),
            next_action="try `sparkml trace rejects DOC_ID` or `sparkml trace duplicates DOC_ID`",
        )
    walker = _Walker(tables, ledger, doc_id)
    stations = [
        station for run_id in dict.fromkeys(row["run_id"] for row in rows) for station in walker.walk(run_id)
    ]
    if not stations:  # rows of another program: all that is known about them
        stations = [Station(table, facts(row)) for row in rows]
    return [*stations, *walker.runs()]


def explain(tables: Tables, ledger: Ledger, steps: Sequence[Step], doc_id: str) -> list[Station]:
    """Why the last runs of steps decided so about a document; InputError where none of them has read it."""
    stations = []
    for step in steps:
        last = ledger.last_succeeded(step.name)
        if step.stage.explain is not None and last is not None:
            found = step.stage.explain(TracedRun(last, doc_id, tables))
            stations += [Station(f"{step.name}: {station.title}", station.facts) for station in found]
    if not stations:
        raise InputError(
            f"no run that decides about documents has read `{doc_id}`",
            where=storage.redacted(tables.lake),
            next_action="name the document by the `doc_id` that it has in bronze",
        )
    return stations


class _Walker:
    def __init__(self, tables: Tables, ledger: Ledger, doc_id: str) -> None:
        self._tables = tables
        self._ledger = ledger
        self._models = Registry(tables, ledger).models()
        self._doc_id = doc_id
        self._seen: dict[str, Run] = {}

    def walk(self, run_id: str | None) -> Iterator[Station]:
        run = self._ledger.run(run_id) if run_id else None
        if run is None or run.run_id in self._seen:
            return
        self._seen[run.run_id] = run
        yield from self._of(run)
        for ref, version in sorted(run.inputs.items(), key=lambda pair: not pair[0].startswith(MODEL_MARK)):
            if ref.startswith(MODEL_MARK):
                record = self._record(ref, version)
                yield from self.walk(record.stage_run if record else None)
            else:
                writer = self._ledger.writer_of(ref, version)
                yield from self.walk(writer.run_id if writer else None)

    def _of(self, run: Run) -> Iterator[Station]:
        traced = TracedRun(run, self._doc_id, self._tables)
        try:
            own = load_stage(run.stage).trace
        except ConfigError:  # a stage that is no longer installed
            own = None
        yield from (own or rows_of_document)(traced)
        for ref, version in run.outputs.items():
            record = self._record(ref, version)
            if record is not None:
                yield Station(f"model {record.model_id} version {record.version}", _model_facts(record))

    def _record(self, ref: str, version: int) -> ModelRecord | None:
        wanted = (ref.removeprefix(MODEL_MARK), version)
        return next((record for record in self._models if (record.model_id, record.version) == wanted), None)

    def runs(self) -> list[Station]:
        """The runs that were met on the way."""
        listed = tuple((run_id, _run_line(run)) for run_id, run in sorted(self._seen.items()))
        return [Station("runs", listed)] if listed else []


def rows_of_document(traced: TracedRun) -> Sequence[Station]:
    """What every table that the run wrote says about the document."""
    return [Station(_title(ref, row), facts(row)) for ref in traced.outputs() for row in traced.rows(ref)]


def _title(ref: str, row: Mapping[str, Any]) -> str:
    return f"rejected by {row['step'] or row['stage']}" if ref == "rejects" else ref


def facts(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The columns of a row that are not empty, shortened."""
    shown = ((name, _short(name, value)) for name, value in row.items() if name not in _HIDDEN)
    run = [("run_id", str(row["run_id"]))] if row.get("run_id") else []
    return (*((name, text) for name, text in shown if text), *run)


def _short(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(key, inner)}" for key, inner in value.items() if inner is not None)
    if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):
        return _short(name, dict(value))
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}…"


def _model_facts(record: ModelRecord) -> tuple[tuple[str, str], ...]:
    on = record.trained_on
    table = f"{on.table}@{on.version}" if on.table else ""
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(record.metrics.items()))
    named = (
        ("path", record.path),
        ("kind", record.kind),
        ("parent", record.parent or ""),
        ("manifest", on.manifest_id or ""),
        ("trained on", table),
        ("metrics", metrics),
        ("run_id", record.stage_run),
    )
    return tuple((name, value) for name, value in named if value)


def _run_line(run: Run) -> str:
    inputs = ", ".join(f"{ref}@{version}" for ref, version in run.inputs.items()) or "files"
    return (
        f"{run.status}, step {run.step}, from {inputs}, code {run.code_version} {(run.git_commit or '')[:10]}"
    )
