"""Every form that recipes make of a model, measured beside it, and the one to take of those that pass the gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from sparkml.compression.forms import Form, back_to_float, make
from sparkml.compression.gate import GateSettings, Verdict, judge
from sparkml.compression.measure import (
    Quality,
    Speed,
    TimingPlan,
    fastest,
    peak_memory,
    quality,
    speeds,
    weights_bytes,
)
from sparkml.compression.methods import Given, MethodChoice
from sparkml.errors import InputError
from sparkml.log import get_logger

_log = get_logger(__name__)
Recipe = Sequence[MethodChoice]
Preference = Literal["throughput", "latency", "size"]
_NOISE = 0.03  # of what is measured


@dataclass(frozen=True)
class Candidate:
    """A form with what was measured of it; `verdict` None: the model that all others were made of."""

    form: Form
    quality: Quality
    verdict: Verdict | None
    engines: dict[str, Speed]
    size_bytes: int
    memory_bytes: int | None

    @property
    def engine(self) -> str:
        """The one that runs it fastest."""
        return fastest(self.engines)

    @property
    def speed(self) -> Speed:
        """Under that engine."""
        return self.engines[self.engine]

    def figures(self) -> dict[str, float]:
        """All figures by name."""
        return {
            **{name: float(value) for name, value in self.quality.metrics.items()},
            **asdict(self.speed),
            "size_bytes": float(self.size_bytes),
            **({} if self.memory_bytes is None else {"memory_bytes": float(self.memory_bytes)}),
        }

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = {
            "name": self.form.name,
            "kind": self.form.kind,
            "engine": self.engine,
            "engines": {name: speed.documents_per_second for name, speed in self.engines.items()},
            "stayed_float": sorted(self.form.kept),
            "figures": {name: value for name, value in self.figures().items() if math.isfinite(value)},
        }
        if self.verdict is not None:
            loss, flips = self.verdict.loss, self.verdict.flips_interval
            found["gate"] = {
                "metric": self.verdict.metric,
                "loss": [loss.value, loss.interval.low, loss.interval.high],
                "flips": [self.verdict.flips, flips.low, flips.high],
                "reason": self.verdict.reason,
            }
        return found


@dataclass(frozen=True)
class Measuring:
    """What all candidates are measured on and by."""

    examples: pa.Table
    gate: GateSettings
    plan: TimingPlan
    seed: int


def candidates_of(
    given: Given, kind: str, recipes: Sequence[Recipe], measuring: Measuring, work: Path
) -> list[Candidate]:
    """The model as it is, then every form on the way of each recipe, in order; forms that recipes share once.

    A form that fails the gate gets layers back to float where its last method can do so and started from one that
    passes; the next method goes on from what came of it. Folders lie below `work`.
    """
    before = Form(given.folder, kind)
    exact = quality(before.folder, measuring.examples, measuring.plan.threads, measuring.seed)
    answered: dict[Path, Quality] = {before.folder: exact}

    def judged(folder: Path) -> Verdict:
        answered[folder] = quality(folder, measuring.examples, measuring.plan.threads, measuring.seed)
        return judge(exact.judged, answered[folder].judged, measuring.gate, measuring.seed)

    found: dict[str, tuple[Form, Verdict | None]] = {before.name: (before, None)}
    for recipe in recipes:
        form = before
        for choice in recipe:
            name = replace(form, done=(*form.done, (choice, frozenset()))).name
            if name not in found:
                place = work / f"form-{len(found)}"
                made = make(form, choice, given, place)
                verdict = judged(made.folder)
                start = found[form.name][1]
                # Floats help against rounding, not against what an earlier method has lost.
                may_help = choice.method.groups is not None and (start is None or start.holds)
                if not verdict.holds and may_help:
                    tries = work / f"tries-{len(found)}"
                    most = measuring.gate.max_floats
                    made, verdict = back_to_float(form, (made, verdict), given, tries, judged, most)
                _log.info("%s: %s", made.name, verdict.reason or "holds")
                found[name] = (made, verdict)
            form = found[name][0]
    every = list(found.values())
    batch = measuring.examples.combine_chunks().to_batches()[0]
    measured = speeds([form.folder for form, _ in every], batch, measuring.plan)
    some = measuring.examples.slice(0, measuring.plan.throughput_documents)
    return [
        Candidate(
            form,
            answered[form.folder],
            verdict,
            by_engine,
            weights_bytes(form.folder),
            peak_memory(form.folder, fastest(by_engine), some),
        )
        for (form, verdict), by_engine in zip(every, measured, strict=True)
    ]


_COSTS: Mapping[Preference, tuple[Callable[[Candidate], float], str]] = {
    "throughput": (lambda one: 1 / one.speed.documents_per_second, "the most examples a second"),
    "latency": (lambda one: one.speed.latency_p50_ms, "the lowest latency"),
    "size": (lambda one: one.size_bytes, "the smallest"),
}


def pick(candidates: Sequence[Candidate], prefer: Preference) -> tuple[Candidate, str]:
    """The candidate to take of those that hold, and why it is that one; InputError with all reasons where none does."""
    able = [one for one in candidates if one.verdict is not None and one.verdict.holds]
    if not able:
        refused = [f"{one.form.name}: {one.verdict.reason}" for one in candidates if one.verdict is not None]
        raise InputError(
            "no form of the model passes the gate: nothing is published",
            got="; ".join(refused),
            next_action="take a milder method, or raise gate.max_loss, gate.max_flips or gate.max_floats",
        )
    cost, what = _COSTS[prefer]
    least = min(map(cost, able))
    # Two that were measured to be equally good are not told apart by chance: the first one is taken.
    chosen = next(one for one in able if cost(one) <= least * (1 + _NOISE))
    why = (
        f"{what} of the {len(able)} forms that pass the gate"
        if len(able) > 1
        else "the one form that passes the gate"
    )
    failed = len(candidates) - 1 - len(able)
    return chosen, why + (f"; {failed} did not pass" if failed else "")
