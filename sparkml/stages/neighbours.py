"""Neighbours: of every query vector the nearest ones of a corpus, exactly -> `neighbours`.

Queries and corpus are cut into blocks; a task holds one block of queries while one of the corpus passes by, so that its
memory is bounded whatever the sizes are. Of the best of each pair of blocks Spark takes the best of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.sizing import bucket_count
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Uses
from sparkml.frame.tables import slice_of
from sparkml.inference.neighbours import CORPUS, FOUND_SCHEMA, QUERIES, SIDE, searching

# Of queries: what a task holds. Of the corpus: what it lets pass, which decides how many tasks share a small input.
_SMALL_QUERY_BYTES, _LARGE_QUERY_BYTES = 4_000_000, 64_000_000
_SMALL_CORPUS_BYTES, _LARGE_CORPUS_BYTES = 32_000_000, 512_000_000
_MODEL = ("model_id", "model_version")
_NAMES = {QUERIES: "query", CORPUS: "corpus"}
# Kinds of rows (model, width) that are looked at: who has more has no vectors of one model.
_MOST_KINDS = 1000


class NeighboursConfig(StageConfig):
    """What `conf/base/neighbours.yaml` holds."""

    queries: Reads = Field("scores", description="Table with `doc_id` and `embedding` of the queries")
    corpus: Reads = Field("scores", description="Table with those that are searched")
    queries_step: str | None = Field(
        None, description="Rows of the queries' table that this step has written; null: all"
    )
    corpus_step: str | None = Field(None, description="The same of the corpus")
    model: Uses | None = Field(
        None, description="Rows of this model alone; null: all, which then are of one model version"
    )
    target: Shares = Field("neighbours", description="One row a query and neighbour")
    rejects: Shares = Field("rejects", description="Rows without a vector, and queries without a neighbour")
    k: int = Field(10, ge=1, le=1000, description="Neighbours of a query at most")
    exclude_self: bool = Field(False, description="A query does not find the row of its own `doc_id`")
    min_similarity: float | None = Field(
        None, ge=-1, le=1, description="Cosine that a neighbour has at least; null: any"
    )
    n_query_blocks: int | None = Field(None, ge=1, description="Parts of the queries; null: by bytes")
    n_corpus_blocks: int | None = Field(None, ge=1, description="Parts of the corpus; null: by bytes")


@dataclass(frozen=True)
class Kinds:
    """How many rows of either side there are by model and width of their vectors."""

    rows: Sequence[Mapping[str, Any]]

    def count(self, side: int) -> int:
        """Rows of a side, those without a vector included."""
        return sum(row["n"] for row in self.rows if row[SIDE] == side)

    @property
    def width(self) -> int:
        """How many numbers a vector has: the most frequent of the corpus, else of the queries; 0 without any."""
        found = [row for row in self.rows if row["width"]]
        return max(found, key=lambda row: (row[SIDE], row["n"], row["width"]))["width"] if found else 0

    @property
    def models(self) -> list[str]:
        """The model versions that made the vectors."""
        return sorted(
            {f"{row['model_id']}/v{row['model_version']}" for row in self.rows if row["model_id"] is not None}
        )


def run(job: StageRun, config: NeighboursConfig) -> RunReport:
    """Search, and replace this step's rows."""
    rows = _both(job, config)
    kinds = _kinds(rows)
    _check(config, kinds, rows)
    checked = rows.withColumn("_reason", reason(kinds.width))
    good = checked.where(F.col("_reason").isNull()).select(SIDE, "doc_id", "embedding")
    model = next((row for row in kinds.rows if row["model_id"] is not None), {})
    found = nearest(good, config, _blocks(config, kinds)).withColumns(
        {
            "model_id": F.lit(model.get("model_id")).cast("string"),
            "model_version": F.lit(model.get("model_version")).cast("int"),
            "step": F.lit(job.step),
        }
    )
    mine = {"step": job.step}
    written = job.replace_slice(found, config.target, mine)
    answered = job.tables.read(config.target, written.version).where(slice_of(**mine))
    reasons = job.write_rejects(_rejects(checked, answered, config, kinds.width), config.rejects)
    return replace(
        _account(kinds, good, answered, reasons),
        bytes_in=job.input_bytes(config.queries) + job.input_bytes(config.corpus),
    )


def _account(kinds: Kinds, good: DataFrame, answered: DataFrame, reasons: Mapping[str, int]) -> RunReport:
    """Rows of both sides = queries that got a neighbour + vectors that were searched + rejects."""
    sides = {row[SIDE]: row["n"] for row in good.groupBy(SIDE).agg(F.count(F.lit(1)).alias("n")).collect()}
    queries, pairs = answered.agg(F.count_distinct("doc_id"), F.count(F.lit(1))).collect()[0]
    return RunReport(
        rows_in=kinds.count(QUERIES) + kinds.count(CORPUS),
        rows_kept=queries + sides.get(CORPUS, 0),
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        metrics={
            "queries": float(sides.get(QUERIES, 0)),
            "answered": float(queries),
            "corpus": float(sides.get(CORPUS, 0)),
            "pairs": float(pairs),
            "width": float(kinds.width),
        },
    )


def _both(job: StageRun, config: NeighboursConfig) -> DataFrame:
    """The rows of both sides: `_side`, `doc_id`, `embedding`, `error` and the model; null where a table has none."""
    record = job.model(config.model) if config.model else None
    queries = _side(job, config.queries, config.queries_step, QUERIES, record)
    return queries.unionByName(_side(job, config.corpus, config.corpus_step, CORPUS, record))


def _side(job: StageRun, ref: str, step: str | None, side: int, model: ModelRecord | None) -> DataFrame:
    table = job.read(ref)
    wanted = ["doc_id", "embedding", *(["step"] if step else []), *(_MODEL if model else ())]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise InputError(
            "the table lacks columns that neighbours are found by",
            where=f"table `{ref}`",
            got=f"columns {', '.join(table.columns)}",
            expected=", ".join(missing),
            next_action="name a table with vectors, such as `scores` of a model for the task retrieve",
        )
    if step:
        table = table.where(F.col("step") == step)
    if model:
        table = table.where((F.col("model_id") == model.model_id) & (F.col("model_version") == model.version))
    optional = {"error": "string", "model_id": "string", "model_version": "int"}
    return table.select(
        F.lit(side).alias(SIDE),
        F.col("doc_id").cast("string").alias("doc_id"),
        F.col("embedding").cast("array<float>").alias("embedding"),
        *(
            (F.col(name) if name in table.columns else F.lit(None)).cast(kind).alias(name)
            for name, kind in optional.items()
        ),
    )


def _kinds(rows: DataFrame) -> Kinds:
    width = F.when(F.col("embedding").isNotNull(), F.size("embedding")).alias("width")
    counted = rows.groupBy(SIDE, width, *_MODEL).agg(F.count(F.lit(1)).alias("n"))
    found = counted.orderBy(F.desc("n"), SIDE, "width", *_MODEL).limit(_MOST_KINDS + 1).collect()
    if len(found) > _MOST_KINDS:
        raise InputError(
            "the vectors have too many different lengths or models", expected=f"{_MOST_KINDS} kinds at most"
        )
    return Kinds([row.asDict() for row in found])


def _check(config: NeighboursConfig, kinds: Kinds, rows: DataFrame) -> None:
    """InputError where vectors are of several models, or an id stands twice on one side."""
    if len(kinds.models) > 1:
        raise InputError(
            "vectors of several models cannot be compared",
            where=f"tables `{config.queries}` and `{config.corpus}`",
            got=", ".join(kinds.models[:5]),
            expected="vectors of one model version",
            next_action="name it (model=NAME/vN), and the steps that scored with it (queries_step, corpus_step)",
        )
    repeated = rows.where(F.col("doc_id").isNotNull()).groupBy(SIDE, "doc_id").count().where("count > 1")
    for side, doc_id, _ in repeated.orderBy(SIDE, "doc_id").limit(1).collect():
        raise InputError(
            f"several rows of the {_NAMES[side]} side have the same `doc_id`",
            where=f"table `{config.queries if side == QUERIES else config.corpus}`",
            got=repr(doc_id),
            expected="one vector for each `doc_id`",
            next_action="say which rows are meant: queries_step, corpus_step",
        )


def reason(width: int) -> Column:
    """Why a row cannot be compared with vectors of that width, after the name of its side; null where it can."""
    vector = F.col("embedding")
    found = (
        F.when(F.col("doc_id").isNull(), "doc_id_missing")
        .when(vector.isNull(), "vector_missing")
        .when(F.size(vector) != width, "vector_of_other_width")
        .when(F.exists(vector, _is_no_number), "vector_not_finite")
        .when(F.forall(vector, lambda number: number == 0), "vector_without_direction")
    )
    return F.concat(F.when(F.col(SIDE) == QUERIES, "query_").otherwise("corpus_"), found)


def _is_no_number(number: Column) -> Column:
    return number.isNull() | F.isnan(number) | (F.abs(number) == float("inf"))


def _blocks(config: NeighboursConfig, kinds: Kinds) -> tuple[int, int]:
    """Parts of the queries and of the corpus, by their bytes."""
    queries, corpus = (kinds.count(side) * 4 * max(kinds.width, 1) for side in (QUERIES, CORPUS))
    return (
        config.n_query_blocks
        or bucket_count(queries, from_bytes=_SMALL_QUERY_BYTES, to_bytes=_LARGE_QUERY_BYTES),
        config.n_corpus_blocks
        or bucket_count(corpus, from_bytes=_SMALL_CORPUS_BYTES, to_bytes=_LARGE_CORPUS_BYTES),
    )


def nearest(rows: DataFrame, config: NeighboursConfig, blocks: tuple[int, int]) -> DataFrame:
    """`doc_id`, `rank` (from 1), `neighbour_id`, `similarity` of the queries among rows of both sides.

    Every pair of a block of queries and one of the corpus is a task, which both are sent to.
    """
    n_query, n_corpus = blocks
    is_query, code = F.col(SIDE) == QUERIES, F.xxhash64("doc_id")
    own = F.when(is_query, F.pmod(code, F.lit(n_query))).otherwise(F.pmod(code, F.lit(n_corpus)))
    others = F.when(is_query, F.lit(n_corpus)).otherwise(F.lit(n_query))
    other = F.explode(F.sequence(F.lit(0), others - 1))
    sent = rows.select(SIDE, "doc_id", "embedding", own.alias("_own"), other.alias("_other"))
    pair = F.when(is_query, F.col("_own") * n_corpus + F.col("_other"))
    pair = pair.otherwise(F.col("_other") * n_corpus + F.col("_own"))
    grouped = sent.withColumn("_pair", pair.cast("int")).repartitionById(n_query * n_corpus, F.col("_pair"))
    ordered = grouped.sortWithinPartitions(SIDE).select(SIDE, "doc_id", "embedding")
    search = searching(config.k, exclude_self=config.exclude_self, min_similarity=config.min_similarity)
    found = ordered.mapInArrow(search, spark_schema(FOUND_SCHEMA))
    by_query = Window.partitionBy("doc_id").orderBy(F.desc("similarity"), "neighbour_id")
    ranked = found.withColumn("rank", F.row_number().over(by_query)).where(F.col("rank") <= config.k)
    return ranked.select("doc_id", "rank", "neighbour_id", "similarity")


def _rejects(checked: DataFrame, answered: DataFrame, config: NeighboursConfig, width: int) -> DataFrame:
    """Rows that could not be compared, and queries that found nothing."""
    bad = F.col("_reason").isNotNull()
    wrong = F.col("_reason").endswith("vector_of_other_width")
    broken = checked.where(bad).select(
        "doc_id",
        F.col("_reason").alias("drop_reason"),
        F.when(wrong, F.size("embedding")).cast("double").alias("value"),
        F.when(wrong, F.lit(width)).cast("double").alias("threshold"),
        F.col("error").alias("detail"),
    )
    queries = checked.where(~bad & (F.col(SIDE) == QUERIES)).select("doc_id")
    alone = queries.join(answered.select("doc_id").distinct(), "doc_id", "left_anti").select(
        "doc_id",
        F.lit("query_without_neighbour").alias("drop_reason"),
        F.lit(None).cast("double").alias("value"),
        F.lit(config.min_similarity).cast("double").alias("threshold"),
        F.lit(None).cast("string").alias("detail"),
    )
    return broken.unionByName(alone)


def sections() -> tuple[object, ...]:
    """What the report says of a search."""
    from sparkml.report.neighbours import NEIGHBOURS

    return (NEIGHBOURS,)


STAGE = Stage(
    NeighboursConfig,
    run,
    "the nearest vectors of a corpus for every query vector, exactly -> neighbours",
    sections=sections,
)
