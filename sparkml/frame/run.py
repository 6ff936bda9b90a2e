"""One run of one step: what a stage gets to work with. Reads are pinned, writes are recorded and carry the run id."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sparkml.errors import TableError
from sparkml.frame import artifacts
from sparkml.frame.changes import Changes, changed_rows
from sparkml.frame.ledger import Ledger, Run, new_run_id, utc_now
from sparkml.frame.merging import merge_rows, take_over
from sparkml.frame.pipeline import model_ref
from sparkml.frame.registry import ModelRecord, Registry, TrainedOn, model_location
from sparkml.frame.schemas import SCHEMAS, without_run
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import Tables, Written, arrow_rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkml.frame.progress import Progress

REJECTS = "rejects"


class StageRun:
    """What `run(job, config)` of a stage is given."""

    def __init__(
        self,
        *,
        tables: Tables,
        ledger: Ledger,
        step: str,
        stage: str,
        fingerprint: str,
        artifacts: str,
        seed: int,
        progress: Progress,
        inputs: Mapping[str, int] | None = None,
        earlier: Run | None = None,
        intact: Callable[[Run], bool] = lambda run: True,
    ) -> None:
        self.tables = tables
        self.ledger = ledger
        self.registry = Registry(tables, ledger)
        self.step = step
        self.stage = stage
        self.fingerprint = fingerprint
        self.artifacts = artifacts
        self.seed = seed
        self.progress = progress
        self.run_id = new_run_id(step)
        self.started_at = utc_now()
        self.inputs: dict[str, int] = dict(inputs or {})
        self.outputs: dict[str, int] = {}
        # The step's last run that succeeded, where it did the same work: what it left can be brought up to date with
        # what has come to the inputs since.
        self.earlier = earlier
        self._is_intact = intact

    @property
    def spark(self) -> SparkSession:
        """The Spark session."""
        return self.tables.spark

    @property
    def lake(self) -> str:
        """The folder, URI or `catalog.schema` of the tables."""
        return self.tables.lake

    def within(self, spark: SparkSession) -> StageRun:
        """The same run on another session of the cluster: a micro-batch of a stream has one of its own."""
        other = copy.copy(self)
        other.tables = Tables(self.lake, lambda: spark)
        return other

    def read(self, ref: str) -> DataFrame:
        """A table at its pinned version: what successful runs had left when this run began, or at its first read."""
        frame = self.tables.read(ref, self.input_version(ref))
        unfinished = self.ledger.unfinished()
        if "run_id" not in frame.columns or len(unfinished) <= 1:
            return frame
        # In a shared table another step may have written after one that failed.
        return frame.where(frame.run_id.isNull() | ~frame.run_id.isin(sorted(unfinished)))

    def exists(self, ref: str) -> bool:
        """True where a successful run, or another program, has left the table."""
        return ref in self.inputs or self.tables.published(ref, self.ledger.unfinished()) is not None

    def input_version(self, ref: str) -> int:
        """The pinned version of a table that this run reads."""
        if ref not in self.inputs:
            version = self.tables.published(ref, self.ledger.unfinished())
            if version is None:
                raise TableError(
                    f"no successful run has left a table `{ref}`",
                    where=self.tables.locate(ref).identifier,
                    next_action="run the step that writes it first: `sparkml plan` shows the order",
                )
            self.inputs[ref] = version
        return self.inputs[ref]

    def changes(self, ref: str, since: Run, key: str) -> Changes | None:
        """What of a table that this run reads has changed since an earlier run of its step read it: `changed_rows`."""
        version = since.inputs.get(ref)
        if version is None:
            return None
        return changed_rows(
            self.tables,
            ref,
            version,
            self.input_version(ref),
            key=key,
            seen=since.started_at,
            unfinished=self.ledger.unfinished(),
        )

    def input_rows(self, ref: str) -> int:
        """Rows of a table that this run reads, from Delta's log: independent of what the stage counts."""
        return self.tables.log(ref).count(self.input_version(ref))

    def input_bytes(self, ref: str) -> int:
        """Bytes of the data files of a table that this run reads."""
        return self.tables.log(ref).size(self.input_version(ref))

    def rows(self, ref: str) -> pa.Table:
        """A small table that this run reads, without Spark; rows of runs that did not succeed are left out."""
        table = self.tables.log(ref).read(self.input_version(ref))
        if "run_id" not in table.column_names:
            return table
        return table.filter(
            pc.invert(pc.is_in(table.column("run_id"), pa.array(self.ledger.unfinished(), pa.string())))
        )

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

    def replace_slice(
        self, df: DataFrame, ref: str, where: Mapping[str, object], *, marked: bool = False
    ) -> Written:
        """Replace the rows of a shared table that this step owns. `marked`: rows that stay keep their run's id."""
        frame = df if marked else self._mark(df)
        written = self.tables.replace_slice(frame, ref, where, commit_info=self._commit_info())
        return self._record(written)

    def append(self, df: DataFrame, ref: str) -> Written:
        """Add rows."""
        return self._record(self.tables.append(self._mark(df), ref, commit_info=self._commit_info()))

    def merge(
        self, df: DataFrame, ref: str, where: Mapping[str, object], key: str, between: tuple[str, str]
    ) -> Written:
        """Replace the rows of the same key among those with the values of `where`, and add the others: one commit."""
        info = self._commit_info()
        return self._record(merge_rows(self.tables, self._mark(df), ref, where, key, between, info))

    def after(self, run: Run) -> StageRun:
        """The same run, where what an earlier one has left is brought to what it should be now."""
        other = copy.copy(self)
        other.earlier = run
        other.__dict__.pop("intact", None)
        return other

    @cached_property
    def intact(self) -> bool:
        """Whether the tables of this step are as the earlier run left them."""
        return self._is_intact(self._earlier)

    def left(self, ref: str) -> DataFrame:
        """A table as the earlier run of this step left it, whoever has written to it since."""
        return self.tables.read(ref, self._earlier.outputs[ref])

    def update(self, df: DataFrame, ref: str, key: str, touched: DataFrame | None = None) -> Written:
        """Bring a table of the step's own from what the earlier run left to what it should be, in one commit.

        Of the keys `touched` (a column of that name, distinct) it gets the rows of `df` and loses those that `df`
        lacks; None: all rows of `df` are new.
        """
        if not self.intact:
            stays = self.left(ref) if touched is None else self.left(ref).join(touched, key, "left_anti")
            rows = stays.unionByName(self._mark(df), allowMissingColumns=True)
            return self._record(self.tables.overwrite(rows, ref, commit_info=self._commit_info()))
        if touched is None:
            return self.append(df, ref)
        return self._record(take_over(self.tables, self._mark(df), touched, ref, key, self._commit_info()))

    def update_rejects(
        self, df: DataFrame, key: str, touched: DataFrame | None = None, table: str = REJECTS
    ) -> dict[str, int]:
        """The same for this step's rejects, where a key may have several; returns documents by reason, of all."""
        from pyspark.sql import functions as F

        if self.intact and touched is None:
            self.append(self._owned(df), table)
        else:
            mine = self.left(table).where(F.col("step") == self.step)
            stays = mine if touched is None else mine.join(touched, key, "left_anti").select(*mine.columns)
            rows = stays.unionByName(self._mark(self._owned(df)))
            self.replace_slice(rows, table, {"step": self.step}, marked=True)
        return self._reasons(table)

    @property
    def _earlier(self) -> Run:
        if self.earlier is None:
            raise AssertionError("no earlier run of this step did the same work")
        return self.earlier

    def put_rows(self, ref: str, rows: Sequence[Mapping[str, object]], key: str, schema: pa.Schema) -> None:
        """Add few rows to a table without Spark; rows of the same `key` go, and what this step's dead runs left."""
        log = self.tables.log(ref)
        data = arrow_rows(schema, [{**row, "run_id": self.run_id} for row in rows])
        dead: list[Mapping[str, object]] = [
            {"run_id": run_id} for run_id in self.ledger.failed_since_success(self.step)
        ]
        keys = [*({key: value} for value in dict.fromkeys(row[key] for row in rows)), *dead]
        if log.version() is None:
            version = log.append(data, self._commit_info())
        else:
            version = log.replace(data, keys, self._commit_info())
        self.outputs[ref] = version

    def write_rejects(self, df: DataFrame, table: str = REJECTS) -> dict[str, int]:
        """Replace this step's rejects; returns documents by reason, counted from what was written.

        `df` has `doc_id`, `drop_reason` and whatever it knows of the other columns of `rejects`.
        """
        mine = {"step": self.step}
        written = self.replace_slice(self._owned(df), table, mine)
        return self._reasons(table) if written.rows else {}

    def _owned(self, rejects: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        named = as_rejects(rejects)
        return named.withColumn("stage", F.lit(self.stage)).withColumn("step", F.lit(self.step))

    def _reasons(self, table: str) -> dict[str, int]:
        mine = {"step": self.step}
        return self.tables.log(table).counts("drop_reason", self.outputs[table], mine)

    def model(self, model: str) -> ModelRecord:
        """A model that this run starts from: the pinned version, a named one, or a directory; recorded as input."""
        record = self.registry.require(model, self.inputs.get(model_ref(model)))
        self.inputs[model_ref(record.model_id)] = record.version
        return record

    def next_version(self, model_id: str) -> int:
        """The version that this run makes of a model."""
        return self.registry.next_version(model_id, self.fingerprint)

    def model_location(self, model_id: str) -> str:
        """Where the files of the version that this run makes belong."""
        return model_location(self.artifacts, model_id, self.next_version(model_id))

    def new_model(self, model_id: str) -> AbstractContextManager[Path]:
        """A local folder that becomes the model's artifact when the block ends well."""
        return artifacts.new_artifact(self.model_location(model_id))

    def register(
        self,
        model_id: str,
        *,
        kind: str,
        parent: str | None,
        trained_on: TrainedOn,
        metrics: Mapping[str, float],
    ) -> ModelRecord:
        """Add the row of a finished model to the registry."""
        version = self.next_version(model_id)
        path = model_location(self.artifacts, model_id, version)
        record = ModelRecord(
            model_id, version, path, kind, parent, trained_on, metrics, self.run_id, self.fingerprint
        )
        self.registry.register(record, self.run_id)
        self.outputs[model_ref(model_id)] = version
        return record

    def account(
        self, source: str, kept: int, reasons: Mapping[str, int], metrics: Mapping[str, float] | None = None
    ) -> RunReport:
        """The report of a stage that decides about every row of a table which it reads as a whole."""
        return RunReport(
            rows_in=self.input_rows(source),
            rows_kept=kept,
            rows_rejected=sum(reasons.values()),
            reasons=reasons,
            bytes_in=self.input_bytes(source),
            metrics=metrics or {},
        )

    def record_output(self, name: str, version: int) -> None:
        """Record an output that is already as it should be, so that nothing was written."""
        self.outputs[name] = version

    def _mark(self, df: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        return df.withColumn("run_id", F.lit(self.run_id))

    def _record(self, written: Written) -> Written:
        self.outputs[written.table] = written.version
        return written

    def _commit_info(self) -> dict[str, str]:
        return {"run_id": self.run_id, "step": self.step, "fingerprint": self.fingerprint}


def as_rejects(df: DataFrame) -> DataFrame:
    """The columns of `rejects` that a stage decides, in their order and types; what it does not know is null."""
    from pyspark.sql import functions as F

    from sparkml.frame.spark_schemas import spark_schema

    fields = spark_schema(without_run(SCHEMAS[REJECTS])).fields
    known = set(df.columns)
    return df.select(
        *(
            (F.col(field.name) if field.name in known else F.lit(None)).cast(field.dataType).alias(field.name)
            for field in fields
            if field.name not in ("stage", "step")
        )
    )
