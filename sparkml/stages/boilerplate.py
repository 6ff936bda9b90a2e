"""Boilerplate: lines that the pages of a site have in common go: menus, headers, footers, notices.

A line counts once a page. What is in `min_pages` pages of a site, and in `min_share` of them, is not what one of
them is about. Where the site of a document is not known (no `url`), it stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType, LongType, StringType, StructField, StructType

from sparkml.frame.run import StageRun
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Writes

_SITE, _LINES, _REMOVED = "_site", "_lines", "_removed"
_KIND = "boilerplate"
_SPANS = ArrayType(StructType([StructField("start", IntegerType()), StructField("end", IntegerType())]))


class BoilerplateConfig(StageConfig):
    """What `conf/base/boilerplate.yaml` holds."""

    source: Reads = Field("clean", description="Documents with `url`")
    target: Writes = Field("trimmed", description="The same without common lines")
    removed_spans: Writes = Field(
        "removed_spans", description="What was cut: characters of the source's texts"
    )
    rejects: Shares = Field("rejects", description="Documents of which nothing is left")
    min_pages: int = Field(3, ge=2, description="Pages of a site that have a line, at least")
    min_share: float = Field(0.3, gt=0, le=1, description="Part of the site's pages that have it, at least")
    max_line_chars: int = Field(
        400, ge=1, description="Longer lines stay: a paragraph that is repeated is a duplicate, not a menu"
    )


def run(job: StageRun, config: BoilerplateConfig) -> RunReport:
    """Count the lines of each site, then cut; the decisions are kept on the executors' disks while they are written."""
    source = job.read(config.source)
    trimmed = transform(source, config).persist(StorageLevel.DISK_ONLY)
    try:
        columns = [name for name in source.columns if name != "run_id"]
        was_cut = F.size(_REMOVED) > 0
        is_gone = was_cut & (F.col("text") == "")
        counted = trimmed.agg(
            F.count_if(was_cut).alias("cut"),
            F.coalesce(F.sum(F.size(_REMOVED)), F.lit(0)).alias("lines"),
            F.coalesce(F.sum(F.octet_length("text")), F.lit(0)).alias("bytes"),
        ).collect()[0]
        kept = job.overwrite(trimmed.where(~is_gone).select(*columns), config.target)
        gone = trimmed.where(is_gone).select(
            "doc_id", F.lit("only_boilerplate").alias("drop_reason"), F.lit(0.0).alias("value")
        )
        reasons = job.write_rejects(gone, config.rejects)
        nobody = F.lit(None).cast("string").alias("partner_id")
        spans = trimmed.select("doc_id", F.explode(_REMOVED).alias("span"))
        named = spans.select("doc_id", "span.start", "span.end", F.lit(_KIND).alias("kind"), nobody)
        job.overwrite(named, config.removed_spans)
    finally:
        trimmed.unpersist()
    return job.account(
        config.source,
        kept.rows,
        reasons,
        {
            "documents_cut": counted["cut"],
            "lines_cut": counted["lines"],
            "text_bytes": counted["bytes"],
        },
    )


def transform(documents: DataFrame, config: BoilerplateConfig) -> DataFrame:
    """Documents with `text` and `n_words` of what is left, and `_removed`, the spans that were cut."""
    sited = documents.withColumn(_SITE, F.lower(F.try_parse_url("url", F.lit("HOST"))))
    pages = sited.where(F.col(_SITE).isNotNull() & F.col("text").isNotNull())
    hashes = StructType([StructField(_SITE, StringType()), StructField("hash", LongType())])
    of_pages = pages.select(_SITE, "text").mapInArrow(partial(_hash_lines, config.max_line_chars), hashes)
    sizes = pages.groupBy(_SITE).agg(F.count(F.lit(1)).alias("pages"))
    often = of_pages.groupBy(_SITE, "hash").count().where(F.col("count") >= config.min_pages)
    common = often.join(sizes, _SITE).where(F.col("count") >= F.col("pages") * config.min_share)
    listed = common.groupBy(_SITE).agg(F.sort_array(F.collect_list("hash")).alias(_LINES))
    schema = StructType([*documents.schema.fields, StructField(_REMOVED, _SPANS)])
    joined = sited.join(listed, _SITE, "left").drop(_SITE).select(*documents.columns, _LINES)
    return joined.mapInArrow(partial(_cut_batches, config.max_line_chars), schema)


def _hash_lines(most_chars: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A row for each different line of a page."""
    for batch in batches:
        sites: list[str] = []
        found: list[int] = []
        for site, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            mine = {_hash(line) for line in text.split("\n") if 0 < len(line.strip()) <= most_chars}
            sites += [site] * len(mine)
            found += mine
        yield pa.RecordBatch.from_arrays(
            [pa.array(sites, pa.string()), pa.array(found, pa.int64())], [_SITE, "hash"]
        )


def _cut_batches(most_chars: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Texts without the lines whose hashes are listed for their site."""
    from sparkml.kernels.texts import read_texts
    from sparkml.kernels.words import Memory, count_proper_words, find_words

    memory = Memory()
    for batch in batches:
        lists = batch.column(_LINES)
        texts, spans, changed = batch.column("text").to_pylist(), [], []
        for row, text in enumerate(texts):
            listed = lists[row].as_py() if text is not None else None
            texts[row], cut = without_lines(text, frozenset(listed), most_chars) if listed else (text, [])
            spans.append(cut)
            changed.append(bool(cut))
        new = pa.array(texts, batch.schema.field("text").type)
        columns = {name: batch.column(name) for name in batch.schema.names if name != _LINES}
        if any(changed):
            columns["text"] = new
            if "n_words" in columns:
                words = count_proper_words(find_words(read_texts(new), memory)).astype("int32")
                columns["n_words"] = pc.if_else(pa.array(changed), pa.array(words), columns["n_words"])
        kind = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
        columns[_REMOVED] = pa.array([[{"start": a, "end": b} for a, b in cut] for cut in spans], kind)
        yield pa.RecordBatch.from_pydict(columns)


def without_lines(text: str, listed: frozenset[int], most_chars: int) -> tuple[str, list[tuple[int, int]]]:
    """A text without its listed lines and what is blank around them, and where they were, in characters."""
    left, cut, at = [], [], 0
    for line in text.split("\n"):
        if 0 < len(line.strip()) <= most_chars and _hash(line) in listed:
            cut.append((at, at + len(line)))
        else:
            left.append(line)
        at += len(line) + 1
    if not cut:
        return text, []
    # Of the blank lines around one that is gone, one stays.
    closed = [line for n, line in enumerate(left) if line.strip() or (n > 0 and left[n - 1].strip())]
    return "\n".join(closed).strip("\n"), cut


def _hash(line: str) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(line.strip().encode("utf-8", "surrogatepass")) - (1 << 63)


STAGE = Stage(
    BoilerplateConfig, run, "lines that the pages of a site have in common go -> trimmed, removed_spans"
)
