"""A model and its compressed form side by side: quality, size, latency, throughput and changed predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkml.errors import InputError
from sparkml.inference.scorer import Scorer, rows_of

_WARM_UP = 5


@dataclass(frozen=True)
class Measured:
    """One model on the held-out examples; `size_bytes` of weights on disk, latency of one example."""

    metrics: dict[str, float]
    size_bytes: int
    latency_p50_ms: float
    latency_p95_ms: float
    documents_per_second: float

    def flat(self) -> dict[str, float]:
        """All figures by name."""
        own = asdict(self)
        return {**{key: float(value) for key, value in own.pop("metrics").items()}, **own}


@dataclass(frozen=True)
class SideBySide:
    """Both models on the same examples in the same run."""

    before: Measured
    after: Measured
    flipped: int
    documents: int
    largest_score_difference: float

    def metrics(self) -> dict[str, float]:
        """What the registry keeps: the new model's figures, and the old one's with prefix `float_`."""
        theirs = {f"float_{name}": value for name, value in self.before.flat().items()}
        return {
            **self.after.flat(),
            **theirs,
            "flipped": float(self.flipped),
            "documents": float(self.documents),
        }


@dataclass(frozen=True)
class TimingPlan:
    """How much is timed."""

    latency_documents: int
    throughput_documents: int
    batch_size: int
    rounds: int


def side_by_side(
    before: Scorer, after: Scorer, held_out: pa.Table, sizes: tuple[int, int], plan: TimingPlan, seed: int
) -> SideBySide:
    """Measure both scorers; `sizes` are the bytes of their weights."""
    scorers = (before, after)
    examples = held_out.combine_chunks().to_batches()[0]
    timings = _timings(scorers, examples, plan)
    found = [_outputs(scorer, examples) for scorer in scorers]
    evaluations = [
        scorer.task.evaluate(held_out, outputs, seed) for scorer, outputs in zip(scorers, found, strict=True)
    ]
    measured = [
        Measured(evaluation.metrics if evaluation else {}, size, *timing)
        for evaluation, size, timing in zip(evaluations, sizes, timings, strict=True)
    ]
    said = [
        [scorer.task.answer({}, one).prediction for one in outputs]
        for scorer, outputs in zip(scorers, found, strict=True)
    ]
    return SideBySide(
        before=measured[0],
        after=measured[1],
        flipped=sum(old != new for old, new in zip(*said, strict=True)),
        documents=len(examples),
        largest_score_difference=max(
            float(np.abs(old.astype(np.float64) - new.astype(np.float64)).max(initial=0))
            for old, new in zip(*found, strict=True)
        ),
    )


def _outputs(scorer: Scorer, examples: pa.RecordBatch) -> list[NDArray[Any]]:
    outputs, rejects, _ = scorer.outputs_of(examples)
    if rejects:
        raise InputError(
            "a held-out example cannot be answered",
            got=rejects[0].reason,
            where=f"example {rejects[0].example}",
        )
    return [output for output in outputs if output is not None]


def _timings(
    scorers: Sequence[Scorer], examples: pa.RecordBatch, plan: TimingPlan
) -> list[tuple[float, float, float]]:
    """p50 and p95 in milliseconds at one example, examples a second in batches; models take turns.

    Tokenised before: what differs between the two is the network.
    """
    encoded = rows_of(scorers[0].task.encode(examples, purpose="answer").samples)
    n_rows = len(encoded["n_tokens"])

    def rows(start: int, stop: int) -> dict[str, NDArray[Any]]:
        return {name: values[start:stop] for name, values in encoded.items()}

    singles = [rows(at, at + 1) for at in range(min(plan.latency_documents, n_rows))]
    some = min(plan.throughput_documents, n_rows)
    batches = [rows(at, min(at + plan.batch_size, some)) for at in range(0, some, plan.batch_size)]
    latencies: list[list[NDArray[np.float64]]] = [[] for _ in scorers]
    seconds: list[list[float]] = [[] for _ in scorers]
    for scorer in scorers:  # the first call of a shape pays for what later ones reuse
        _timed(scorer.outputs, [*singles[:_WARM_UP], *batches[:1]])
    for _ in range(plan.rounds):
        for number, scorer in enumerate(scorers):
            latencies[number].append(_timed(scorer.outputs, singles))
            seconds[number].append(float(_timed(scorer.outputs, batches).sum()))
    results = []
    for number in range(len(scorers)):
        each = np.median(np.stack(latencies[number]), axis=0) * 1000.0
        p50, p95 = np.percentile(each, [50, 95])
        results.append((float(p50), float(p95), float(some / np.median(seconds[number]))))
    return results


def _timed(call: Callable[[Any], object], inputs: Sequence[dict[str, NDArray[Any]]]) -> NDArray[np.float64]:
    spent = np.empty(len(inputs))
    for number, rows in enumerate(inputs):
        started = time.perf_counter()
        call(rows)
        spent[number] = time.perf_counter() - started
    return spent
