"""Runs of stages: the ledger table `_runs`, fingerprints, and what a stage gets to work with."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import AccountingError, SparkmlError, TableError
from sparkml.frame.progress import Progress
from sparkml.frame.schemas import RUNS
from sparkml.frame.tables import Tables, Written
from sparkml.log import get_logger

_log = get_logger(__name__)

STARTED, SUCCEEDED, FAILED = "started", "succeeded", "failed"
LEDGER = "_runs"
REJECTS = "rejects"
MODELS = "models"


@dataclass(frozen=True)
class RunReport:
    """What a stage did. Rows in = rows kept + rows rejected, or the run fails."""

    rows_in: int
    rows_kept: int
    rows_rejected: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def check(self, stage: str) -> None:
        """Raise AccountingError where a row was lost or counted twice."""
        if self.rows_in != self.rows_kept + self.rows_rejected:
            raise AccountingError(
                f"stage `{stage}` lost rows or counted some twice",
                got=f"{self.rows_in} in, {self.rows_kept} kept, {self.rows_rejected} rejected",
                expected="rows in = rows kept + rows rejected",
            )


class StageRun:
    """One run of one stage: reads are pinned and recorded, writes are recorded and carry the run id."""

    def __init__(
        self,
        *,
        spark: SparkSession,
        tables: Tables,
        stage: str,
        fingerprint: str,
        artifacts: str,
        seed: int,
        progress: Progress,
        inputs: Mapping[str, int] | None = None,
    ) -> None:
        self.spark = spark
        self.tables = tables
        self.stage = stage
        self.fingerprint = fingerprint
        self.artifacts = artifacts.rstrip("/")
        self.seed = seed
        self.progress = progress
        self.run_id = new_run_id(stage)
        self.started_at = utc_now()
        self.inputs: dict[str, int] = dict(inputs or {})
        self.outputs: dict[str, int] = {}

    @property
    def lake(self) -> str:
        """The folder, URI or `catalog.schema` of the tables."""
        return self.tables.lake

    def read(self, ref: str, version: int | None = None) -> DataFrame:
        """A table at its pinned version: the given one, or the latest at the first read of this run."""
        if version is None:
            version = self.inputs.get(ref, self.tables.version(ref))
        frame = self.tables.read(ref, version)
        if version is not None:
            self.inputs[ref] = version
        return frame

    def input_version(self, ref: str) -> int:
        """The pinned version of a table that this run reads."""
        if ref not in self.inputs:
            raise TableError(f"table `{ref}` was not read by this run of `{self.stage}`")
        return self.inputs[ref]

    def overwrite(
        self,
        df: DataFrame,
        ref: str,
        partition_by: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
    ) -> Written:
        """Replace the whole table in one commit."""
        written = self.tables.overwrite(
            self._mark(df), ref, partition_by=partition_by, options=options, commit_info=self._commit_info()
        )
        return self._record(written)

    def replace_slice(self, df: DataFrame, ref: str, predicate: str) -> Written:
        """Replace the rows of a shared table that this stage owns."""
        written = self.tables.replace_slice(self._mark(df), ref, predicate, commit_info=self._commit_info())
        return self._record(written)

    def append(self, df: DataFrame, ref: str) -> Written:
        """Add rows."""
        return self._record(self.tables.append(self._mark(df), ref, commit_info=self._commit_info()))

    def write_rejects(self, df: DataFrame, table: str = REJECTS) -> dict[str, int]:
        """Replace this stage's rejects; returns documents by reason, counted from what was written."""
        mine = f"stage = '{self.stage}'"
        written = self.replace_slice(df.withColumn("stage", F.lit(self.stage)), table, mine)
        if written.rows == 0:
            return {}
        stored = self.tables.read(table, written.version).where(mine).groupBy("drop_reason").count().collect()
        return {row["drop_reason"]: row["count"] for row in sorted(stored)}

    def record_output(self, name: str, version: int) -> None:
        """Record an output that is no whole table, such as one model of the registry."""
        self.outputs[name] = version

    def _mark(self, df: DataFrame) -> DataFrame:
        return df.withColumn("run_id", F.lit(self.run_id))

    def _record(self, written: Written) -> Written:
        self.outputs[written.table] = written.version
        return written

    def _commit_info(self) -> dict[str, str]:
        return {"run_id": self.run_id, "stage": self.stage, "fingerprint": self.fingerprint}


class RunLedger:
    """The rows of `_runs`: one a run, replaced when the run ends."""

    def __init__(self, spark: SparkSession, tables: Tables) -> None:
        self._spark = spark
        self._tables = tables
        self._rows: list[Row] | None = None

    def rows(self) -> list[Row]:
        """All runs, oldest first. The ledger is small: one row a run of a stage."""
        if self._rows is None:
            exists = self._tables.exists(LEDGER)
            found = self._tables.read(LEDGER).collect() if exists else []
            self._rows = sorted(found, key=lambda row: str(row["run_id"]))
        return self._rows

    def last_succeeded(self, stage: str) -> Row | None:
        """The latest run of a stage that succeeded."""
        done = [row for row in self.rows() if row["stage"] == stage and row["status"] == SUCCEEDED]
        return done[-1] if done else None

    def writer_of(self, table: str, version: int) -> str | None:
        """The run that wrote a version of a table."""
        for row in reversed(self.rows()):
            if any(out["table"] == table and out["version"] == version for out in row["outputs"] or []):
                return str(row["run_id"])
        return None

    def model_version(self, model_id: str) -> int | None:
        """The latest version of a model, leaving out what a run that died or failed has registered."""
        if not self._tables.exists(MODELS):
            return None
        unfinished = [row["run_id"] for row in self.rows() if row["status"] != SUCCEEDED]
        mine = self._tables.read(MODELS).where(F.col("model_id") == model_id)
        newest = mine.where(~F.col("stage_run").isin(unfinished)).agg(F.max("version")).collect()[0][0]
        return None if newest is None else int(newest)

    def start(self, job: StageRun, context: Mapping[str, Any]) -> None:
        """Write the `started` row, before any work."""
        self._put(self._row(job, STARTED, context, None, None), replace=False)

    def finish(self, job: StageRun, context: Mapping[str, Any], report: RunReport) -> None:
        """Write the `succeeded` row: the last commit of a run."""
        self._put(self._row(job, SUCCEEDED, context, report, None), replace=True)

    def fail(self, job: StageRun, context: Mapping[str, Any], error: BaseException) -> None:
        """Write the `failed` row with the error's text."""
        text = error.message() if isinstance(error, SparkmlError) else f"{type(error).__name__}: {error}"
        self._put(self._row(job, FAILED, context, None, text[:4000]), replace=True)

    def abandon_started(self) -> list[str]:
        """Runs that neither succeeded nor failed died with their driver: nobody else holds the lake now."""
        dead = [row for row in self.rows() if row["status"] == STARTED]
        if dead:
            ids = [row["run_id"] for row in dead]
            fields = [{**row.asDict(), "status": FAILED, "error": "the driver died"} for row in dead]
            listed = ", ".join(f"'{run_id}'" for run_id in ids)
            self._commit(fields, f"run_id IN ({listed})")
            _log.warning("runs that died half-way before: %s", ", ".join(ids))
            return ids
        return []

    def _put(self, row: dict[str, Any], *, replace: bool) -> None:
        self._commit([row], f"run_id = '{row['run_id']}'" if replace else None)

    def _commit(self, rows: list[dict[str, Any]], predicate: str | None) -> None:
        before = self.rows()
        values = [tuple(row.get(name) for name in RUNS.names) for row in rows]
        frame = self._spark.createDataFrame(values, RUNS).coalesce(1)
        if predicate is None:
            self._tables.append(frame, LEDGER)
        else:
            self._tables.replace_slice(frame, LEDGER, predicate)
        # The lake is ours while we run: what was just written need not be read again.
        new = {row["run_id"]: _as_row(row) for row in rows}
        self._rows = [row for row in before if row["run_id"] not in new] + list(new.values())

    def _row(
        self,
        job: StageRun,
        status: str,
        context: Mapping[str, Any],
        report: RunReport | None,
        error: str | None,
    ) -> dict[str, Any]:
        ended = None if status == STARTED else utc_now()
        parents = sorted(
            {run for ref, v in job.inputs.items() if (run := self.writer_of(ref, v)) is not None}
        )
        row: dict[str, Any] = {
            "run_id": job.run_id,
            "parent_run_ids": parents,
            "stage": job.stage,
            "fingerprint": job.fingerprint,
            "status": status,
            "started_at": job.started_at,
            "ended_at": ended,
            "inputs": sorted(job.inputs.items()),
            "outputs": sorted(job.outputs.items()),
            "seconds": (ended - job.started_at).total_seconds() if ended else None,
            "error": error,
            **context,
        }
        if report is not None:
            row |= {
                "rows_in": report.rows_in,
                "rows_kept": report.rows_kept,
                "rows_rejected": report.rows_rejected,
                "reasons": dict(report.reasons),
                "bytes_in": report.bytes_in,
                "metrics": {name: float(value) for name, value in report.metrics.items()},
            }
        return row


def _as_row(values: Mapping[str, Any]) -> Row:
    """A ledger row as reading the table would give it."""
    pairs = {
        name: [Row(table=item[0], version=item[1]) for item in values.get(name) or []]
        for name in ("inputs", "outputs")
    }
    return Row(**{name: pairs.get(name, values.get(name)) for name in RUNS.names})


def model_ref(model_id: str) -> str:
    """How the ledger names a model among the tables that a run reads and writes."""
    return f"{MODELS}:{model_id}"


def new_run_id(stage: str) -> str:
    """Sorts by time; unique without a coordinator."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{stage}-{secrets.token_hex(3)}"


def utc_now() -> datetime:
    """Now, with its zone: naive datetimes take the session's zone when Spark reads them."""
    return datetime.now(timezone.utc)


def resolved_config_json(config: Mapping[str, Any]) -> str:
    """The configuration as the ledger keeps it."""
    return json.dumps(config, sort_keys=True, default=str)
