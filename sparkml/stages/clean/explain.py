"""Why a document was kept or dropped: every signal beside its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from sparkml.frame.ledger import Ledger
from sparkml.frame.lineage import Station, TracedRun, facts
from sparkml.frame.pipeline import model_name, model_ref
from sparkml.frame.registry import Registry
from sparkml.frame.schemas import BRONZE, LABELLED
from sparkml.kernels.rules import Rule
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.rules.rule_set import RuleSet


def explain(traced: TracedRun) -> Sequence[Station]:
    """What a run of `clean` measures of a document, asked of its text again; empty where it has not read it.

    Needs no Spark. What `drop_when` says of it stands in the decision alone.
    """
    config = CleanConfig.model_validate(json.loads(traced.run.config))
    rows = traced.rows(config.source)
    if not rows:
        return []
    decided = [
        Station(f"decision: {'dropped' if ref == config.rejects else 'kept'}", facts(row))
        for ref in (config.target, config.rejects)
        for row in traced.rows(ref)
    ]
    if config.quality_model is not None and "quality" in config.rules:
        registry = Registry(traced.tables, Ledger(traced.tables))
        name = model_name(config.quality_model)
        record = registry.require(config.quality_model, traced.run.inputs.get(model_ref(name)))
        config = config.with_model(record.path)
    found = _measured(rows[0], config)
    failed = found["drop_reason"]
    stations = [
        Station(name, tuple(_facts(one, found["signals"], failed))) for name, one in _named_sets(config)
    ]
    if config.drop_when is not None:
        stations.append(Station("drop_when", (("condition", config.drop_when),)))
    return [*decided, *stations]


def _named_sets(config: CleanConfig) -> list[tuple[str, RuleSet]]:
    return list(zip(config.rules, config.rule_sets, strict=True))


def _measured(row: dict[str, Any], config: CleanConfig) -> dict[str, Any]:
    from sparkml.kernels.words import Memory
    from sparkml.stages.clean.batches import decide, of_rows

    names = ("text", "title", "url", "meta", *LABELLED)
    batch = pa.RecordBatch.from_arrays(
        [pa.array([row.get(name)], BRONZE.field(name).type) for name in names], names=list(names)
    )
    given = {name: batch.column(name) for name in names if name != "text"}
    lang = dict(row.get("meta") or ()).get("lang")
    given["lang"] = pa.array([json.loads(lang) if lang else None], pa.string())
    decided = decide(batch.column("text"), config.prepared(), Memory(), of_rows(batch), given)
    return {name: decided[name].to_pylist()[0] for name in ("signals", "drop_reason")}


def _facts(one: RuleSet, signals: dict[str, float | None], failed: str | None) -> Iterator[tuple[str, str]]:
    rules = one.rules()
    for rule in rules:
        mark = "  <- dropped here" if rule.reason == failed and _fails(rule, signals[rule.signal]) else ""
        yield rule.reason, f"{rule.signal} {_number(signals[rule.signal])}{_limits(rule)}{mark}"
    for name in one.signals:
        if all(rule.signal != name for rule in rules):
            yield name, _number(signals[name])


def _fails(rule: Rule, value: float | None) -> bool:
    if value is None:
        return False
    too_little = rule.least is not None and value < rule.least
    return too_little or (rule.most is not None and value > rule.most)


def _limits(rule: Rule) -> str:
    limits = ((rule.least, "at least"), (rule.most, "at most"))
    shown = [f"{words} {limit:g}" for limit, words in limits if limit is not None]
    return f", {', '.join(shown)}" if shown else ", no limit"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.6g}"
