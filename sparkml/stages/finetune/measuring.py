"""What the trained network said of the held-out examples, as figures; beside it the simple model to beat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import AccountingError
from sparkml.frame.run import StageRun
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.hosting.evaluations import write_evaluation
from sparkml.hosting.training import Trained
from sparkml.measures.evaluation import Evaluation
from sparkml.models.folder import write_json
from sparkml.tasks.task import Task

if TYPE_CHECKING:
    from sparkml.stages.finetune.stage import FinetuneConfig

MODEL, BASELINE = "model", "baseline"


@dataclass(frozen=True)
class Figures:
    """The evaluations by name: of the model, and of the simple one where it was asked for."""

    evaluations: dict[str, Evaluation]
    held_out: pa.Table | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The model's metrics; with prefix `baseline_` those of the simple model."""
        prefixes = {MODEL: "", BASELINE: "baseline_"}
        return {
            f"{prefixes[name]}{metric}": value
            for name, evaluation in self.evaluations.items()
            for metric, value in evaluation.metrics.items()
        }

    def line(self) -> str:
        """One line for the log."""
        return ", ".join(f"{name} {value:.3f}" for name, value in list(self.metrics.items())[:8])

    def write(self, folder: Path) -> None:
        """Keep them with the model."""
        from sparkml.models.directory import EVALUATION_FILE
        from sparkml.models.held_out import write_held_out

        if self.held_out is not None:
            write_held_out(folder, self.held_out)
        if self.evaluations:
            found = {name: json.loads(evaluation.to_json()) for name, evaluation in self.evaluations.items()}
            write_json(folder / EVALUATION_FILE, found)


def measure(
    job: StageRun, config: FinetuneConfig, task: Task[Any], examples: DataFrame, trained: Trained
) -> Figures:
    """Evaluate on the held-out examples and write `evaluations`; nothing where the task has no answers."""
    if not task.has_answers:
        return Figures({})
    ids, outputs = _outputs(job, config.samples, task, trained, config.measured_rows)
    held_out = _judged(job, examples, config, ids)
    place = pc.index_in(held_out.column("doc_id"), pa.array(ids, pa.string())).to_pylist()
    found = task.evaluate(held_out, [outputs[number] for number in place], job.seed)
    evaluations = {} if found is None else {MODEL: found}
    if found is not None:
        model = (config.model_id, job.next_version(config.model_id))
        write_evaluation(job, config.evaluations, found, model=model, source=config.source)
    if config.baseline and found is not None:
        simple = task.baseline(_training(examples, config), held_out, job.seed)
        if simple is not None:
            evaluations[BASELINE] = simple
    return Figures(evaluations, held_out)


def _outputs(
    job: StageRun, samples: str, task: Task[Any], trained: Trained, limit: int
) -> tuple[list[str], list[npt.NDArray[Any]]]:
    """The held-out documents in order of their first sample, and what the network says of each."""
    from sparkml.training.run import read_answers

    answered = read_answers(trained.run_folder)
    held_out = job.tables.read(samples, job.outputs[samples]).where(F.col("split") == VALIDATION)
    table = held_out.select("sample_id", "doc_id", "window", "n_tokens").toArrow().sort_by("sample_id")
    if table.num_rows != answered.num_rows:
        raise AccountingError(
            "the ranks did not answer every held-out sample once",
            got=f"{answered.num_rows} answers",
            expected=f"{table.num_rows}",
        )
    ids: list[str] = []
    outputs: list[npt.NDArray[Any]] = []
    for doc_id, start, stop in _runs(table.column("doc_id").to_pylist()):
        if len(ids) == limit:
            break
        part = table.slice(start, stop - start)
        windows = {name: part.column(name).to_numpy() for name in ("window", "n_tokens")}
        arrays = [
            np.frombuffer(output, dtype)
            for output, dtype in zip(
                answered.column("output").slice(start, stop - start).to_pylist(),
                answered.column("dtype").slice(start, stop - start).to_pylist(),
                strict=True,
            )
        ]
        ids.append(doc_id)
        outputs.append(task.combine(windows, arrays))
    return ids, outputs


def _runs(values: list[str]) -> Iterator[tuple[str, int, int]]:
    start = 0
    for end in range(1, len(values) + 1):
        if end == len(values) or values[end] != values[start]:
            yield values[start], start, end
            start = end


def _judged(job: StageRun, examples: DataFrame, config: FinetuneConfig, ids: list[str]) -> pa.Table:
    """The held-out examples that were answered, by `doc_id`."""
    chosen = job.spark.createDataFrame(pa.table({"doc_id": ids}))
    found = examples.where(F.col("split") == VALIDATION).join(chosen, "doc_id", "left_semi")
    return found.toArrow().sort_by("doc_id")


def _training(examples: DataFrame, config: FinetuneConfig) -> pa.Table:
    """At most `baseline_rows` training examples, chosen by a hash."""
    by_hash = F.xxhash64(F.lit("baseline"), "doc_id")
    found = examples.where(F.col("split") == TRAIN).orderBy(by_hash, "doc_id").limit(config.baseline_rows)
    return found.toArrow().sort_by("doc_id")
