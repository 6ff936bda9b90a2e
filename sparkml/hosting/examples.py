"""Examples: the rows of a table with the columns that a task reads, under the task's names, and their split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.splits import TRAIN, VALIDATION, with_split
from sparkml.tasks.evaluating import LENGTH, SLICE_COLUMNS
from sparkml.tasks.task import Task

_ROWS = ""  # no label is empty
_COUNTED_SCHEMA = "split string, label string, n double"
# Of the examples that may be measured some cannot be used: so many more are kept.
_SPARE = 1.1
# Of answers to held-out examples: a rank holds its part of them, the driver all.
_ANSWERED_BYTES = 1 << 30
# More different values are no labels; the driver holds what it counts.
_MOST_VALUES = 1_000_000


class Columns(BaseModel):
    """Which columns of a table a task's columns are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field("text", description="The text, or the first of a pair")
    text_b: str = Field("text_b", description="The second text of a pair, or the target text")
    label: str = Field("label", description="The label; a|b for several; a number for regression")
    tokens: str = Field("tokens", description="The words of a text")
    tags: str = Field("tags", description="A tag a word")
    media: str = Field("media", description="The bytes of an image or sound")


def examples_of(
    table: DataFrame,
    task: type[Task[Any]],
    columns: Columns,
    *,
    where: str,
    labelled: bool = True,
    also: Sequence[str] = (),
) -> DataFrame:
    """`doc_id`, the columns that the task reads, under its names, and those of `also`.

    InputError names a column that is missing.
    """
    wanted = task.reads if labelled else task.answered_from()
    named = {name: str(getattr(columns, name)) for name in wanted}
    missing = sorted(column for column in ("doc_id", *named.values()) if column not in table.columns)
    if missing:
        raise InputError(
            "the table lacks columns that the task reads",
            where=where,
            got=f"columns {', '.join(table.columns)}",
            expected=", ".join(missing),
            next_action="name them: columns.text=COLUMN, columns.label=COLUMN and so on",
        )
    optional = {
        name: str(getattr(columns, name))
        for name in task.may_read
        if str(getattr(columns, name)) in table.columns
    }
    given = [name for name in ("split", *SLICE_COLUMNS) if name in table.columns and name not in named]
    chosen = [F.col(column).alias(name) for name, column in {**named, **optional}.items()]
    return table.select("doc_id", *given, *chosen, *also)


def judged_columns(examples: DataFrame, task: type[Task[Any]]) -> list[Column]:
    """What figures need of examples: targets, slices and the length of the text, not the text."""
    kept = [name for name in ("doc_id", *task.target_columns, *SLICE_COLUMNS) if name in examples.columns]
    length = [F.length("text").alias(LENGTH)] if "text" in examples.columns else []
    return [*(F.col(name) for name in kept), *length]


def measurable(table: DataFrame, ref: str, task: Task[Any], columns: Columns, most: int) -> pa.Table:
    """Labelled examples on the driver, all of which the task can use; of more than `most` those of low hashes."""
    where = f"table `{ref}`"
    examples = examples_of(table, type(task), columns, where=where)
    some = examples.orderBy(F.xxhash64("doc_id"), "doc_id").limit(most).toArrow()
    rejects = task.encode(some.combine_chunks().to_batches()[0], purpose="measure").rejects if some else ()
    bad = {reject.example for reject in rejects}
    usable = some.filter(pa.array([row not in bad for row in range(some.num_rows)], pa.bool_()))
    if not usable.num_rows:
        raise InputError(
            "there is nothing to measure on",
            where=where,
            got=f"{some.num_rows} rows, none with what the task needs",
            next_action="name the columns: columns.text=COLUMN, columns.label=COLUMN",
        )
    return usable


def split_as_given(
    examples: DataFrame, duplicates: DataFrame | None, validation_fraction: float, seed: int
) -> DataFrame:
    """`split` of every example: as the table says, else by a hash of its duplicate cluster.

    Where the table names no validation rows, the hash holds some of those for training out.
    """
    kept = examples.withColumnRenamed("split", "_given") if "split" in examples.columns else examples
    hashed = with_split(kept, duplicates, validation_fraction, seed)
    if "_given" not in kept.columns:
        return hashed
    given = F.col("_given")
    if kept.where(given == VALIDATION).isEmpty():
        given = F.when(given != TRAIN, given)
    return hashed.withColumn("split", F.coalesce(given, "split")).drop("_given")


def measured_order() -> Column:
    """A hash of `doc_id`: which held-out examples are measured where they are too many; in [0, 1)."""
    return F.xxhash64(F.lit("measured"), "doc_id") / F.lit(2.0**64) + F.lit(0.5)


def affordable_answers(n_labels: int, most: int) -> int:
    """So many examples, fewer where their answers, of a number a label, would be more than is held at once."""
    return max(1, min(most, _ANSWERED_BYTES // (4 * max(1, n_labels))))


def kept_share(held_out: int, most: int) -> float:
    """The part of the held-out examples, by `measured_order`, that is enough to measure `most`; 1: all are needed."""
    return min(1.0, _SPARE * most / held_out) if held_out > most else 1.0


def beyond_measured(share: float) -> Column:
    """True for held-out examples that are not needed."""
    return (F.col("split") == VALIDATION) & (measured_order() >= share)


def beyond_rejects(examples: DataFrame, share: float) -> DataFrame:
    """The held-out examples that are not needed, as rejects."""
    return examples.where(beyond_measured(share)).select(
        "doc_id",
        F.lit("over_measured_rows").alias("drop_reason"),
        measured_order().alias("value"),
        F.lit(share).alias("threshold"),
    )


def count_labels(
    examples: DataFrame, task: type[Task[Any]], options: Any
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """What the task counts of each split, and the rows of each split; InputError where there is no end of labels."""
    counted = examples.select("split", *(task.counted_columns or task.target_columns))
    rows = counted.mapInArrow(_counting(task.name, options), _COUNTED_SCHEMA)
    counts: dict[str, dict[str, float]] = {}
    counted_rows = rows.groupBy("split", "label").agg(F.sum("n").alias("n")).limit(_MOST_VALUES + 1).collect()
    if len(counted_rows) > _MOST_VALUES:
        raise InputError(
            "the column has too many different values for labels",
            where=f"columns {', '.join(task.target_columns)}",
            expected=f"{_MOST_VALUES} at most",
            next_action="name the column that holds labels: columns.label=COLUMN",
        )
    for row in counted_rows:
        counts.setdefault(row["split"], {})[row["label"]] = row["n"]
    return counts, {split: int(found.pop(_ROWS)) for split, found in counts.items()}


def _counting(name: str, options: Any) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    values: Mapping[str, Any] = options.model_dump(mode="json")

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from sparkml.tasks.task import task_class

        task = task_class(name)
        chosen = task.Options(**values)
        found: dict[tuple[str, str], float] = {}
        for batch in batches:
            for split in batch.column("split").unique().to_pylist():
                part = batch.filter(pa.compute.equal(batch.column("split"), split))
                for label, n in {_ROWS: part.num_rows, **task.count(chosen, part)}.items():
                    found[split, label] = found.get((split, label), 0) + n
        rows = [{"split": split, "label": label, "n": n} for (split, label), n in found.items()]
        schema = pa.schema([("split", pa.string()), ("label", pa.string()), ("n", pa.float64())])
        yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return count
