"""What forms of a model answer and cost, on the same examples and machine: quality, size, memory and speed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparkml.errors import InputError
from sparkml.inference.scorer import Scorer, load_scorer, rows_of
from sparkml.measures.judged import Judged
from sparkml.models.directory import read_task
from sparkml.models.engines import able_engines
from sparkml.models.folder import folder_bytes
from sparkml.tasks.task import task_of

_WARM_UP = 5
# What a fresh process runs: its resident memory before, and the most of it while it loads the model and answers.
_MEMORY_PROBE = """
import sys
import pyarrow.parquet as pq
from sparkml.inference.scorer import load_scorer

def kilobytes(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

folder, engine, file = sys.argv[1:]
open("/proc/self/clear_refs", "w").write("5")  # forgets the peak of the imports
before = kilobytes("VmRSS")
scorer = load_scorer(folder, engine_name=engine)
scorer.outputs_of(pq.read_table(file).combine_chunks().to_batches()[0])
print(1024 * (kilobytes("VmHWM") - before))
"""


@dataclass(frozen=True)
class TimingPlan:
    """How much is timed."""

    latency_documents: int
    throughput_documents: int
    rounds: int
    threads: int = 1


@dataclass(frozen=True)
class Speed:
    """An engine with one form: latency of one example, examples a second in batches as scoring makes them."""

    latency_p50_ms: float
    latency_p95_ms: float
    documents_per_second: float
    core_seconds_per_1000: float


@dataclass(frozen=True)
class Quality:
    """What a form answered to the labelled examples."""

    metrics: Mapping[str, float]
    judged: Judged


def quality(folder: Path, examples: pa.Table, threads: int, seed: int) -> Quality:
    """Answer all examples; InputError where one cannot be answered."""
    scorer = load_scorer(folder, threads)
    batch = examples.combine_chunks().to_batches()[0]
    found, rejects, _ = scorer.outputs_of(batch, "measure")
    if rejects:
        raise InputError(
            "a held-out example cannot be answered",
            got=rejects[0].reason,
            where=f"example {rejects[0].example}",
        )
    outputs = [output for output in found if output is not None]
    evaluation = scorer.task.evaluate(examples, outputs, seed)
    return Quality(evaluation.metrics if evaluation else {}, scorer.task.judged(examples, outputs))


def speeds(folders: Sequence[Path], examples: pa.RecordBatch, plan: TimingPlan) -> list[dict[str, Speed]]:
    """Of every form the speed under each engine that can run it. All take turns, so a slow moment slows all down.

    Tokenised before: what differs between two of them is the network.
    """
    scorers: list[tuple[int, str, Scorer]] = []
    for number, folder in enumerate(folders):
        for engine in able_engines(task_of(read_task(folder), folder).network(), folder):
            scorers.append((number, engine, load_scorer(folder, plan.threads, engine_name=engine)))
    timings = _timings([scorer for _, _, scorer in scorers], examples, plan)
    found: list[dict[str, Speed]] = [{} for _ in folders]
    for (number, engine, _), timing in zip(scorers, timings, strict=True):
        found[number][engine] = timing
    return found


def fastest(by_engine: Mapping[str, Speed]) -> str:
    """The engine of the highest throughput."""
    return max(by_engine, key=lambda engine: by_engine[engine].documents_per_second)


def peak_memory(folder: Path, engine: str, examples: pa.Table) -> int | None:
    """Bytes of memory that loading the form and answering the examples adds to a fresh process; None without Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "examples.parquet")
        pq.write_table(examples, file)
        command = [sys.executable, "-c", _MEMORY_PROBE, str(folder), engine, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            "a form cannot be loaded in a process of its own",
            where=str(folder),
            got=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}",
        )
    return int(done.stdout.split()[-1])


def weights_bytes(folder: Path) -> int:
    """Bytes of all weights of a model directory, whichever engine reads them."""
    files = [file for file in folder.rglob("*") if file.suffix in (".safetensors", ".onnx", ".data")]
    return sum(folder_bytes(file.parent, file.name) for file in files)


def _timings(scorers: Sequence[Scorer], examples: pa.RecordBatch, plan: TimingPlan) -> list[Speed]:
    encoded = [rows_of(scorer.task.encode(examples, purpose="answer").samples) for scorer in scorers]
    n_rows = min(len(rows["n_tokens"]) for rows in encoded)
    some = min(plan.throughput_documents, n_rows)

    def rows(number: int, start: int, stop: int) -> dict[str, NDArray[Any]]:
        return {name: values[start:stop] for name, values in encoded[number].items()}

    singles = [
        [rows(number, at, at + 1) for at in range(min(plan.latency_documents, n_rows))]
        for number in range(len(scorers))
    ]
    latencies: list[list[NDArray[np.float64]]] = [[] for _ in scorers]
    seconds: list[list[float]] = [[] for _ in scorers]
    spent: list[list[float]] = [[] for _ in scorers]
    for number, scorer in enumerate(scorers):  # the first call of a shape pays for what later ones reuse
        _each(scorer.outputs, [*singles[number][:_WARM_UP], rows(number, 0, some)])
    for _ in range(plan.rounds):
        for number, scorer in enumerate(scorers):
            latencies[number].append(_each(scorer.outputs, singles[number]))
            before = time.process_time()
            seconds[number].append(float(_each(scorer.outputs, [rows(number, 0, some)])[0]))
            spent[number].append(time.process_time() - before)
    results = []
    for number in range(len(scorers)):
        each = np.median(np.stack(latencies[number]), axis=0) * 1000.0
        p50, p95 = np.percentile(each, [50, 95])
        per_second = float(some / np.median(seconds[number]))
        results.append(
            Speed(float(p50), float(p95), per_second, float(1000 * np.median(spent[number]) / some))
        )
    return results


def _each(call: Callable[[Any], object], inputs: Sequence[dict[str, NDArray[Any]]]) -> NDArray[np.float64]:
    spent = np.empty(len(inputs))
    for number, rows in enumerate(inputs):
        started = time.perf_counter()
        call(rows)
        spent[number] = time.perf_counter() - started
    return spent
