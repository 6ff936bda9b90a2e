"""Queries that a configuration holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from sparkml.errors import InputError
from sparkml.frame.tables import first_line


def asked(
    spark: SparkSession, query: str, tables: Mapping[str, DataFrame], where: str = "query"
) -> DataFrame:
    """What a query makes of tables, {name} for each; InputError where it cannot be asked. `where`: its setting."""
    named: dict[str, Any] = dict(tables)
    try:
        return spark.sql(query, **named)
    except (PySparkException, KeyError) as error:
        names = ", ".join(f"{{{name}}}" for name in tables)
        raise InputError(
            "the query cannot be asked", where=where, got=first_line(error), expected=f"SQL over {names}"
        ) from error
