"""What has changed in a table since a version: by Delta's change feed, or by the files that were added."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sparkml.frame import storage
from sparkml.log import get_logger

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkml.frame.tables import Tables

_log = get_logger(__name__)
CHANGED_ID = "_id"
_PATTERN = frozenset("*?[]{}\\")
_NEWEST, _VACUUM = "_newest", "VACUUM END"


@dataclass(frozen=True)
class Changes:
    """Per key its rows as they are now, of those that commits have touched.

    Columns of the table, all null where the row is gone, and the key as `_id`. `only_added`: no row went or changed.
    """

    rows: DataFrame
    only_added: bool


def changed_rows(
    tables: Tables, ref: str, since: int, until: int, *, key: str, seen: datetime, unfinished: Collection[str]
) -> Changes | None:
    """What commits after version `since` and until version `until` have done to a table, row by `key`.

    None where that cannot be told, or is no less work than reading the table: the table was replaced, its changes are
    not kept, a run of `unfinished` has written to it, or it is not the one that had version `since` at the time `seen`.
    """
    if not _is_told(tables, ref, since, until, seen, unfinished):
        return None
    added = _added(tables, ref, since, until, key)
    if added is not None:
        return Changes(added, only_added=True)
    fed = _from_feed(tables, ref, since, until, key)
    return None if fed is None else Changes(fed, only_added=False)


def _is_told(
    tables: Tables, ref: str, since: int, until: int, seen: datetime, unfinished: Collection[str]
) -> bool:
    for commit in tables.log(ref).commits():
        if commit.version > until:
            continue
        if commit.version <= since:
            return commit.version == since and commit.at is not None and commit.at <= seen
        if commit.replaces_all or commit.run_id in unfinished or commit.operation == _VACUUM:
            return False
    return False


def _added(tables: Tables, ref: str, since: int, until: int, key: str) -> DataFrame | None:
    """The rows of files that were added; None where a file went, or where a plain reader would read them wrongly."""
    from pyspark.sql import functions as F

    location = tables.locate(ref)
    if not location.is_path:
        return None
    paths = tables.log(ref).added_files(since, until)
    # Files of other tables (a shallow clone has them) have whole URIs; a reader of paths takes these signs as patterns.
    if paths is None or any(":/" in path for path in paths) or _PATTERN & set(location.identifier):
        return None
    schema = tables.read(ref, until).schema
    if not paths:
        return tables.spark.createDataFrame([], schema).withColumn(CHANGED_ID, F.col(key))
    reader = tables.spark.read.schema(schema).option("basePath", location.spark)
    places = [storage.spark_uri(storage.join(location.identifier, unquote(path))) for path in paths]
    return reader.parquet(*places).select(*schema.names, F.col(key).alias(CHANGED_ID))


def _from_feed(tables: Tables, ref: str, since: int, until: int, key: str) -> DataFrame | None:
    from pyspark.errors import PySparkException
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    location = tables.locate(ref)
    reader = tables.spark.read.format("delta").option("readChangeFeed", "true")
    reader = reader.option("startingVersion", since + 1).option("endingVersion", until)
    try:
        feed = reader.load(location.spark) if location.is_path else reader.table(location.spark)
        names = tables.read(ref, until).columns
    except PySparkException as error:
        _log.info("no change feed of `%s` since version %d: %s", ref, since, str(error).splitlines()[0])
        return None
    if not set(names) <= set(feed.columns):  # the columns have changed meanwhile
        return None
    stays = F.col("_change_type") != "delete"
    # What came in a commit counts, not what went in it.
    order: Any = F.struct("_commit_version", stays.alias("stays"))
    newest = F.max(order).over(Window.partitionBy(key)) == order
    kept = feed.where(F.col("_change_type") != "update_preimage").withColumn(_NEWEST, newest)
    last = kept.where(_NEWEST)
    return last.select(
        *(F.when(stays, F.col(name)).alias(name) for name in names), F.col(key).alias(CHANGED_ID)
    )
