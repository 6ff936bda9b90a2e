"""Mix: documents of several tables in the proportions that are asked for -> one table, and what each has given.

Of a source of which more is asked than it has, documents come several times; the copies have ids of their own
(`ID~2`). Which documents come follows from their ids and the seed alone, so that a larger budget adds to a smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Literal

import pyarrow as pa
from pydantic import Field, model_validator
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import CLEAN
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Writes

Unit = Literal["documents", "words", "bytes"]
_COLUMNS = tuple(name for name in CLEAN.names if name not in ("signals", "run_id"))
_UNITS: Mapping[str, str] = {"documents": "1", "words": "n_words", "bytes": "octet_length(text)"}
_GIVEN = pa.schema(
    [
        ("step", pa.string()),
        ("name", pa.string()),
        ("table", pa.string()),
        ("version", pa.int64()),
        ("documents", pa.int64()),
        ("size", pa.int64()),
        ("unit", pa.string()),
        ("share", pa.float64()),
        ("repeats", pa.float64()),
        ("documents_given", pa.int64()),
        ("size_given", pa.int64()),
        ("run_id", pa.string()),
    ]
)


class MixConfig(StageConfig):
    """What `conf/base/mix.yaml` holds."""

    sources: Mapping[str, Reads] = Field(
        {}, description="Name -> table of documents, as clean and dedupe make them"
    )
    weights: Mapping[str, float] = Field(
        {}, description="Name -> its part of the mixture; of one without a weight: as large as it is"
    )
    temperature: float = Field(
        1.0, gt=0, description="Parts are weights to the power of 1 / temperature: above 1 small sources gain"
    )
    budget: int | None = Field(
        None, ge=1, description="Size of the mixture; null: all of the source that the parts exhaust first"
    )
    unit: Unit = Field("words", description="What size is counted in")
    max_repeats: float = Field(
        4.0, ge=1, description="How often a document comes at most, on average of its source"
    )
    target: Writes = Field("mixed", description="The mixture; `origin` names the source")
    mixtures: Shares = Field("mixtures", description="What each source has given")

    @model_validator(mode="after")
    def _weighs_its_sources(self) -> MixConfig:
        unknown = self.weights.keys() - self.sources.keys()
        if unknown:
            raise ValueError(f"weights of no source: {', '.join(sorted(unknown))}")
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("weights are not negative")
        return self


@dataclass(frozen=True)
class Part:
    """A source, its size, and how often it comes."""

    name: str
    documents: int
    size: int
    share: float = 0.0
    repeats: float = 0.0


def run(job: StageRun, config: MixConfig) -> RunReport:
    """Measure the sources, then write the mixture in one commit."""
    if not config.sources:
        raise InputError("there is nothing to mix", where=f"{job.step}.sources", expected="NAME: TABLE, ...")
    tables = {name: _documents(job, name, ref) for name, ref in config.sources.items()}
    parts = shares_of([_measured(name, table, config.unit) for name, table in tables.items()], config)
    taken = (
        transform(tables[part.name], part.repeats, job.seed).withColumn("origin", F.lit(part.name))
        for part in parts
    )
    written = job.overwrite(reduce(DataFrame.unionByName, taken), config.target)
    sizes = job.tables.read(config.target, written.version).groupBy("origin").agg(*_size(config.unit))
    given = {row["origin"]: (row["n"], row["size"]) for row in sizes.collect()}
    rows = [_row(job, config, part, *given.get(part.name, (0, 0))) for part in parts]
    job.put_rows(config.mixtures, rows, "step", _GIVEN)
    return RunReport(
        metrics={
            "documents": written.rows,
            **{f"share_{part.name}": part.share for part in parts},
            **{f"repeats_{part.name}": part.repeats for part in parts},
        }
    )


def shares_of(sources: list[Part], config: MixConfig) -> list[Part]:
    """The share of each source, and how often its documents come; InputError where there is not enough of one."""
    weights = {part.name: float(config.weights.get(part.name, part.size)) for part in sources}
    powers = {name: weight ** (1 / config.temperature) for name, weight in weights.items()}
    total = sum(powers.values())
    if total <= 0:
        raise InputError("all sources are empty, or have no weight", got=", ".join(weights))
    shares = {name: power / total for name, power in powers.items()}
    asked = {part.name: shares[part.name] for part in sources if shares[part.name] > 0}
    empty = [part.name for part in sources if part.name in asked and not part.size]
    if empty:
        raise InputError("a source is empty that should be part of the mixture", got=", ".join(empty))
    sizes = {part.name: part.size for part in sources}
    budget = config.budget or min(sizes[name] / share for name, share in asked.items())
    repeats = {name: shares[name] * budget / sizes[name] if name in asked else 0.0 for name in shares}
    too_few = {name: times for name, times in repeats.items() if times > config.max_repeats}
    if too_few:
        name = max(too_few, key=lambda name: too_few[name])
        raise InputError(
            f"of `{name}` there is too little",
            got=f"each document would come {too_few[name]:.1f} times",
            expected=f"at most max_repeats = {config.max_repeats:g}",
            next_action="lower the budget or its weight, or raise max_repeats",
        )
    return [replace(part, share=shares[part.name], repeats=repeats[part.name]) for part in sources]


def transform(documents: DataFrame, repeats: float, seed: int) -> DataFrame:
    """Each document so often on average: the whole part for all, one more for those of the lowest hashes."""
    whole = int(repeats)
    unit = F.pmod(F.xxhash64(F.lit(seed), "doc_id"), F.lit(1 << 32)) / F.lit(float(1 << 32))
    times = F.lit(whole) + F.when(unit < repeats - whole, 1).otherwise(0)
    numbered = documents.withColumn("_times", times).where("_times > 0")
    copies = numbered.withColumn("_nth", F.explode(F.sequence(F.lit(1), "_times")))
    doc_id: Column = F.when(F.col("_nth") > 1, F.concat_ws("~", "doc_id", "_nth")).otherwise(F.col("doc_id"))
    return copies.withColumn("doc_id", doc_id).drop("_times", "_nth")


def _documents(job: StageRun, name: str, ref: str) -> DataFrame:
    table = job.read(ref)
    missing = [column for column in ("doc_id", "text", "n_words") if column not in table.columns]
    if missing:
        raise InputError(
            f"table `{ref}` has no column {', '.join(missing)}", where=f"{job.step}.sources.{name}"
        )
    return table.select(*(column for column in _COLUMNS if column in table.columns))


def _measured(name: str, table: DataFrame, unit: Unit) -> Part:
    documents, size = table.agg(*_size(unit)).collect()[0]
    return Part(name, documents, size)


def _size(unit: Unit) -> tuple[Column, Column]:
    size = F.coalesce(F.sum(F.expr(_UNITS[unit])), F.lit(0)).cast("long")
    return F.count(F.lit(1)).alias("n"), size.alias("size")


def _row(job: StageRun, config: MixConfig, part: Part, documents: int, size: int) -> dict[str, object]:
    ref = config.sources[part.name]
    return {
        "step": job.step,
        **asdict(part),
        "table": ref,
        "version": job.input_version(ref),
        "unit": config.unit,
        "documents_given": documents,
        "size_given": size,
    }


STAGE = Stage(MixConfig, run, "documents of several tables by weights, temperature and budget -> mixed")
