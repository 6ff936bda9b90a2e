"""Rows of the table `evaluations`: the metrics of a model on a table, of all rows and of every slice."""

from __future__ import annotations

from sparkml.frame.run import StageRun
from sparkml.frame.schemas import EVALUATIONS
from sparkml.measures.evaluation import Evaluation


def write_evaluation(
    job: StageRun,
    table: str,
    evaluation: Evaluation,
    *,
    model: tuple[str, int],
    source: str,
) -> None:
    """Add what this run measured of a model (its id and version) on `source`."""
    rows = [
        {
            "run_id": job.run_id,
            "model_id": model[0],
            "model_version": model[1],
            "step": job.step,
            "input_table": source,
            "input_version": job.input_version(source),
            "slice": name,
            "metrics": sorted(metrics.items()),
            "n": n,
        }
        for name, metrics, n in evaluation.metric_rows()
    ]
    job.put_rows(table, rows, "run_id", EVALUATIONS)
