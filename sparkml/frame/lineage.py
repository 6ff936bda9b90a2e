"""Lineage of one document: from a score back to model, manifest, dedupe and clean decisions, and source."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyspark.sql import Column, Row
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.config import ProjectConfig
from sparkml.frame.runs import RunLedger
from sparkml.frame.tables import Tables

_TEXT_SHOWN = 160
_ROWS_SHOWN = 20


@dataclass(frozen=True)
class Step:
    """One station on the way back: a title and its facts."""

    title: str
    facts: tuple[tuple[str, str], ...]


def trace(tables: Tables, ledger: RunLedger, config: ProjectConfig, table: str, doc_id: str) -> list[Step]:
    """Every station of `doc_id`, from `table` to its source; InputError where the table lacks it."""
    column = "doc_ids" if table == "samples" else "doc_id"
    if column not in tables.read(table).columns:
        raise InputError(f"table `{table}` has no `doc_id`", expected="a table of documents, such as scores")
    if not _rows(tables, table, _holds(column, doc_id), limit=1):
        raise InputError(
            f"table `{table}` has no document `{doc_id}`",
            where=config.lake,
            next_action="`sparkml trace rejects DOC_ID` or `sparkml trace duplicates DOC_ID` may know it",
        )
    walker = _Walker(tables, ledger, doc_id)
    return [
        *walker.scores(),
        *walker.samples(),
        *walker.dedupe(),
        *walker.clean(),
        *walker.rejects(),
        *walker.source(),
        *walker.runs(),
    ]


def _holds(column: str, doc_id: str) -> Column:
    return F.array_contains(column, doc_id) if column == "doc_ids" else F.col(column) == doc_id


def _rows(tables: Tables, table: str, condition: Column, limit: int = _ROWS_SHOWN) -> list[Row]:
    """A few rows of one document: bounded, so that a driver never collects a corpus."""
    return tables.read(table).where(condition).limit(limit).collect() if tables.exists(table) else []


class _Walker:
    def __init__(self, tables: Tables, ledger: RunLedger, doc_id: str) -> None:
        self._tables = tables
        self._ledger = ledger
        self._doc_id = doc_id
        self._run_ids: list[str] = []

    def _find(self, table: str, condition: Column | None = None) -> list[Row]:
        found = _rows(
            self._tables, table, F.col("doc_id") == self._doc_id if condition is None else condition
        )
        self._run_ids += [row["run_id"] for row in found]
        return found

    def scores(self) -> list[Step]:
        steps = []
        for row in self._find("scores"):
            shown = _facts(
                row,
                "prediction",
                "score",
                "error",
                "model_id",
                "model_version",
                "input_table",
                "input_version",
                "run_id",
            )
            steps.append(Step("score", shown))
            steps += self._model(row["model_id"], row["model_version"])
        return steps

    def _model(self, model_id: str, version: int) -> list[Step]:
        """A model and its ancestors, each with what it was trained on."""
        found = self._find("models", (F.col("model_id") == model_id) & (F.col("version") == version))
        steps = []
        for row in found:
            metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(row["metrics"].items()))
            fields = (
                "path",
                "kind",
                "parent",
                "manifest_id",
                "trained_table",
                "trained_version",
                "stage_run",
            )
            steps.append(
                Step(f"model {model_id} version {version}", (*_facts(row, *fields), ("metrics", metrics)))
            )
            if row["manifest_id"]:
                steps += self._manifest(row["manifest_id"])
            if row["parent"]:
                parent, _, parent_version = row["parent"].rpartition("/v")
                steps += self._model(parent, int(parent_version))
        return steps

    def _manifest(self, manifest_id: str) -> list[Step]:
        steps = []
        for row in self._find("manifests", F.col("manifest_id") == manifest_id):
            facts = _facts(
                row,
                "table",
                "version",
                "split",
                "rows",
                "sequence_length",
                "tokenizer_hash",
                "seed",
                "run_id",
            )
            steps.append(Step(f"manifest {manifest_id}", (*facts, ("files", str(len(row["files"]))))))
        return steps

    def samples(self) -> list[Step]:
        found = self._find("samples", F.array_contains("doc_ids", self._doc_id))
        if not found:
            return []
        ids = ", ".join(str(row["sample_id"]) for row in sorted(found, key=lambda row: row["sample_id"]))
        more = f" (the first {_ROWS_SHOWN})" if len(found) == _ROWS_SHOWN else ""
        return [Step("training samples", (("split", found[0]["split"]), ("sample_id", ids + more)))]

    def dedupe(self) -> list[Step]:
        own = self._find("duplicates")
        steps = [
            Step(
                "duplicate, dropped",
                _facts(row, "kind", "similarity", "partner_id", "kept_id", "cluster_id", "run_id"),
            )
            for row in own
        ]
        copies = self._find("duplicates", F.col("kept_id") == self._doc_id)
        if copies:
            listed = tuple(
                (row["doc_id"], f"{row['kind']}, similarity {row['similarity']:.3f}") for row in copies
            )
            steps.append(Step(f"kept for its cluster {copies[0]['cluster_id']}; dropped instead", listed))
        elif not own and self._find("kept"):
            steps.append(Step("kept: it has no duplicate", ()))
        return steps

    def clean(self) -> list[Step]:
        steps = []
        for row in self._find("clean"):
            signals = row["signals"].asDict(recursive=True) if row["signals"] is not None else {}
            measured = ", ".join(f"{name} {_short(value)}" for name, value in signals.items())
            facts = _facts(row, "lang", "n_words", "label", "run_id")
            steps.append(Step("clean", (*facts, ("signals", measured), ("text", _excerpt(row["text"])))))
        return steps

    def rejects(self) -> list[Step]:
        fields = ("drop_reason", "value", "threshold", "detail", "source", "locator", "run_id")
        return [Step(f"rejected by {row['stage']}", _facts(row, *fields)) for row in self._find("rejects")]

    def source(self) -> list[Step]:
        fields = (
            "dataset",
            "source",
            "locator",
            "content_hash",
            "label",
            "url",
            "title",
            "ingested_at",
            "run_id",
        )
        return [Step("source", _facts(row, *fields)) for row in self._find("bronze")]

    def runs(self) -> list[Step]:
        """The runs met on the way, and the runs that fed them."""
        rows = {row["run_id"]: row for row in self._ledger.rows()}
        wanted = {run_id for run_id in self._run_ids if run_id in rows}
        queue = list(wanted)
        while queue:
            parents = [run for run in rows[queue.pop()]["parent_run_ids"] or [] if run in rows]
            queue += [run for run in parents if run not in wanted]
            wanted.update(parents)
        listed = tuple((run_id, _run_line(rows[run_id])) for run_id in sorted(wanted))
        return [Step("runs", listed)] if listed else []


def _run_line(row: Row) -> str:
    inputs = ", ".join(f"{item['table']}@{item['version']}" for item in row["inputs"] or []) or "files"
    commit = (row["git_commit"] or "")[:10]
    config = json.loads(row["config"]) if row["config"] else {}
    return f"{row['status']}, from {inputs}, code {row['code_version']} {commit}, {len(config)} settings"


def _facts(row: Row, *fields: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, _short(row[name])) for name in fields if row[name] is not None)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _TEXT_SHOWN else f"{flat[:_TEXT_SHOWN]}…"
