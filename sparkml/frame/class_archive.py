"""An archive of the classes that Spark and Delta load, which an embedded session maps instead of reading them anew.

A JVM's first seconds go into finding, checking and linking some 15,000 classes in 300 jars (Java's "class data
sharing" does that once). `python -m sparkml.frame.class_archive` makes it for the environment it runs in. Java itself
sees whether an archive still fits its version and the jars, and does without where it does not.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sparkml.errors import MissingToolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

_MAKES = "-XX:ArchiveClassesAtExit"
_SECONDS = 300


def location() -> Path:
    """Where the archive of this environment lies."""
    return Path(sys.prefix, "share", "sparkml", "spark-classes.jsa")


def java_options(given: str) -> str:
    """The options of a driver's JVM with the archive, where there is one and it is not just being made."""
    if _MAKES in given or not location().is_file():
        return given
    # What Java says about an archive that does not fit would stand among a command's output.
    quiet = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")
    return " ".join([given, "-Xshare:auto", f'"-XX:SharedArchiveFile={location()}"', *quiet]).strip()


def make() -> Path:
    """Make the archive out of what a small job loads; it appears whole, in place of an older one.

    To be called in a process without a session. Raises MissingToolError where Java leaves none.
    """
    from sparkml.frame.config import load_config
    from sparkml.frame.session import DRIVER_OPTIONS, QUICK_COMPILER, build_session, stop_with_jvm

    target = location()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    properties = dict(load_config("local").spark)
    given = properties.get(DRIVER_OPTIONS, "")
    properties[DRIVER_OPTIONS] = f'{given} {QUICK_COMPILER} "{_MAKES}={part}"'.strip()
    spark = build_session(properties)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _small_job(spark, Path(folder))
        stop_with_jvm(spark, _SECONDS)  # which writes the archive at its end
        if not part.exists():
            raise MissingToolError("Java left no archive of classes", expected="Java 17 or newer (HotSpot)")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _small_job(spark: SparkSession, folder: Path) -> None:
    """What the steps do, once: read files, call Python, join, sort; write a table, replace a part of it, read it."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    def as_it_is(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    rows = spark.range(1000).select(F.col("id").cast("string").alias("doc_id"), F.col("id").alias("number"))
    rows.write.json(str(folder / "json"))
    rows.write.parquet(str(folder / "parquet"))
    documents = spark.read.schema(rows.schema).json(str(folder / "json"))
    told = spark.read.parquet(str(folder / "parquet")).mapInArrow(as_it_is, rows.schema)
    newest = Window.partitionBy("doc_id").orderBy(F.col("number").desc())
    joined = documents.join(told.select("doc_id"), "doc_id").withColumn("n", F.row_number().over(newest))
    kept = joined.where("n = 1").drop("n").sort("doc_id")
    table = str(folder / "table")
    kept.write.format("delta").save(table)
    kept.where("number < 10").write.format("delta").mode("append").save(table)
    kept.where("number < 10").write.format("delta").mode("overwrite").option(
        "replaceWhere", "number < 10"
    ).save(table)
    read = spark.read.format("delta").option("versionAsOf", 1).load(table)
    read.groupBy("number").agg(F.count(F.lit(1)), F.countDistinct("doc_id"), F.max("doc_id")).collect()


if __name__ == "__main__":
    sys.stdout.write(f"{make()}\n")
