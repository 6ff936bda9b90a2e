"""Select: of scored documents the best, by a limit, a share or a sample.

The score is a signal of `clean` (such as `quality`), or what a model of the stage `score` said of each document.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Writes

_SCORE = "_score"
_LIMIT = "_limit"
# Of this many documents of a group one may lie on the wrong side of a share's limit.
_ACCURACY = 1_000_000


class SelectConfig(StageConfig):
    """What `conf/base/select.yaml` holds."""

    source: Reads = Field("clean", description="Documents")
    target: Writes = Field("selected", description="Those that are taken, with the columns that they have")
    rejects: Shares = Field("rejects", description="The others")
    signal: str | None = Field("quality", description="The field of `signals` that is the score")
    scores: Reads | None = Field(None, description="Or a table of the stage `score`")
    scored_by: str | None = Field(None, description="scores: the step that scored; null: there is one alone")
    label: str | None = Field(
        None, description="scores: the label whose score counts; null: `score`, that of the answer"
    )
    best: Literal["high", "low"] = Field("high", description="Which scores are good ones")
    min_score: float | None = Field(None, description="Takes documents of at least (low: at most) this score")
    top_share: float | None = Field(None, gt=0, le=1, description="Or the best part of them")
    pareto: float | None = Field(
        None,
        gt=0,
        description="Or a sample: those with pareto(alpha) > 1 - score (Brown et al. 2020); 9 is theirs",
    )
    within: tuple[str, ...] = Field((), description="top_share: a part of each group of these columns")

    @model_validator(mode="after")
    def _chooses_one_way(self) -> SelectConfig:
        ways = {"min_score": self.min_score, "top_share": self.top_share, "pareto": self.pareto}
        named = [name for name, value in ways.items() if value is not None]
        if len(named) != 1:
            raise ValueError(f"one of {', '.join(ways)}; got {', '.join(named) or 'none'}")
        if self.pareto is not None and self.best == "low":
            raise ValueError("pareto is for scores from 0 to 1 of which high ones are good")
        return self


def run(job: StageRun, config: SelectConfig) -> RunReport:
    """Join the scores, choose, write both."""
    chosen = transform(_scored(job, config), config, job.seed)
    columns = [name for name in job.read(config.source).columns if name != "run_id"]
    kept = job.overwrite(chosen.where("drop_reason IS NULL").select(*columns), config.target)
    dropped = chosen.where("drop_reason IS NOT NULL")
    reasons = job.write_rejects(
        dropped.select(
            "doc_id", "drop_reason", F.col(_SCORE).alias("value"), F.col(_LIMIT).alias("threshold")
        ),
        config.rejects,
    )
    return job.account(config.source, kept.rows, reasons)


def transform(scored: DataFrame, config: SelectConfig, seed: int) -> DataFrame:
    """Documents with `_score` -> the same with `drop_reason`, null for those that are taken, and `_limit`.

    A document's place in a sample follows from its id and the seed alone.
    """
    score, sign = F.col(_SCORE), 1 if config.best == "high" else -1
    limit = F.col(_LIMIT)
    if config.pareto is not None:
        unit = F.pmod(F.xxhash64(F.lit(seed), "doc_id"), F.lit(1 << 32)) / F.lit(float(1 << 32))
        # As numpy's pareto: from 0 on.
        limited = scored.withColumn(_LIMIT, 2.0 - F.pow(1.0 - unit, F.lit(-1.0 / config.pareto)))
        reason, is_taken = "not_sampled", score > limit
    elif config.top_share is not None:
        best = F.percentile_approx(sign * score, F.lit(1.0 - config.top_share), F.lit(_ACCURACY))
        limits = scored.groupBy(*config.within).agg((sign * best).alias(_LIMIT))
        limited = _with_limits(scored, limits, config.within)
        reason, is_taken = "not_in_top_share", sign * score >= sign * limit
    else:
        limited = scored.withColumn(_LIMIT, F.lit(config.min_score).cast("double"))
        reason, is_taken = "low_score", sign * score >= sign * limit
    why = F.when(score.isNull() | F.isnan(score), "no_score").when(~is_taken, reason)
    return limited.withColumn("drop_reason", why)


def _with_limits(scored: DataFrame, limits: DataFrame, within: tuple[str, ...]) -> DataFrame:
    """Each document with the limit of its group; null is a group, too."""
    named = limits.withColumnsRenamed({name: f"_of_{name}" for name in within})
    same = [scored[name].eqNullSafe(named[f"_of_{name}"]) for name in within]
    joined = scored.join(F.broadcast(named), same) if same else scored.crossJoin(named)
    return joined.drop(*(f"_of_{name}" for name in within))


def _scored(job: StageRun, config: SelectConfig) -> DataFrame:
    source = job.read(config.source)
    if config.scores is None:
        names = source.select("signals.*").columns if "signals" in source.columns else []
        if config.signal not in names:
            raise InputError(
                f"table `{config.source}` has no signal `{config.signal}`",
                got=", ".join(names),
                next_action="run clean with the rule set that measures it, or name a table of scores",
            )
        return source.withColumn(_SCORE, F.col(f"signals.{config.signal}").cast("double"))
    scores = job.read(config.scores)
    if config.scored_by is not None:
        scores = scores.where(F.col("step") == config.scored_by)
    score: Column = (
        F.col("score") if config.label is None else F.try_element_at("scores", F.lit(config.label))
    )
    named = scores.where(F.col("error").isNull()).select("doc_id", score.cast("double").alias(_SCORE))
    if not named.groupBy("doc_id").count().where("count > 1").isEmpty():
        raise InputError(
            "a document has several scores",
            where=f"table `{config.scores}`",
            expected="the scores of one step and one model version",
            next_action="name the step: scored_by=STEP",
        )
    return source.join(named, "doc_id", "left")


STAGE = Stage(
    SelectConfig, run, "the best documents, by a limit, a share or a sample of their scores -> selected"
)
