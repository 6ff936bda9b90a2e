"""Answers of a model directory, whatever its task; plain torch, no Spark.

    scorer = load_scorer("lake/_artifacts/models/classifier/v1")
    for answer in scorer.answer(["a text", "another"]):
        print(answer.prediction, answer.score)

What a task reads besides a text is given by name: `scorer.answer(text=[...], text_b=[...])`, `tokens=[[...]]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from sparkml.errors import UsageError
from sparkml.feed.batches import parts_of
from sparkml.inference.device import CPU, GPU_ENGINE
from sparkml.log import get_logger
from sparkml.models.engines import choose, engine
from sparkml.tasks.asked import asked_spec
from sparkml.tasks.task import (
    Answer,
    Purpose,
    Reject,
    Rows,
    Task,
    TaskChoice,
    column_type,
    make_task,
    task_of,
)

_log = get_logger(__name__)
# A GPU is busy with many times the tokens that a core's cache holds.
_GPU_BUDGETS = 32


class Scorer:
    """A task with its trained network: a module, or what an engine calls as one."""

    def __init__(
        self,
        task: Task[Any],
        network: Any,
        token_budget: int | None = None,
        device: str = CPU,
        engine: str = "torch",
    ) -> None:
        self.task = task
        self.network = network.to(device).eval() if isinstance(network, nn.Module) else network
        self.engine = engine
        self._device = torch.device(device)
        self._token_budget = token_budget or task.token_budget * (1 if device == CPU else _GPU_BUDGETS)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the model knows; empty where its task has none."""
        return self.task.targets.labels

    @property
    def columns(self) -> tuple[str, ...]:
        """What an example must have to be answered."""
        return self.task.answered_from()

    def answer(self, texts: Sequence[str | None] | None = None, **columns: Sequence[Any]) -> list[Answer]:
        """An answer to each example, in order; one that cannot be answered has an `error`.

        An answer depends on its example alone, up to 1e-5: the company only changes the padding.
        """
        given = {**({"text": texts} if texts is not None else {}), **columns}
        if set(given) != set(self.columns):
            raise UsageError(
                f"task {self.task.name} answers from other columns",
                got=", ".join(given) or "nothing",
                expected=", ".join(self.columns),
            )
        arrays = {name: pa.array(values, column_type(name)) for name, values in given.items()}
        return self.answer_batch(pa.RecordBatch.from_pydict(arrays))

    def answer_batch(self, examples: pa.RecordBatch) -> list[Answer]:
        """As `answer`, from a batch with the columns that the task reads."""
        outputs, rejects, tokens = self.outputs_of(examples)
        answers: list[Answer] = []
        for place, output in enumerate(outputs):
            if output is None:
                answers.append(Answer(error="there is nothing in it to be answered"))
                continue
            example = {name: examples.column(name)[place].as_py() for name in self.columns}
            answers.append(replace(self.task.answer(example, output), n_tokens=tokens[place]))
        for reject in rejects:
            answers[reject.example] = Answer(error=f"{reject.reason} {reject.detail}".strip())
        return answers

    def outputs_of(
        self, examples: pa.RecordBatch, purpose: Purpose = "answer"
    ) -> tuple[list[npt.NDArray[Any] | None], list[Reject], list[int]]:
        """What the network says of each example (None: nothing), why some cannot be used, and tokens by example."""
        encoded = self.task.encode(examples, purpose=purpose)
        found: list[npt.NDArray[Any] | None] = [None] * examples.num_rows
        tokens = [0] * examples.num_rows
        if encoded.samples.num_rows:
            rows = rows_of(encoded.samples)
            outputs = self.outputs(rows)
            for place, windows in _by_example(rows["example"]):
                part = {name: rows[name][windows] for name in ("window", "n_tokens")}
                found[place] = self.task.combine(part, [outputs[number] for number in windows])
                tokens[place] = int(part["n_tokens"].sum())
        return found, list(encoded.rejects), tokens

    def outputs(self, rows: Rows) -> list[npt.NDArray[Any]]:
        """What the network says of each sample."""
        numbered = {**rows, "_place": np.arange(len(rows["n_tokens"]))}
        found: list[Any] = [None] * len(rows["n_tokens"])
        with torch.inference_mode():
            held = self.task.tokens_held(rows["n_tokens"])
            for part in parts_of(numbered, self._token_budget, held):
                for place, output in zip(part["_place"], self._outputs_of_part(part), strict=True):
                    found[place] = output
        return found

    def _outputs_of_part(self, part: Rows) -> list[npt.NDArray[Any]]:
        """As `outputs`, of one forward pass; where memory does not suffice, of two of half the rows."""
        try:
            batch = self.task.collate(part, None).to(self._device)
            return self.task.outputs(self.network, batch)
        except (MemoryError, RuntimeError) as error:
            half = len(part["n_tokens"]) // 2
            if not half or not _ran_out_of_memory(error):
                raise
        # Outside of the handler: the error holds the frames, and with them the tensors, of what failed.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        _log.warning("memory does not suffice for %d rows at once: halved", len(part["n_tokens"]))
        return [
            output
            for rows in (slice(None, half), slice(half, None))
            for output in self._outputs_of_part({name: column[rows] for name, column in part.items()})
        ]


def _ran_out_of_memory(error: Exception) -> bool:
    # Of the processor's memory torch says so in a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def rows_of(samples: pa.RecordBatch) -> Mapping[str, npt.NDArray[Any]]:
    """Samples as numpy columns; columns of targets, which are null, are left out."""
    return {
        name: samples.column(name).to_numpy(zero_copy_only=False)
        for name in samples.schema.names
        if samples.column(name).null_count < max(samples.num_rows, 1)
    }


def _by_example(examples: npt.NDArray[Any]) -> list[tuple[int, list[int]]]:
    found: dict[int, list[int]] = {}
    for number, example in enumerate(examples.tolist()):
        found.setdefault(example, []).append(number)
    return list(found.items())


def load_scorer(
    folder: str | Path,
    threads: int = 1,
    *,
    token_budget: int | None = None,
    engine_name: str = "auto",
    inputs: Any = None,
    task: TaskChoice | None = None,
    device: str = CPU,
) -> Scorer:
    """Load a model directory; `threads` torch threads of this process do the work (a process-wide setting).

    `engine_name`: `auto` takes the fastest that can run it. `inputs`: what `Task.read_inputs` says of the directory,
    where that is known already. `task`: see `asked_spec`. `token_budget`: tokens of one forward pass, padding included;
    None: what suits the task and the device. `device`: `cpu` or `cuda:N`, see `device_for`. Raises `InputError`
    when the directory is missing, incomplete, holds pickle weights, or answers nothing.
    """
    torch.set_num_threads(threads)
    path = Path(folder)
    spec = asked_spec(path, task)
    made = task_of(spec, path) if inputs is None else make_task(spec, inputs)
    chosen = choose(engine_name if device == CPU else GPU_ENGINE, made.network(), path)
    network = engine(chosen).load(made.network(), path)
    said = chosen if device == CPU else f"{chosen}:{device.partition(':')[0]}"
    return Scorer(made, network, token_budget, device, said)
