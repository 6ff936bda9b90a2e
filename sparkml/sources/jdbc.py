"""A database over JDBC: a table or a query, in one reading or in several by ranges of a column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pyspark.sql import DataFrame, SparkSession

from sparkml.frame.secret import is_reference, secret_at
from sparkml.frame.stage import StageConfig

Bound = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, (int, date)) else value)]


class JdbcConfig(StageConfig):
    """What a database is asked for."""

    url: str | None = Field(None, pattern=r"^jdbc:", description="jdbc:postgresql://HOST:PORT/DATABASE")
    table: str | None = Field(None, min_length=1, description="A table or view of the database")
    query: str | None = Field(None, min_length=1, description="Or a query, in the SQL of the database")
    user: str | None = Field(None, min_length=1, description="Who asks")
    password: str | None = Field(
        None, description="Where the password is: env:VARIABLE or file:PATH; it is kept nowhere"
    )
    driver: str | None = Field(None, description="Class of the driver; null: as the URL says")
    partition_column: str | None = Field(
        None, min_length=1, description="A column of numbers or dates; ranges of it are read side by side"
    )
    lower_bound: Bound | None = Field(None, description="Where the second range begins, about; no filter")
    upper_bound: Bound | None = Field(None, description="Where the last range ends, about; no filter")
    partitions: int = Field(8, ge=1, description="Ranges", json_schema_extra={"semantic": False})
    fetch_rows: int = Field(
        1_000, ge=1, description="Rows of a round trip", json_schema_extra={"semantic": False}
    )
    options: Mapping[str, str] = Field({}, description="Properties of the driver that are no secrets")

    @model_validator(mode="after")
    def _is_whole(self) -> JdbcConfig:
        if self.url is None:
            return self
        if (self.table is None) == (self.query is None):
            raise ValueError("one of table and query")
        if "password=" in self.url.lower():
            raise ValueError("the URL holds a password: name where it is, password=env:VARIABLE or file:PATH")
        if self.password is not None and not is_reference(self.password):
            raise ValueError("password must say where it is: env:VARIABLE or file:PATH")
        bounds = (self.partition_column, self.lower_bound, self.upper_bound)
        if len({bound is None for bound in bounds}) > 1:
            raise ValueError("partition_column, lower_bound and upper_bound together")
        return self


def read_database(spark: SparkSession, config: JdbcConfig) -> DataFrame:
    """What the database answers; ConfigError where the password is not where the configuration says."""
    options: dict[str, Any] = {**config.options, "url": config.url, "fetchsize": config.fetch_rows}
    if config.query is not None and config.partition_column is None:
        options["query"] = config.query
    else:  # Spark cuts tables alone into ranges
        options["dbtable"] = config.table or f"({config.query}) AS asked"
    if config.partition_column is not None:
        options |= {
            "partitionColumn": config.partition_column,
            "lowerBound": config.lower_bound,
            "upperBound": config.upper_bound,
            "numPartitions": config.partitions,
        }
    if config.user is not None:
        options["user"] = config.user
    if config.password is not None:
        options["password"] = secret_at(config.password, "the database's password")
    if config.driver is not None:
        options["driver"] = config.driver
    return spark.read.format("jdbc").options(**options).load()
