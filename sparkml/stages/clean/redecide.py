"""Other limits for documents that were measured: decided again from their signals, without a look at their texts.

Only of documents that come back the text is read. The tables are as if all had been read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.errors import ConfigError
from sparkml.kernels.rules import Rule
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.reasons import (
    DROP_WHEN,
    EMPTY,
    NO_LINE_STAYS,
    NOTHING_VISIBLE,
    NULL_TEXT,
    TOO_LARGE,
)

if TYPE_CHECKING:
    from sparkml.frame.ledger import Run
    from sparkml.frame.run import StageRun

_DECISION = ("drop_reason", "value", "threshold", "detail")


def measured_before(job: StageRun, config: CleanConfig) -> Run:
    """The run whose signals can be decided about; ConfigError where another limit is not all that is new."""
    last = job.ledger.last_succeeded(job.step)
    why = None
    if last is None:
        why = "the step never ran"
    elif last.inputs.get(config.source) != job.input_version(config.source):
        why = f"`{config.source}` has changed since run {last.run_id}"
    elif any(last.inputs.get(ref) != version for ref, version in job.inputs.items() if ref != config.source):
        why = f"run {last.run_id} measured with another model"
    elif _measuring(CleanConfig.model_validate(json.loads(last.config))) != _measuring(config):
        why = f"run {last.run_id} measured otherwise: other settings than limits have changed"
    if last is None or why is not None:
        raise ConfigError(
            "there are no signals to decide from",
            where=f"{job.step}.from_signals",
            got=why or "",
            next_action=f"sparkml run {job.step} {job.step}.from_signals=false",
        )
    return last


def redecided(job: StageRun, config: CleanConfig) -> DataFrame:
    """Every document with the decision that the limits give: `was` and `drop_reason`, null where it stays."""
    kept = job.left(config.target)
    rejected = job.left(config.rejects).where(F.col("step") == job.step)
    nothing = {name: F.lit(None).cast("string") for name in ("source", "locator", "was_detail", "was")}
    numbers = {name: F.lit(None).cast("double") for name in ("was_value", "was_threshold")}
    rows = kept.withColumns(
        {**nothing, **numbers, "_new": _decision(config, lambda name: F.col(f"signals.{name}"))}
    )
    before = {f"was_{name}": F.col(name) for name in ("value", "threshold", "detail")}
    others = rejected.withColumns(
        {
            **before,
            "was": F.col("drop_reason"),
            "_new": _decision(config, lambda name: F.col("signals")[name]),
        }
    )
    names = ("doc_id", "source", "locator", "was", "was_value", "was_threshold", "was_detail", "_new")
    signals = F.to_json("signals").alias("_signals")
    both = rows.select(*names, signals).unionByName(others.select(*names, signals))
    visible = F.col("was_detail") != NOTHING_VISIBLE
    is_before = F.col("was").isin(NULL_TEXT, TOO_LARGE) | ((F.col("was") == EMPTY) & ~visible)
    is_behind = (F.col("was") == DROP_WHEN) | (
        (F.col("was") == EMPTY) & (F.col("was_detail") == NO_LINE_STAYS)
    )
    stays = F.coalesce(is_before | (F.col("_new").isNull() & is_behind), F.lit(False))
    said = {name: F.col(f"was_{name}") for name in _DECISION[1:]} | {"drop_reason": F.col("was")}
    decided = {name: F.when(stays, said[name]).otherwise(F.col("_new").getField(name)) for name in _DECISION}
    return both.withColumns(decided).drop("_new", "was_value", "was_threshold", "was_detail")


def rejects_again(job: StageRun, config: CleanConfig, decided: DataFrame) -> DataFrame:
    """The rejects of a decision from signals: places of documents that were kept come from the source table."""
    dropped = decided.where(F.col("drop_reason").isNotNull())
    places = job.read(config.source).select(
        F.col("doc_id").alias("_id"), F.col("source").alias("_source"), F.col("locator").alias("_locator")
    )
    new = dropped.where(F.col("was").isNull()).join(places, F.col("doc_id") == F.col("_id"), "left")
    placed = new.withColumns({"source": F.col("_source"), "locator": F.col("_locator")})
    rows = dropped.where(F.col("was").isNotNull()).unionByName(placed.drop("_id", "_source", "_locator"))
    return rows.withColumn("signals", F.from_json("_signals", "map<string,double>")).drop("_signals", "was")


def _decision(config: CleanConfig, signal: Callable[[str], Column]) -> Column:
    """The first rule that a document fails, in the order of the rule sets; null where it fails none."""
    tests = [
        test for one in config.rule_sets for rule in one.rules() for test in _tests(rule, signal(rule.signal))
    ]
    kind = "struct<drop_reason:string,value:double,threshold:double,detail:string>"
    return F.coalesce(*tests, F.lit(None).cast(kind))


def _tests(rule: Rule, value: Column) -> list[Column]:
    limits = ((rule.least, "<", value.__lt__), (rule.most, ">", value.__gt__))
    return [
        F.when(
            fails(limit),
            F.struct(
                F.lit(rule.reason).alias("drop_reason"),
                value.alias("value"),
                F.lit(float(limit)).alias("threshold"),
                F.lit(f"{rule.signal} {sign} {limit}").alias("detail"),
            ),
        )
        for limit, sign, fails in limits
        if limit is not None
    ]


def _measuring(config: CleanConfig) -> dict[str, Any]:
    """All of a configuration that decides about signals and texts."""
    found = config.semantic()
    for name, one in zip(config.rules, config.rule_sets, strict=True):
        found[name] = {key: value for key, value in found[name].items() if key not in one.limits}
    return found
