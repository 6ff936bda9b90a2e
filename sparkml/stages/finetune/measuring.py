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
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import AccountingError
from sparkml.frame.run import StageRun
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.hosting.evaluations import write_evaluation
from sparkml.hosting.examples import judged_columns, measured_order
from sparkml.hosting.training import Trained
from sparkml.measures.evaluation import Evaluation
from sparkml.models.folder import write_json
from sparkml.tasks.task import Task

if TYPE_CHECKING:
    from sparkml.stages.finetune.stage import FinetuneConfig

MODEL, BASELINE = "model", "baseline"
# Of examples, as they lie compressed in the table: texts take three times as much in memory.
_MOST_BYTES = 256 << 20


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
    """Evaluate on the held-out examples and write `evaluations`; nothing where only the loss is a figure.

    The driver holds what figures need of every measured example (targets, slices, lengths); texts, images and sounds
    of some of them only, for the simple model and for whoever compresses the model.
    """
    if not task.has_figures:
        return Figures({})
    limit = _affordable(job, config, config.measured_rows)
    held_out = measured = _used(job, examples, config, VALIDATION, limit)
    if limit < config.measured_rows:
        judged = examples.select(*judged_columns(examples, type(task)))
        measured = _used(job, judged, config, VALIDATION, config.measured_rows)
    ids = measured.column("doc_id").to_pylist()
    outputs = _outputs(job, config.samples, task, trained, set(ids))
    found = task.evaluate(measured, [outputs[doc_id] for doc_id in ids], job.seed)
    evaluations = {} if found is None else {MODEL: found}
    if found is not None:
        model = (config.model_id, job.next_version(config.model_id))
        write_evaluation(job, config.evaluations, found, model=model, source=config.source)
    if config.baseline and found is not None:
        train = _used(job, examples, config, TRAIN, _affordable(job, config, config.baseline_rows))
        simple = task.baseline(train, held_out, job.seed)
        if simple is not None:
            evaluations[BASELINE] = simple
    return Figures(evaluations, held_out)


def _affordable(job: StageRun, config: FinetuneConfig, rows: int) -> int:
    """So many examples, fewer where they would take more than the driver has for them."""
    width = job.input_bytes(config.source) / max(job.input_rows(config.source), 1)
    return max(1, min(rows, int(_MOST_BYTES / max(width, 1.0))))


def _outputs(
    job: StageRun, samples: str, task: Task[Any], trained: Trained, wanted: set[str]
) -> dict[str, npt.NDArray[Any]]:
    """What the network says of each wanted document, from the answers to all of its windows."""
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
    outputs: dict[str, npt.NDArray[Any]] = {}
    for doc_id, start, stop in _runs(table.column("doc_id").to_pylist()):
        if doc_id not in wanted:
            continue
        part, said = table.slice(start, stop - start), answered.slice(start, stop - start).to_pylist()
        windows = {name: part.column(name).to_numpy() for name in ("window", "n_tokens")}
        arrays = [np.frombuffer(one["output"], one["dtype"]) for one in said]
        outputs[doc_id] = task.combine(windows, arrays)
    return outputs


def _runs(values: list[str]) -> Iterator[tuple[str, int, int]]:
    start = 0
    for end in range(1, len(values) + 1):
        if end == len(values) or values[end] != values[start]:
            yield values[start], start, end
            start = end


def _used(job: StageRun, examples: DataFrame, config: FinetuneConfig, split: str, limit: int) -> pa.Table:
    """The examples of a split that became samples, at most `limit` of them, chosen by a hash; by `doc_id`."""
    samples = job.tables.read(config.samples, job.outputs[config.samples])
    ids = samples.where((F.col("split") == split) & (F.col("window") == 0)).select("doc_id")
    found = examples.join(ids, "doc_id", "left_semi").orderBy(measured_order(), "doc_id").limit(limit)
    return found.toArrow().sort_by("doc_id")
