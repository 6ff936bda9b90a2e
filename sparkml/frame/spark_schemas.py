"""The tables' columns as Spark has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from sparkml.frame.schemas import OPTIONAL, SCHEMAS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType


def spark_schema(schema: pa.Schema) -> StructType:
    """The same columns as Spark names their types."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def with_optional(df: DataFrame, table: str) -> DataFrame:
    """Rows of a table with every column that may lack; those that did are null."""
    from pyspark.sql import functions as F

    missing = [name for name in OPTIONAL.get(table, ()) if name not in df.columns]
    types = {field.name: field.dataType for field in spark_schema(SCHEMAS[table]).fields} if missing else {}
    return df.withColumns({name: F.lit(None).cast(types[name]) for name in missing}) if missing else df
