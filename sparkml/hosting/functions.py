"""Models as functions of SQL and DataFrames, on classic Spark and Spark Connect alike."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, SparkSession
from pyspark.sql.functions import arrow_udf  # type: ignore[attr-defined]  # its stub lacks it

from sparkml.frame.spark_schemas import spark_schema
from sparkml.hosting.scoring import Answering
from sparkml.inference.columns import ANSWER_SCHEMA, check_arity, column_function


def register_function(spark: SparkSession, name: str, model: Answering) -> Callable[..., Column]:
    """Make `name(columns)` known to SQL, for this session; the function that is returned does the same for DataFrames.

    It takes the columns that the model's task reads, in their order (`model.columns`), and answers with a struct of
    `ANSWER_SCHEMA`: null where the task does not answer so, and `error` where an example cannot be answered.
    """
    columns = model.columns
    scored = arrow_udf(column_function(model.source, name, columns), spark_schema(ANSWER_SCHEMA))
    registered = spark.udf.register(name, scored)

    def function(*given: Column | str) -> Column:
        check_arity(name, columns, len(given))
        return registered(*given)

    function.__name__ = name
    function.__doc__ = f"{name}({', '.join(columns)}): a struct of {', '.join(ANSWER_SCHEMA.names)}."
    return function
