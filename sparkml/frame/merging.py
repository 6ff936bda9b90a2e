"""Rows that replace others of the same key: Delta's MERGE."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkml.frame.effects import effect

if TYPE_CHECKING:
    from delta.tables import DeltaMergeBuilder
    from pyspark.sql import Column, DataFrame, SparkSession

    from sparkml.frame.tables import Tables, Written

_TAKEN = "_taken"
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
    from sparkml.frame.tables import conform, sql_text

    low, high = (sql_text(value) for value in between)
    tests = [f"old.{name} = {sql_text(value)}" for name, value in where.items()]
    tests += [f"old.{key} >= {low}", f"old.{key} <= {high}", f"old.{key} = new.{key}"]

    def clauses(merge: DeltaMergeBuilder) -> DeltaMergeBuilder:
        return merge.whenMatchedUpdateAll().whenNotMatchedInsertAll()

    return _merged(tables, ref, conform(df, ref), " AND ".join(tests), clauses, commit_info)


def take_over(
    tables: Tables, df: DataFrame, ids: DataFrame, ref: str, key: str, commit_info: Mapping[str, str]
) -> Written:
    """Of the keys `ids` (one column, distinct) the table gets the rows of `df`, and loses those that `df` lacks.

    One commit. TableError or StorageError where it cannot be written.
    """
    from pyspark.sql import functions as F

    from sparkml.frame.tables import conform

    rows = conform(df, ref)
    named = ids.select(F.col(key).alias(_TAKEN))
    new = named.join(rows, named[_TAKEN] == rows[key], "left")
    values: dict[str, str | Column] = {name: f"new.`{name}`" for name in rows.columns}

    def clauses(merge: DeltaMergeBuilder) -> DeltaMergeBuilder:
        gone = f"new.{key} IS NULL"
        with_rows = merge.whenMatchedDelete(gone).whenMatchedUpdate(set=values)
        return with_rows.whenNotMatchedInsert(f"new.{key} IS NOT NULL", values)

    return _merged(tables, ref, new, f"old.{key} = new.{_TAKEN}", clauses, commit_info)


def _merged(
    tables: Tables,
    ref: str,
    new: DataFrame,
    condition: str,
    clauses: Callable[[DeltaMergeBuilder], DeltaMergeBuilder],
    commit_info: Mapping[str, str],
) -> Written:
    from delta.tables import DeltaTable
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    from sparkml.frame.tables import write_error

    location, spark = tables.locate(ref), tables.spark
    mark = json.dumps({**commit_info, "commit": uuid.uuid4().hex}, sort_keys=True)
    effect(f"table about to be written: {ref}")
    try:
        named = DeltaTable.forPath if location.is_path else DeltaTable.forName
        table = named(spark, location.spark).alias("old")
        with marked(spark, mark):
            clauses(table.merge(new.alias("new"), condition)).execute()
    except (PySparkException, Py4JError) as error:
        raise write_error(ref, location.identifier, error) from error
    effect(f"table committed: {ref}")
    return tables.commit_of(ref, mark)
