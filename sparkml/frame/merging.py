"""Rows that replace others of the same key: Delta's MERGE."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkml.frame.effects import effect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkml.frame.tables import Tables, Written

_SESSION_MARK = "spark.databricks.delta.commitInfo.userMetadata"


@contextmanager
def marked(spark: SparkSession, mark: str) -> Iterator[None]:
    """Commits of the session carry `mark` while the block runs: where Delta does not ask the writer's own options."""
    before = spark.conf.get(_SESSION_MARK, None)
    spark.conf.set(_SESSION_MARK, mark)
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(_SESSION_MARK)
        else:
            spark.conf.set(_SESSION_MARK, before)


def merge_rows(
    tables: Tables,
    df: DataFrame,
    ref: str,
    where: Mapping[str, object],
    key: str,
    between: tuple[str, str],
    commit_info: Mapping[str, str],
) -> Written:
    """Replace the rows of the same `key` among those whose columns have the values of `where`, add the others.

    Every row of `df` has those values, a key of its own, and one between the two of `between`: files that hold no such
    row are not read. Only files with a replaced row are rewritten. TableError or StorageError where it cannot be
    written.
    """
    from delta.tables import DeltaTable
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    from sparkml.frame.tables import conform, sql_text, write_error

    location, spark = tables.locate(ref), tables.spark
    mark = json.dumps({**commit_info, "commit": uuid.uuid4().hex}, sort_keys=True)
    low, high = (sql_text(value) for value in between)
    tests = [f"old.{name} = {sql_text(value)}" for name, value in where.items()]
    tests += [f"old.{key} >= {low}", f"old.{key} <= {high}", f"old.{key} = new.{key}"]
    effect(f"table about to be written: {ref}")
    try:
        named = DeltaTable.forPath if location.is_path else DeltaTable.forName
        table = named(spark, location.spark).alias("old")
        merge = table.merge(conform(df, ref).alias("new"), " AND ".join(tests))
        with marked(spark, mark):
            merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    except (PySparkException, Py4JError) as error:
        raise write_error(ref, location.identifier, error) from error
    effect(f"table committed: {ref}")
    return tables.commit_of(ref, mark)
