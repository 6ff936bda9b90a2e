"""What MLflow loads a saved model with: `mlflow.pyfunc.load_model(uri).predict(frame)`. Needs no Spark, nor MLflow.

The model is a model directory beside MLflow's own files, so nothing is unpickled. A process loads it once, however
often MLflow does: its `spark_udf` loads it for every task.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from sparkml.frame import artifacts
from sparkml.inference.batches import ModelSource, answer_values, answering_task
from sparkml.inference.columns import answered
from sparkml.tasks.task import column_type

DEFAULTS: Mapping[str, Any] = {"engine": "auto", "threads": 1, "device": "auto"}
# MLflow's `spark_udf` writes a null string as the text "None", and fails for a null map or list of structs.
_TEXTS = ("prediction", "output", "error")


class SavedModel:
    """A model directory as MLflow calls it."""

    def __init__(self, source: ModelSource, columns: tuple[str, ...]) -> None:
        self._source = source
        self._columns = columns

    def predict(self, examples: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A row for each row of examples: the columns `prediction, score, scores, spans, embedding, output, error`.

        As in the table `scores`, but what has no value is an empty text, dict or list instead of null, except in
        `score` (nan) and `embedding` (None). A row that cannot be answered has an `error`.
        """
        arrays = [pa.Array.from_pandas(examples[name], type=column_type(name)) for name in self._columns]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(self._columns))
        answers = [answer for chunk in answered(self._source, iter([batch])) for answer in chunk]
        values = answer_values(answers)
        values |= {name: [text or "" for text in values[name]] for name in _TEXTS}
        values["scores"] = [dict(scores or ()) for scores in values["scores"]]
        values["spans"] = [spans or [] for spans in values["spans"]]
        columns = {name: pd.Series(column, examples.index, object) for name, column in values.items()}
        return pd.DataFrame({**columns, "score": columns["score"].astype("float64")})


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> SavedModel:
    """MLflow's hook. `model_config`: `engine`, `threads` and `device`, as saved with the model or as the caller says.

    InputError where a file of the model is missing or altered.
    """
    config = {**DEFAULTS, **(model_config or {})}
    source = ModelSource(
        path,
        artifacts.identity(path),
        int(config["threads"]),
        str(config["engine"]),
        device=str(config["device"]),
    )
    return SavedModel(source, _checked(path, source.identity))


@functools.lru_cache(maxsize=16)
def _checked(path: str, identity: str) -> tuple[str, ...]:
    """What the task of a model reads, its files compared with their checksums: once a process and content."""
    return answering_task(artifacts.localise(path)).answered_from()
