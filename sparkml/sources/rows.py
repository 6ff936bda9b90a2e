"""Splits -> a table of rows, on the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from sparkml.frame.spark_schemas import spark_schema
from sparkml.sources.documents import ROW_SCHEMA
from sparkml.sources.reader import split_reader
from sparkml.sources.records import ReadOptions, Split
from sparkml.sources.splits import splits_table


def rows_of(spark: SparkSession, splits: Sequence[Split], options: ReadOptions) -> DataFrame:
    """One row a record, as `documents.ROW_SCHEMA` says: a document, or a reject where `drop_reason` is set."""
    groups = 1 + max(split.group for split in splits)
    table = spark.createDataFrame(splits_table(splits)).repartitionById(groups, "group")
    return table.mapInArrow(split_reader(options), spark_schema(ROW_SCHEMA))
