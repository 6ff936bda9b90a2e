"""Which documents are learnt from, which are held out, and why the others are not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sparkml.frame.schemas import spark_schema
from sparkml.frame.splits import TRAIN, with_split
from sparkml.models.tokenizer import encode_batch, parse_tokenizer

TOKENS_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("label_id", pa.int32()),
        ("split", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
    ]
)
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class LabelCounts:
    """What the source table holds: all documents, their bytes of text, and documents by label."""

    documents: int
    text_bytes: int
    by_label: dict[str, int]

    def most_frequent(self, n_labels: int, min_documents: int) -> list[str]:
        """At most `n_labels` labels in alphabetical order; equal counts are decided by the name."""
        enough = [(label, count) for label, count in self.by_label.items() if count >= min_documents]
        ranked = sorted(enough, key=lambda pair: (-pair[1], pair[0]))
        return sorted(label for label, _ in ranked[:n_labels])


def count_labels(documents: DataFrame) -> LabelCounts:
    """One pass over the labels of a table."""
    counted = (
        documents.groupBy(_label().alias("label"))
        .agg(F.count(F.lit(1)).alias("n"), F.sum(F.octet_length("text")).alias("bytes"))
        .collect()
    )
    return LabelCounts(
        documents=sum(row["n"] for row in counted),
        text_bytes=sum(row["bytes"] or 0 for row in counted),
        by_label={row["label"]: row["n"] for row in counted if row["label"] is not None},
    )


@dataclass(frozen=True)
class Selection:
    """How documents are chosen."""

    labels: tuple[str, ...]
    validation_fraction: float
    seed: int
    max_train: int
    max_held_out: int


def with_reason(documents: DataFrame, duplicates: DataFrame, selection: Selection) -> DataFrame:
    """Add `split`, `place` (rank by hash within label and split), `cap` and `drop_reason` (null: used)."""
    split = with_split(documents, duplicates, selection.validation_fraction, selection.seed)
    labelled = split.withColumn("label", _label())
    known = F.col("text").isNotNull() & F.coalesce(F.col("label").isin(list(selection.labels)), F.lit(False))
    # Only documents that can be learnt are ranked: the others, often most, must not meet in one task.
    group = F.when(~known, F.xxhash64("doc_id"))
    by_hash = Window.partitionBy("label", "split", group).orderBy(
        F.xxhash64(F.lit(selection.seed).cast("long"), F.lit("finetune"), "doc_id"), "doc_id"
    )
    cap = F.when(F.col("split") == TRAIN, selection.max_train).otherwise(selection.max_held_out)
    ranked = labelled.withColumn("place", F.row_number().over(by_hash)).withColumn("cap", cap)
    return ranked.withColumn(
        "drop_reason",
        F.when(F.col("text").isNull(), "text_missing")
        .when(F.col("label").isNull(), "label_missing")
        .when(~F.col("label").isin(list(selection.labels)), "label_not_in_top_n")
        .when(F.col("place") > F.col("cap"), "over_label_cap"),
    )


def rejected(documents: DataFrame) -> DataFrame:
    """The rows of `rejects` for documents with a reason."""
    capped = F.col("drop_reason") == "over_label_cap"
    return documents.where(F.col("drop_reason").isNotNull()).select(
        "doc_id",
        "drop_reason",
        F.when(capped, F.col("place")).cast("double").alias("value"),
        F.when(capped, F.col("cap")).cast("double").alias("threshold"),
        F.col("label").alias("detail"),
    )


def tokens(documents: DataFrame, labels: Sequence[str], tokenizer: str, max_length: int) -> DataFrame:
    """The used documents as token ids; `tokenizer` is the content of a tokenizer.json."""
    used = documents.where(F.col("drop_reason").isNull()).select("doc_id", "label", "split", "text")
    return used.mapInArrow(_tokenise(tuple(labels), tokenizer, max_length), spark_schema(TOKENS_SCHEMA))


def _label() -> Column:
    trimmed = F.trim("label")
    return F.when(F.length(trimmed) > 0, trimmed)


def _tokenise(
    labels: tuple[str, ...], content: str, max_length: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def tokenise(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tokenizer = parse_tokenizer(content)
        index = {label: number for number, label in enumerate(labels)}
        for whole in batches:
            for start in range(0, whole.num_rows, _ROWS_AT_ONCE):
                batch = whole.slice(start, _ROWS_AT_ONCE)
                encoded = encode_batch(tokenizer, batch.column("text").to_pylist(), max_length)
                numbers = [index[label] for label in batch.column("label").to_pylist()]
                columns = [
                    batch.column("doc_id").cast(pa.string()),
                    pa.array(numbers, pa.int32()),
                    batch.column("split").cast(pa.string()),
                    pa.array(encoded, pa.list_(pa.int32())),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=TOKENS_SCHEMA)

    return tokenise
