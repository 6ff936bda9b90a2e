"""Where documents come from: a Delta table, a folder of files, a topic of Kafka. Each gives one shape of rows.

doc_id, the columns that the task reads, _order (later records of one document are larger),
source, locator, drop_reason, value, threshold, detail (of a record that is no document)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timezone

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from sparkml.errors import ConfigError, InputError
from sparkml.frame import storage
from sparkml.frame.ledger import FAILED
from sparkml.frame.run import StageRun
from sparkml.hosting.examples import Columns, examples_of
from sparkml.hosting.scoring import Answering
from sparkml.sources.kafka import KafkaConfig, documents_of, topic_stream
from sparkml.sources.listing import followed_file, followed_folder
from sparkml.sources.rows import rows_of
from sparkml.sources.splits import plan_files
from sparkml.stages.stream.config import StreamConfig

_PLACE = ("source", "locator", "drop_reason", "value", "threshold", "detail")
_FILES = "path string, modificationTime timestamp, length long, content binary"
_SPLIT_BYTES, _BATCH_BYTES = 64 * 1024**2, 4 * 1024**2
# Of what a task may read, how JSON spells it.
_TYPES = {"text": "string", "text_b": "string", "tokens": "array<string>", "media": "binary"}


@dataclass(frozen=True)
class Incoming(ABC):
    """A source that a stream follows."""

    job: StageRun
    config: StreamConfig
    scorer: Answering

    @property
    @abstractmethod
    def name(self) -> str:
        """What `scores` calls it; the checkpoint belongs to it."""

    @property
    def identity(self) -> str:
        """Changes where a stream cannot go on from a checkpoint: another source under the same name."""
        return self.name

    def version(self) -> int | None:
        """The version of a table; None where there are none."""
        return None

    @abstractmethod
    def stream(self, spark: SparkSession) -> DataFrame:
        """What comes, as Spark reads it."""

    @abstractmethod
    def records(self, job: StageRun, batch: DataFrame) -> DataFrame:
        """The rows of a micro-batch, in the one shape."""

    def latest(self, job: StageRun, documents: DataFrame) -> DataFrame:
        """One row for each `doc_id`: the last record of it."""
        others = [name for name in documents.columns if name not in ("doc_id", "_order")]
        last = documents.groupBy("doc_id").agg(F.max_by(F.struct(*others), "_order").alias("_last"))
        return last.select("doc_id", "_last.*")


class TableIncoming(Incoming):
    """A Delta table: of the lake, at a path or URI, of a catalog."""

    @property
    def name(self) -> str:
        return str(self.config.source)

    @property
    def identity(self) -> str:
        return f"{self.name} {self.job.tables.log(self.name).table_id()}"

    def version(self) -> int | None:
        return self.job.tables.version(self.name)

    def stream(self, spark: SparkSession) -> DataFrame:
        self.job.input_version(self.name)  # TableError where no successful run has left the table
        reader = spark.readStream.format("delta").option(
            "maxFilesPerTrigger", self.config.max_files_per_batch
        )
        if self.config.max_bytes_per_batch is not None:
            reader = reader.option("maxBytesPerTrigger", self.config.max_bytes_per_batch)
        # Rows of a file that was rewritten come again. Those that are as they were are known by their hash.
        reader = reader.option("ignoreChanges", "true")
        location = self.job.tables.locate(self.name)
        return reader.load(location.spark) if location.is_path else reader.table(location.spark)

    def records(self, job: StageRun, batch: DataFrame) -> DataFrame:
        failed = [run.run_id for run in job.ledger.runs() if run.status == FAILED and not run.counts]
        if failed and "run_id" in batch.columns:  # the run that repeats their work writes its own rows
            batch = batch.where(F.col("run_id").isNull() | ~F.col("run_id").isin(failed))
        where = f"table `{self.name}`"
        examples = examples_of(batch, self.scorer.task, self.config.columns, where=where, labelled=False)
        examples = examples.select("doc_id", *self.scorer.columns)
        nothing = {name: F.lit(None).cast("string") for name in ("locator", "drop_reason", "detail")}
        numbers = {name: F.lit(None).cast("double") for name in ("value", "threshold")}
        named = examples.where(F.col("doc_id").isNotNull()).withColumns({**nothing, **numbers})
        # A row without an id has no name but its content, and its number among equal ones.
        content = F.lower(F.hex(F.xxhash64(*self.scorer.columns)))
        nth = F.row_number().over(Window.partitionBy(content).orderBy(content))
        nameless = examples.where(F.col("doc_id").isNull()).withColumns(
            {
                **numbers,
                "locator": F.concat_ws("-", content, nth),
                "drop_reason": F.lit("missing_id"),
                "detail": F.lit("`doc_id` is null"),
            }
        )
        rows = named.unionByName(nameless.withColumn("doc_id", F.col("locator")))
        return rows.withColumns({"source": F.lit(self.name), "_order": F.lit(0)})

    def latest(self, job: StageRun, documents: DataFrame) -> DataFrame:
        """The row that the table has now; of one that is gone the largest hash, so that a repetition takes it, too."""
        columns = self.scorer.columns
        ids = documents.select("doc_id").distinct()
        now = examples_of(
            job.tables.read(self.name).join(ids, "doc_id", "left_semi"),
            self.scorer.task,
            self.config.columns,
            where=f"table `{self.name}`",
            labelled=False,
        )
        stands = now.groupBy("doc_id").agg(F.max(F.xxhash64(*columns)).alias("_stands"))
        own = F.xxhash64(*columns)
        order = F.struct(F.coalesce(own == F.col("_stands"), F.lit(False)), own)
        ordered = documents.join(stands, "doc_id", "left").withColumn("_order", order).drop("_stands")
        return super().latest(job, ordered)


class FilesIncoming(Incoming):
    """A folder that gets new files, of every format that `ingest` reads; a file is read once."""

    @property
    def name(self) -> str:
        return str(self.config.files.path)

    def stream(self, spark: SparkSession) -> DataFrame:
        folder = followed_folder(self.name)
        if not storage.exists(folder):
            raise InputError(
                "there is nothing at the path of the files",
                where=storage.redacted(self.name),
                next_action=f"make the folder, or check {self.job.step}.files.path",
            )
        reader = spark.readStream.format("binaryFile").schema(_FILES).option("recursiveFileLookup", "true")
        if self.config.max_bytes_per_batch is not None:
            reader = reader.option("maxBytesPerTrigger", self.config.max_bytes_per_batch)
        else:
            reader = reader.option("maxFilesPerTrigger", self.config.max_files_per_batch)
        # Only the names: the readers of `ingest` open the files, and say what is wrong with a record.
        return reader.load(_as_hadoop(self.name)).select("path", "modificationTime", "length")

    def records(self, job: StageRun, batch: DataFrame) -> DataFrame:
        source, location = self.config.files, self.name
        listed = batch.orderBy("modificationTime", "path").collect()  # max_files_per_batch of them
        files = [
            followed_file(
                row["path"],
                row["length"],
                row["modificationTime"].replace(tzinfo=timezone.utc).timestamp(),
                location,
                source.format,
            )
            for row in listed
        ]
        filesystem, root = storage.filesystem_of(followed_folder(location))
        options = source.read_options(
            location,
            source.dataset or root.rstrip("/").rpartition("/")[2],
            max_record_bytes=self.config.max_record_bytes,
            batch_bytes=_BATCH_BYTES,
            max_inflation=self.config.max_inflation,
        )
        rows = rows_of(batch.sparkSession, plan_files(filesystem, files, _SPLIT_BYTES), options)
        rank = batch.sparkSession.createDataFrame(
            [(file.uri, number) for number, file in enumerate(files)], "source string, _file long"
        )
        ranked = rows.join(F.broadcast(rank), "source").withColumn("_order", F.struct("_file", "position"))
        also = ("_order", *_PLACE)
        where = f"files below {storage.redacted(location)}"
        examples = examples_of(ranked, self.scorer.task, Columns(), where=where, labelled=False, also=also)
        return examples.select("doc_id", *self.scorer.columns, *also)


class TopicIncoming(Incoming):
    """A topic of Kafka."""

    @property
    def _kafka(self) -> KafkaConfig:
        return self.config.kafka

    @property
    def name(self) -> str:
        return f"kafka:{self._kafka.topic}"

    @property
    def identity(self) -> str:
        return f"{self.name} {self._kafka.servers}"

    def stream(self, spark: SparkSession) -> DataFrame:
        self._fields()
        return topic_stream(spark, self._kafka, self.config.max_rows_per_batch)

    def records(self, job: StageRun, batch: DataFrame) -> DataFrame:
        rows = documents_of(batch, self._kafka, self._fields())
        return rows.withColumns({name: F.lit(None).cast("double") for name in ("value", "threshold")})

    def _fields(self) -> dict[str, tuple[str, str]]:
        wanted = ["text"] if self._kafka.value == "text" else list(_TYPES)
        strange = [name for name in self.scorer.columns if name not in wanted]
        if strange:
            raise InputError(
                f"the task {self.scorer.task.name} reads what a topic's records do not hold",
                where=f"{self.job.step}.kafka.value = {self._kafka.value}",
                got=", ".join(strange),
                expected=", ".join(wanted),
            )
        return {name: (str(getattr(self.config.columns, name)), _TYPES[name]) for name in self.scorer.columns}


def incoming(job: StageRun, config: StreamConfig, scorer: Answering) -> Incoming:
    """The source that the configuration names; ConfigError where it names none."""
    if config.source is not None:
        return TableIncoming(job, config, scorer)
    if config.files.path is not None:
        return FilesIncoming(job, config, scorer)
    if config.kafka.topic is not None:
        return TopicIncoming(job, config, scorer)
    raise ConfigError(
        "the stream has nothing to follow",
        where=f"step `{job.step}`",
        expected="a Delta table, a folder of files, or a topic",
        next_action=f"{job.step}.source=TABLE, {job.step}.files.path=DIR, or {job.step}.kafka.servers=... "
        f"and {job.step}.kafka.topic=...",
    )


def _as_hadoop(location: str) -> str:
    """As the file source takes a path: a local one without percent signs, which it would take for letters."""
    if storage.is_remote(location):
        return storage.spark_uri(location)
    return f"file://{storage.local_path(location)}" if storage.scheme_of(location) == "file" else location
