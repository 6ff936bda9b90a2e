"""Sample numbers and files: samples are numbered without gaps; the number decides file and row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.hosting.sizes import FileShape

# Parquet closes a row group at this many rows. Delta drops unknown write options but hands the session's
# Hadoop settings to the Parquet writer, so it has to be a setting of the session.
_ROWS_SETTING = "parquet.block.row.count.limit"
# Parquet also closes a row group at this many bytes: this limit must never be reached first.
_BYTES_SETTING = "parquet.block.size"
_DEFAULT_BLOCK_BYTES = 128 << 20
_OFFSETS_DDL = "split string, bucket int, first_id long, first_of_split long, first_file int"


@dataclass(frozen=True)
class Bucket:
    """The samples of one bucket of one split."""

    split: str
    bucket: int
    samples: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class Layout:
    """Where every sample lies. Splits follow each other in `sample_id`; a file holds samples of one split."""

    buckets: tuple[Bucket, ...]
    shape: FileShape

    @classmethod
    def of(cls, buckets: Iterable[Bucket], split_order: tuple[str, ...], shape: FileShape) -> Layout:
        """Buckets in the order of their numbers: by split, then by bucket."""
        ordered = sorted(buckets, key=lambda b: (split_order.index(b.split), b.bucket))
        return cls(tuple(ordered), shape)

    def samples_of(self, split: str) -> int:
        """How many samples a split has."""
        return sum(bucket.samples for bucket in self.buckets if bucket.split == split)

    @property
    def samples(self) -> int:
        """How many samples there are in all."""
        return sum(bucket.samples for bucket in self.buckets)

    @property
    def documents(self) -> int:
        """How many documents they are of."""
        return sum(bucket.documents for bucket in self.buckets)

    @property
    def tokens(self) -> int:
        """How many tokens the samples hold, padding left out."""
        return sum(bucket.tokens for bucket in self.buckets)

    @property
    def files(self) -> int:
        """How many files the samples fill."""
        return sum(self._files_of(self.samples_of(split)) for split in self._splits())

    def offsets(self) -> list[tuple[str, int, int, int, int]]:
        """Per bucket: split, bucket, its first sample id, the first sample id and file of its split."""
        rows = []
        next_id = next_file = 0
        for split in self._splits():
            first_of_split = next_id
            for bucket in (b for b in self.buckets if b.split == split):
                rows.append((split, bucket.bucket, next_id, first_of_split, next_file))
                next_id += bucket.samples
            next_file += self._files_of(next_id - first_of_split)
        return rows

    def _splits(self) -> list[str]:
        return list(dict.fromkeys(bucket.split for bucket in self.buckets))

    def _files_of(self, samples: int) -> int:
        return -(-samples // self.shape.rows_per_file)


def numbered(samples: DataFrame, layout: Layout, columns: Sequence[str], spark: SparkSession) -> DataFrame:
    """`sample_id`, `split` and `columns` of samples, one partition a file, in the order of the ids."""
    offsets = spark.createDataFrame(layout.offsets(), _OFFSETS_DDL)
    joined = samples.join(F.broadcast(offsets), ["split", "bucket"])
    sample_id = F.col("first_id") + F.col("nth")
    place = F.floor((sample_id - F.col("first_of_split")) / F.lit(layout.shape.rows_per_file)).cast("int")
    placed = joined.select(
        sample_id.alias("sample_id"),
        "split",
        *columns,
        (F.col("first_file") + place).alias("_file"),
    )
    # A hash of the file number could put two files into one partition; the number itself cannot.
    by_file = placed.repartitionById(max(layout.files, 1), F.col("_file"))
    return by_file.sortWithinPartitions("sample_id").drop("_file")


@contextmanager
def row_groups_of(spark: SparkSession, rows: int, row_bytes: float) -> Iterator[None]:
    """Parquet files written inside the block close a row group after every `rows` rows."""
    # Twice over: plain and dictionary-encoded pages are in memory at the same time. As much again for what varies.
    bytes_needed = int(2 * 2 * rows * row_bytes) + (16 << 20)
    wanted = {_ROWS_SETTING: str(rows), _BYTES_SETTING: str(max(bytes_needed, _DEFAULT_BLOCK_BYTES))}
    with _settings(spark, wanted):
        yield


@contextmanager
def _settings(spark: SparkSession, wanted: Mapping[str, str]) -> Iterator[None]:
    before = {key: spark.conf.get(key, None) for key in wanted}
    for key, value in wanted.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            if old is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, old)
