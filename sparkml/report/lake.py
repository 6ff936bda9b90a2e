"""What the report reads: tables that may not be there yet, the ledger, model folders that may lack a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from sparkml.frame.runs import MODELS, SUCCEEDED, RunLedger, StageRun
from sparkml.log import get_logger

_log = get_logger(__name__)
_MAX_JSON_BYTES = 16_000_000  # a curve or report that is larger is none of ours


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a document and what it is called."""

    doc_id: str
    name: str
    source: str
    label: str | None
    text: str


@dataclass(frozen=True)
class Model:
    """A row of `models`."""

    name: str
    path: str
    parent: str | None
    trained_on: str
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, row: Row) -> Model:
        """Named as its children name it: `model_id/vN`."""
        table = f"{row['trained_table']}@{row['trained_version']}" if row["trained_table"] else ""
        return cls(
            f"{row['model_id']}/v{row['version']}",
            row["path"],
            row["parent"],
            row["manifest_id"] or table,
            dict(row["metrics"] or {}),
        )


class Lake:
    """A lake as it stands, for a report."""

    def __init__(self, job: StageRun) -> None:
        self._job = job
        ledger = RunLedger(job.spark, job.tables)
        self.runs: list[Mapping[str, Any]] = [
            row.asDict(recursive=True) for row in ledger.rows() if row["run_id"] != job.run_id
        ]

    def table(self, ref: str) -> DataFrame | None:
        """The table, pinned; None where no stage has written it yet."""
        return self._job.read(ref) if self._job.tables.exists(ref) else None

    def version(self, ref: str) -> int | None:
        """The latest version of a table."""
        return self._job.tables.version(ref)

    def last_succeeded(self, stage: str) -> Mapping[str, Any] | None:
        """The latest run of a stage that succeeded."""
        done = [run for run in self.runs if run["stage"] == stage and run["status"] == SUCCEEDED]
        return done[-1] if done else None

    def metric(self, stage: str, *names: str) -> float | None:
        """The first of these metrics that the stage's last run wrote into the ledger."""
        run = self.last_succeeded(stage)
        metrics: Mapping[str, float] = (run or {}).get("metrics") or {}
        return next((metrics[name] for name in names if name in metrics), None)

    def model(self, model_id: str) -> Model | None:
        """The newest row of `models` for this model, leaving out what a run that did not succeed registered."""
        unfinished = {run["run_id"] for run in self.runs if run["status"] != SUCCEEDED}
        mine = [
            row for row in self._models if row["model_id"] == model_id and row["stage_run"] not in unfinished
        ]
        newest = max(mine, key=lambda row: int(row["version"]), default=None)
        return None if newest is None else Model.of(newest)

    @cached_property
    def _models(self) -> list[Row]:
        table = self.table(MODELS)
        return [] if table is None else table.collect()  # one row a model version

    def scored_model(self) -> tuple[str, int] | None:
        """The model version that the last scoring applied, as its inputs in the ledger say."""
        run = self.last_succeeded("score")
        for pair in (run or {}).get("inputs") or ():
            prefix, _, model_id = pair["table"].replace(":", "/").partition("/")
            if prefix == MODELS and model_id:
                return model_id, pair["version"]
        return None

    def documents(self, ref: str, doc_ids: Iterable[str], characters: int) -> dict[str, Excerpt]:
        """The beginnings of a few documents, by id: one pass over the table for all of them."""
        wanted = sorted(set(doc_ids))
        table = self.table(ref) if wanted else None
        if table is None:
            return {}
        columns = [
            F.col(name) if name in table.columns else F.lit(None).cast("string").alias(name)
            for name in _NAMES
        ]
        rows = table.where(F.col("doc_id").isin(wanted)).select(
            "doc_id", *columns, F.substring("text", 1, characters).alias("text")
        )
        return {row["doc_id"]: _excerpt(row.asDict()) for row in rows.collect()}


_NAMES = ("title", "url", "source", "label")


def _excerpt(row: Mapping[str, Any]) -> Excerpt:
    place = row["source"] or row["url"] or ""
    name = row["title"] or place.rstrip("/").rsplit("/", 1)[-1] or row["doc_id"]
    return Excerpt(row["doc_id"], name, place, row["label"], row["text"] or "")


def read_object(folder: str, name: str) -> dict[str, Any]:
    """A JSON object of a model folder; empty where the file is missing or is none."""
    text = _text_of(folder, name)
    try:
        value = json.loads(text) if text else {}
    except ValueError as error:
        _log.warning("%s/%s is not JSON: %s", folder, name, error)
        return {}
    return value if isinstance(value, dict) else {}


def read_lines(folder: str, name: str) -> list[dict[str, Any]]:
    """The JSON objects of a `.jsonl` file; a line that is none (a write that was cut short) is left out."""
    found = []
    for line in _text_of(folder, name).splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _text_of(folder: str, name: str) -> str:
    file = Path(folder) / name
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            _log.warning("%s has more than %d bytes and is left out of the report", file, _MAX_JSON_BYTES)
            return ""
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        _log.info("no %s for the report: %s", file, error)
        return ""


def number(values: Mapping[str, Any], *names: str) -> float | None:
    """The first of these keys that holds a finite number."""
    for name in names:
        value = values.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf"):
            return float(value)
    return None


def part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under a key; empty where there is none."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; empty where it is none."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def numbers(rows: Sequence[Mapping[str, Any]], x: str, *names: str) -> list[tuple[float, float]]:
    """The points (x, first of the names) of the rows that have both."""
    points = ((number(row, x), number(row, *names)) for row in rows)
    return [(at, value) for at, value in points if at is not None and value is not None]
