"""What `ingest` keeps of its sources, and what a part that has changed does to the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import MapType

from sparkml.frame.ledger import Run
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import SOURCES
from sparkml.frame.spark_schemas import spark_schema
from sparkml.sources.documents import ROW_SCHEMA
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.origin import Part

_REPEATED = "duplicate_id"
# Of a document these say when it was read, not what it is.
_NOT_CONTENT = ("ingested_at", "run_id")


def known_parts(job: StageRun, config: IngestConfig) -> dict[str, Part] | None:
    """What the earlier run read of which part, by its URI; None where it has left no word of it."""
    return None if job.earlier is None else _parts_of(job, config, job.earlier)


def _parts_of(job: StageRun, config: IngestConfig, run: Run) -> dict[str, Part] | None:
    version = run.outputs.get(config.parts)
    if version is None:
        return None
    rows = job.tables.log(config.parts).read(version)
    mine = rows.filter(pc.equal(rows.column("step"), job.step))
    return {row["source"]: Part(**row) for row in mine.select(list(Part._fields)).to_pylist()}


def put_parts(job: StageRun, config: IngestConfig, parts: Iterable[Part]) -> None:
    """Write down what was read of which part, instead of what was written before."""
    rows = [{"step": job.step, **part._asdict()} for part in parts]
    job.put_rows(config.parts, rows, "step", SOURCES)


def counted(parts: Sequence[Part], rows: DataFrame, earlier: Mapping[str, Part] | None = None) -> list[Part]:
    """Parts with the number of their records; of `earlier` ones the records are added to."""
    found = {row["source"]: row["count"] for row in rows.groupBy("source").count().collect()}
    before = {source: part.records for source, part in (earlier or {}).items()}
    return [part._replace(records=found.get(part.source, 0) + before.get(part.source, 0)) for part in parts]


def no_rows(spark: SparkSession) -> DataFrame:
    """A reading of nothing."""
    return spark.createDataFrame([], spark_schema(ROW_SCHEMA))


@dataclass(frozen=True)
class Change:
    """What a table of documents gets: `documents`, of the ids `touched` (None: all are new); and the `sources` whose
    rejects go."""

    documents: DataFrame
    touched: DataFrame | None
    sources: DataFrame | None


def change_of(job: StageRun, config: IngestConfig, documents: DataFrame, renewed: Collection[str]) -> Change:
    """What `documents` change, where all others of the parts `renewed` go. Those that are as they were stay untouched:
    whoever follows the table does not see them."""
    if not renewed:
        return Change(documents, None, None)
    sources = _listed(job, renewed)
    before = job.left(config.target).join(sources, "source", "left_semi")
    was = before.select("doc_id", content_of(before).alias("_was"))
    both = documents.withColumn("_is", content_of(documents)).join(was, "doc_id", "left")
    changed = both.where(~F.col("_is").eqNullSafe(F.col("_was")))
    same = both.where(F.col("_is").eqNullSafe(F.col("_was"))).select("doc_id")
    gone = was.join(same, "doc_id", "left_anti").select("doc_id")
    touched = gone.unionAll(changed.select("doc_id")).distinct()
    return Change(changed.drop("_is", "_was"), touched, sources)


def content_of(documents: DataFrame) -> Column:
    """A struct of all that a document is; maps as lists, which can be compared."""
    maps = {field.name for field in documents.schema.fields if isinstance(field.dataType, MapType)}
    return F.struct(
        *(
            F.map_entries(name).alias(name) if name in maps else F.col(name)
            for name in sorted(documents.columns)
            if name not in _NOT_CONTENT
        )
    )


def shares_ids(job: StageRun, config: IngestConfig, rows: DataFrame, renewed: Collection[str]) -> bool:
    """Whether an id is given twice, by these rows or by one of them and a document that stays, or was before."""
    if job.earlier is not None and job.earlier.reasons.get(_REPEATED):
        return True
    ids = rows.where(F.col("drop_reason").isNull()).select("doc_id")
    given, different = ids.agg(F.count("doc_id"), F.count_distinct("doc_id")).collect()[0]
    if given != different:
        return True
    stays = job.left(config.target).join(_listed(job, renewed), "source", "left_anti")
    return not stays.join(ids, "doc_id", "left_semi").isEmpty()


def _listed(job: StageRun, sources: Iterable[str]) -> DataFrame:
    """URIs as a table that is sent to every task."""
    return F.broadcast(job.spark.createDataFrame([(one,) for one in sorted(sources)], "source string"))


@dataclass(frozen=True)
class Staying:
    """Documents and rejects of parts that are gone, which stay where a source is read as a whole."""

    documents: DataFrame | None = None
    rejects: DataFrame | None = None
    parts: tuple[Part, ...] = ()

    @classmethod
    def of(cls, job: StageRun, config: IngestConfig, parts: Sequence[Part] | None) -> Staying:
        """Those of a step that keeps what has vanished."""
        last = job.ledger.last_succeeded(job.step)
        if config.vanished != "keep" or parts is None or last is None:
            return cls()
        here = {part.source for part in parts}
        known = _parts_of(job, config, last) or {}
        gone = tuple(part for source, part in known.items() if source not in here)
        if not gone or not {config.target, config.rejects} <= last.outputs.keys():
            return cls()
        sources = _listed(job, (part.source for part in gone))
        documents = job.tables.read(config.target, last.outputs[config.target])
        rejects = job.tables.read(config.rejects, last.outputs[config.rejects])
        return cls(
            documents.join(sources, "source", "left_semi").drop("run_id"),
            rejects.where(F.col("step") == job.step)
            .join(sources, "source", "left_semi")
            .drop("run_id", "step", "stage"),
            gone,
        )

    @property
    def records(self) -> int:
        """How many they are."""
        return sum(part.records for part in self.parts)

    def with_documents(self, documents: DataFrame) -> DataFrame:
        """These and those that were read."""
        return documents if self.documents is None else documents.unionByName(self.documents)

    def with_rejects(self, rejects: DataFrame) -> DataFrame:
        """These and those that were read."""
        return (
            rejects if self.rejects is None else rejects.unionByName(self.rejects, allowMissingColumns=True)
        )
