"""Float and int8 side by side: quality, size, latency, throughput and flipped predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkml.inference.scorer import Scorer
from sparkml.models.evaluation import HeldOut, classification_report


@dataclass(frozen=True)
class Measured:
    """One model on the held-out documents; `size_bytes` of weights on disk, latency of one document."""

    accuracy: float
    macro_f1: float
    size_bytes: int
    latency_p50_ms: float
    latency_p95_ms: float
    documents_per_second: float


@dataclass(frozen=True)
class SideBySide:
    """Float and int8 on the same documents in the same run."""

    float32: Measured
    int8: Measured
    flipped: int
    documents: int
    largest_score_difference: float
    confusion: dict[str, Any]

    def metrics(self) -> dict[str, float]:
        """What the registry keeps: the int8 model's figures, and the float model's with prefix `float_`."""
        mine = {name: float(value) for name, value in asdict(self.int8).items()}
        theirs = {f"float_{name}": float(value) for name, value in asdict(self.float32).items()}
        return {**mine, **theirs, "flipped": float(self.flipped), "documents": float(self.documents)}


@dataclass(frozen=True)
class TimingPlan:
    """How much is timed."""

    latency_documents: int
    throughput_documents: int
    batch_size: int
    rounds: int


def side_by_side(
    float_scorer: Scorer, int8_scorer: Scorer, held_out: HeldOut, sizes: tuple[int, int], plan: TimingPlan
) -> SideBySide:
    """Measure both scorers; `sizes` are the bytes of their weights, float first."""
    scorers = (float_scorer, int8_scorer)
    scores = [scorer.score_ids(held_out.input_ids) for scorer in scorers]
    predicted = [array.argmax(axis=1).astype(np.int64) for array in scores]
    reports = [classification_report(held_out.labels, guess, float_scorer.labels) for guess in predicted]
    timings = _timings(scorers, held_out.input_ids, plan)
    measured = [
        Measured(report["accuracy"], report["macro_f1"], size, *timing)
        for report, size, timing in zip(reports, sizes, timings, strict=True)
    ]
    return SideBySide(
        float32=measured[0],
        int8=measured[1],
        flipped=int((predicted[0] != predicted[1]).sum()),
        documents=len(held_out.labels),
        largest_score_difference=float(np.abs(scores[0] - scores[1]).max()),
        confusion=reports[1]["confusion"],
    )


def _timings(
    scorers: Sequence[Scorer], input_ids: Sequence[Sequence[int]], plan: TimingPlan
) -> list[tuple[float, float, float]]:
    """p50 and p95 in milliseconds at one document, documents a second in batches; models take turns."""
    singles = [
        list(input_ids[index : index + 1]) for index in range(min(plan.latency_documents, len(input_ids)))
    ]
    some = input_ids[: plan.throughput_documents]
    batches = [list(some[start : start + plan.batch_size]) for start in range(0, len(some), plan.batch_size)]
    latencies: list[list[NDArray[np.float64]]] = [[] for _ in scorers]
    seconds: list[list[float]] = [[] for _ in scorers]
    for scorer in scorers:  # the first call of a shape pays for what later ones reuse
        _timed(scorer.score_ids, [*singles[:5], *batches[:1]])
    for _ in range(plan.rounds):
        for number, scorer in enumerate(scorers):
            latencies[number].append(_timed(scorer.score_ids, singles))
            seconds[number].append(float(_timed(scorer.score_ids, batches).sum()))
    results = []
    for number in range(len(scorers)):
        each = np.median(np.stack(latencies[number]), axis=0) * 1000.0
        p50, p95 = np.percentile(each, [50, 95])
        results.append((float(p50), float(p95), float(len(some) / np.median(seconds[number]))))
    return results


def _timed(
    call: Callable[[list[Sequence[int]]], object], inputs: Sequence[list[Sequence[int]]]
) -> NDArray[np.float64]:
    spent = np.empty(len(inputs))
    for number, rows in enumerate(inputs):
        started = time.perf_counter()
        call(rows)
        spent[number] = time.perf_counter() - started
    return spent
