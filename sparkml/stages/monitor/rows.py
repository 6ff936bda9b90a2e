"""Rows as they are watched: columns of one name, whatever the table calls them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.spark_schemas import spark_schema
from sparkml.hosting.queries import asked
from sparkml.monitoring.profile import ALL_ROWS
from sparkml.stages.monitor.config import MonitorConfig

Bits = NDArray[np.uint8]
# Bits of a vocabulary: of 100,000 words it takes one new word in a hundred for a known one.
VOCABULARY_BITS = 1 << 23
# Half of the reference's rows are its vocabulary; how many new words a row has is known of the other half.
TEACHES_WORDS = "(pmod(xxhash64(doc_id), 2) = 0)"
_OPTIONAL = ("text", "lang", "prediction", "score", "error", "label", "labelled_at", "embedding")
_LOOKED_AT = 2_000
_FACTS = [("words", pa.int32()), ("new_words", pa.float64()), ("found_lang", pa.string())]


def watched(
    job: StageRun, config: MonitorConfig, *, of_reference: bool, model: ModelRecord | None
) -> DataFrame:
    """The rows of the table, or of the reference: `doc_id`, `at`, `start` of the window (null: no time), what there is.

    Of texts `characters`, `text_hash`, `is_repeated` (in the window); `slices`: those that a row belongs to.
    """
    table = _table(job, config, of_reference=of_reference)
    columns = config.columns
    found = set(table.columns)
    for name in (columns.doc_id, columns.time, *config.numbers, *config.categories, *config.slices):
        if name is not None and name not in found:
            raise InputError(
                f"there is no column `{name}`",
                where=f"table `{_source(config, of_reference)}`",
                expected=", ".join(sorted(found)),
            )
    named = {"doc_id": F.col(columns.doc_id).cast("string")}
    named |= {name: F.col(getattr(columns, name)) for name in _OPTIONAL if getattr(columns, name) in found}
    named |= {f"number:{name}": F.col(name).cast("double") for name in config.numbers}
    named |= {f"category:{name}": F.col(name).cast("string") for name in config.categories}
    named |= {f"slice:{name}": F.col(name).cast("string") for name in config.slices}
    moment = F.col(columns.time).cast("timestamp") if columns.time else F.lit(None).cast("timestamp")
    rows = table.select(moment.alias("at"), *(value.alias(name) for name, value in named.items()))
    if columns.time:
        rows = rows.where(F.col("at").isNotNull())
    rows = _with_labels(job, config, _with_scores(job, config, rows, model))
    start = F.window("at", config.window)["start"] if columns.time else F.lit(None).cast("timestamp")
    rows = rows.withColumn("start", start)
    if "text" in rows.columns:
        alike = Window.partitionBy("start", "text_hash")
        rows = (
            rows.withColumn("characters", F.length("text"))
            .withColumn("text_hash", F.xxhash64("text"))
            .withColumn("is_repeated", F.col("text").isNotNull() & (F.count(F.lit(1)).over(alike) > 1))
        )
    parts = [F.concat(F.lit(f"{name}="), F.col(f"`slice:{name}`")) for name in config.slices]
    return rows.withColumn("slices", F.array_compact(F.array(F.lit(ALL_ROWS), *parts)))


def _source(config: MonitorConfig, of_reference: bool) -> str:
    return config.reference if of_reference and config.reference else config.source


def _table(job: StageRun, config: MonitorConfig, *, of_reference: bool) -> DataFrame:
    ref = _source(config, of_reference)
    version = config.reference_rows.version
    table = job.tables.read(ref, version) if of_reference and version is not None else job.read(ref)
    query = config.reference_query or config.query if of_reference else config.query
    if query is None:
        return table
    tables = {"source": table}
    if config.scores is not None:
        tables["scores"] = job.read(config.scores)
    where = "reference_query" if of_reference and config.reference_query else "query"
    return asked(job.spark, query, tables, where)


def _with_scores(
    job: StageRun, config: MonitorConfig, rows: DataFrame, model: ModelRecord | None
) -> DataFrame:
    if config.scores is None:
        return rows
    scores = job.read(config.scores)
    if model is not None:
        scores = scores.where(
            (F.col("model_id") == model.model_id) & (F.col("model_version") == model.version)
        )
    answers = scores.groupBy("doc_id").agg(
        F.max_by(F.struct("prediction", "score", "error"), "model_version").alias("answer")
    )
    own = [name for name in rows.columns if name not in ("prediction", "score", "error")]
    return rows.select(*(F.col(f"`{name}`") for name in own)).join(answers, "doc_id", "left").select(
        *(F.col(f"`{name}`") for name in own), "answer.prediction", "answer.score", "answer.error"
    )  # fmt: skip


def _with_labels(job: StageRun, config: MonitorConfig, rows: DataFrame) -> DataFrame:
    """Labels that are there by now; of several of a row the latest."""
    if config.labels is None or not job.exists(config.labels):
        return rows
    labels = job.read(config.labels)
    names = config.columns
    when = F.col(names.labelled_at) if names.labelled_at in labels.columns else F.lit(None)
    found = labels.select(
        F.col(names.doc_id).cast("string").alias("doc_id"),
        F.col(names.label).cast("string").alias("_label"),
        when.cast("timestamp").alias("_labelled_at"),
    ).where(F.col("_label").isNotNull())
    latest = found.groupBy("doc_id").agg(
        F.max_by(F.struct("_label", "_labelled_at"), F.coalesce("_labelled_at", F.lit("1970-01-01").cast("timestamp")))
        .alias("_given")
    )  # fmt: skip
    own = [name for name in rows.columns if name not in ("label", "labelled_at")]
    return rows.join(latest, "doc_id", "left").select(
        *(F.col(f"`{name}`") for name in own),
        F.col("_given._label").alias("label"),
        F.col("_given._labelled_at").alias("labelled_at"),
    )


def with_text_facts(rows: DataFrame, vocabulary: Bits | None, *, languages: bool) -> DataFrame:
    """Instead of `text`: its `words`, the share of `new_words` that the vocabulary lacks, and `found_lang`."""
    if "text" not in rows.columns:
        return rows
    kept = [name for name in rows.columns if name not in ("text", "embedding")]
    kinds = {field.name: field.type for field in _arrow_schema(rows)}
    schema = pa.schema([*((name, kinds[name]) for name in kept), *_FACTS])

    def facts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _facts(batch, kept, vocabulary, languages, schema)

    return rows.mapInArrow(facts, spark_schema(schema))


def _facts(
    batch: pa.RecordBatch, kept: list[str], vocabulary: Bits | None, languages: bool, schema: pa.Schema
) -> pa.RecordBatch:
    from sparkml.kernels.languages import detect
    from sparkml.kernels.overlap import word_hashes
    from sparkml.kernels.texts import contents, read_texts

    texts = batch.column("text")
    read = read_texts(texts)
    words, ends = word_hashes(read)
    counts = np.diff(ends)
    shares = np.full(len(counts), np.nan)
    if vocabulary is not None and len(words):
        is_new = np.concatenate([[0], np.cumsum(~_known(words[:, 2], vocabulary))])
        news = is_new[ends[1:]] - is_new[ends[:-1]]
        shares = np.divide(news, counts, out=shares, where=counts > 0)
    langs = [detect(text, _LOOKED_AT).lang for text in contents(read)] if languages else [None] * len(counts)
    nothing = np.asarray(texts.is_null())
    found = [
        pa.array(counts.astype(np.int32), mask=nothing),
        pa.array(shares, mask=nothing | np.isnan(shares)),
        pa.array(langs, pa.string(), mask=nothing),
    ]
    own = [batch.column(name).cast(schema.field(name).type) for name in kept]
    return pa.RecordBatch.from_arrays([*own, *found], schema=schema)


def _known(hashes: NDArray[np.int64], vocabulary: Bits) -> NDArray[np.bool_]:
    places = hashes.view(np.uint64) & np.uint64(VOCABULARY_BITS - 1)
    bits = vocabulary[(places >> np.uint64(3)).astype(np.int64)] >> (places & np.uint64(7)).astype(np.uint8)
    found: NDArray[np.bool_] = (bits & 1).astype(bool)
    return found


def vocabulary_of(texts: DataFrame) -> Bits:
    """The words of a column `text`, as bits: each task makes its own, one puts them together."""

    def of_words(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from sparkml.kernels.overlap import word_hashes
        from sparkml.kernels.texts import read_texts

        seen = np.zeros(VOCABULARY_BITS, bool)
        for batch in batches:
            words, _ = word_hashes(read_texts(batch.column("text")))
            seen[words[:, 2].view(np.uint64) & np.uint64(VOCABULARY_BITS - 1)] = True
        yield _packed(np.packbits(seen, bitorder="little"))

    def together(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = np.zeros(VOCABULARY_BITS // 8, np.uint8)
        for batch in batches:
            for bits in batch.column("bits"):
                found |= _unpacked(bits.as_py())
        yield _packed(found)

    of_tasks = texts.select("text").mapInArrow(of_words, "bits binary")
    (row,) = of_tasks.repartition(1).mapInArrow(together, "bits binary").collect()
    return _unpacked(row["bits"])


def _packed(bits: Bits) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"bits": [zlib.compress(bits.tobytes(), 1)]})


def _unpacked(content: bytes) -> Bits:
    return np.frombuffer(zlib.decompress(content), np.uint8)


def _arrow_schema(rows: DataFrame) -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(rows.schema, timezone="UTC")
