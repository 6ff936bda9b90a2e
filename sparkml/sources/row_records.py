"""Rows of a Spark table -> rows of `bronze` and of `rejects`: each row is a record, as a line of a file is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkml.frame.spark_schemas import spark_schema
from sparkml.sources.documents import ROW_SCHEMA, DocumentBatches, canonical
from sparkml.sources.records import Defect, ReadOptions, Record, Split, printable

_LOCATOR = "_locator"
KEY = "_key"
_Row = dict[str, Any]
_decode = json.JSONDecoder().decode


def rows_of_frame(frame: DataFrame, uri: str, options: ReadOptions) -> DataFrame:
    """One row a record, as `documents.ROW_SCHEMA` says; the locator is the row's id, else a hash of its content.

    Of equal rows without an id the second has the locator `HASH-2`, and so on.
    """
    if options.id_field in frame.columns:
        located = frame.withColumn(
            _LOCATOR, F.coalesce(F.col(options.id_field or "").cast("string"), F.lit(""))
        )
    else:
        content = F.substring(
            F.sha2(F.to_json(F.struct(*(F.col(f"`{name}`") for name in frame.columns))), 256), 1, 32
        )
        hashed = frame.withColumn(_LOCATOR, content)
        nth = F.row_number().over(Window.partitionBy(_LOCATOR).orderBy(_LOCATOR))
        located = hashed.withColumn(
            _LOCATOR, F.when(nth > 1, F.concat_ws("-", _LOCATOR, nth)).otherwise(F.col(_LOCATOR))
        )
    return located.mapInArrow(partial(_read, uri, options, _of_row), spark_schema(ROW_SCHEMA))


def rows_of_topic(landed: DataFrame, topic: str, options: ReadOptions, *, objects: bool) -> DataFrame:
    """Records of a topic of Kafka, as `documents.ROW_SCHEMA` says; the locator is topic, partition and offset.

    `objects`: values are JSON objects, else texts. The field `KEY` is the record's key, where the options name it. A
    field `published` that a record lacks is its time at the broker.
    """
    place = F.concat_ws("-", "topic", "partition", "offset")
    named = landed.select(
        place.alias(_LOCATOR), F.col("key").cast("string").alias(KEY), "value", "timestamp", "offset"
    )
    read = partial(_read, topic, options, partial(_of_message, objects, options))
    return named.mapInArrow(read, spark_schema(ROW_SCHEMA))


def _read(
    uri: str,
    options: ReadOptions,
    record: Callable[[int, _Row], Record | Defect],
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    collected = DocumentBatches(options)
    split = Split(0, 0, "table", uri, uri, "", 0, -1, None, None)
    for batch in batches:
        items = (record(number, row) for number, row in enumerate(batch.to_pylist()))
        yield from collected.add(split, items, options)
    yield from collected.rest()


def _of_row(number: int, row: _Row) -> Record | Defect:
    locator = row.pop(_LOCATOR)
    return Record(number, locator, row, canonical(row))


def _of_message(objects: bool, options: ReadOptions, number: int, row: _Row) -> Record | Defect:
    locator, value = row[_LOCATOR], row["value"]
    if value is None:
        return Defect(row["offset"], locator, "no_value", "the record has a key alone")
    if len(value) > options.max_record_bytes:
        detail = f"{len(value)} bytes, at most {options.max_record_bytes}"
        return Defect(
            row["offset"], locator, "record_too_large", detail, len(value), options.max_record_bytes
        )
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Defect(
            row["offset"], locator, "invalid_utf8", f"{error.reason} at byte {error.start}", error.start
        )
    fields: Any = {options.text_field: text}
    if objects:
        try:
            fields = _decode(text)
        except (ValueError, RecursionError) as error:
            return Defect(row["offset"], locator, "malformed_json", printable(f"{error}: {text[:100]}"))
        if type(fields) is not dict:
            return Defect(
                row["offset"], locator, "not_an_object", printable(f"{type(fields).__name__}: {text[:100]}")
            )
    fields.setdefault("published", row["timestamp"])
    if options.id_field == KEY:
        fields[KEY] = row[KEY]
    return Record(row["offset"], locator, fields, value)
