"""The base of every task, and the plain data that goes through it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sparkml.errors import ConfigError
from sparkml.frame.config_layers import did_you_mean, settings_error
from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparkml.measures.evaluation import Evaluation
    from sparkml.measures.judged import Judged

_PACKAGE = "sparkml.tasks"
LOADED_BY_NAME = ("sparkml.tasks.*",)

Purpose = Literal["train", "measure", "answer"]
Rows = Mapping[str, npt.NDArray[Any]]
Float32 = npt.NDArray[np.float32]
# What every encoded sample has beside the columns of its task: which example it is of, and how long it is.
SAMPLE_FIELDS = [("example", pa.int32()), ("window", pa.int32()), ("n_tokens", pa.int32())]
# What a row of `examples` has beside the columns that a task reads.
EXAMPLE_FIELDS = [("doc_id", pa.string()), ("split", pa.string())]
_EXAMPLE = {
    "text": "The train was late, and nobody said why.",
    "text_b": "The train did not come in time.",
    "tokens": ["Ada", "Lovelace", "lived", "in", "London", "."],
}
# Columns of examples that are no texts.
_COLUMN_TYPES = {"tokens": pa.list_(pa.string()), "tags": pa.list_(pa.string()), "media": pa.binary()}


def column_type(name: str) -> pa.DataType:
    """What a column of examples holds: a text, words or bytes."""
    return _COLUMN_TYPES.get(name, pa.string())


class TaskOptions(BaseModel):
    """Base of a task's settings: `task.*` of a step."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OptionsT = TypeVar("OptionsT", bound=TaskOptions)


class Targets(BaseModel):
    """What the training rows say of what is to be learnt; kept with the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    numbers: dict[str, float] = {}


@dataclass(frozen=True)
class Reject:
    """An example that cannot be used, by its place in the batch, and why."""

    example: int
    reason: str
    detail: str = ""
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Encoded:
    """Samples of a batch of examples (`SAMPLE_FIELDS` and the task's own columns), and the examples left out."""

    samples: pa.RecordBatch
    rejects: Sequence[Reject] = ()


@dataclass(frozen=True)
class Batch:
    """Tensors of one micro batch: keyword arguments of the network, what the loss compares, rows and tokens."""

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    rows: int
    tokens: int

    def to(self, device: Any) -> Batch:
        """The same on another device; out of pinned memory the copy runs beside the program."""
        return self if str(device) == "cpu" else self._each(lambda one: one.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same in memory that a GPU reads by itself."""
        return self._each(lambda one: one.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        inputs, targets = (
            {name: change(tensor) for name, tensor in tensors.items()}
            for tensors in (self.inputs, self.targets)
        )
        return Batch(inputs, targets, self.rows, self.tokens)


@dataclass(frozen=True)
class Loss:
    """A loss summed over `units` (rows, tokens): the mean is over the units of all micro batches and ranks."""

    total: Tensor
    units: float


@dataclass(frozen=True)
class Answer:
    """What a model says of one example, in the columns of `scores`; what a task does not answer stays None."""

    prediction: str | None = None
    score: float | None = None
    scores: list[tuple[str, float]] | None = None
    spans: list[dict[str, Any]] | None = None
    embedding: list[float] | None = None
    output: str | None = None
    error: str | None = None
    n_tokens: int = 0


class Task(ABC, Generic[OptionsT]):
    """One task with its options, what it learns, and what its model's files say of inputs.

    `reads` names the columns that examples must have and `may_read` those that they may have; `is_media` says that
    `inputs` come from an image or audio processor.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    may_read: ClassVar[tuple[str, ...]] = ()
    # The columns of `reads` that only training and measuring need: a scorer does without.
    target_columns: ClassVar[tuple[str, ...]] = ()
    # What `count` looks at, where that is more than `target_columns`.
    counted_columns: ClassVar[tuple[str, ...]] = ()
    # The task's own columns of a sample.
    columns: ClassVar[tuple[tuple[str, pa.DataType], ...]]
    # Those of them that are its targets, where the answer follows from one vector an example; see `gold_of`.
    sample_targets: ClassVar[tuple[str, ...]] = ()
    # False where a model is something to start from.
    has_answers: ClassVar[bool] = True
    # False where no answers are compared with anything: a model is measured by its loss alone.
    has_figures: ClassVar[bool] = True
    # False where a pretrained network answers as it is: nothing of it belongs to the task alone.
    needs_training: ClassVar[bool] = True
    # Tokens that a core's cache holds while a small network looks at them, padding included; rows of fewer tokens in a
    # forward pass are also closer in length. See `tokens_held`.
    token_budget: ClassVar[int] = 512
    Options: ClassVar[type[TaskOptions]]

    def __init__(self, options: OptionsT, targets: Targets, inputs: Any) -> None:
        self.options = options
        self.targets = targets
        self.inputs = inputs

    @classmethod
    def answered_from(cls) -> tuple[str, ...]:
        """The columns that an example must have to be answered."""
        return tuple(name for name in cls.reads if name not in cls.target_columns)

    @classmethod
    def example(cls) -> dict[str, Any]:
        """An example with the columns of `answered_from`, to show how a model of this task is called."""
        return {name: _EXAMPLE[name] for name in cls.answered_from()}

    # What there is to learn.

    @classmethod
    def count(cls, options: OptionsT, examples: pa.RecordBatch) -> Mapping[str, float]:
        """How often each label stands in a batch of examples; summed over the table and given to `fit`."""
        return {}

    @classmethod
    def fit(cls, options: OptionsT, counts: Mapping[str, Mapping[str, float]]) -> Targets:
        """What is to be learnt, from the counts by split; NotApplicableError where there is nothing."""
        return Targets()

    @classmethod
    def read_inputs(cls, folder: str) -> Any:
        """What a model directory says of its inputs."""
        from sparkml.models.inputs import read_text_inputs

        return read_text_inputs(folder)

    @classmethod
    def begin(cls, network: Mapping[str, Any], folder: Path, inputs: Path | None) -> None:
        """Write what a new network is loaded from: its configuration (`model_type` and sizes) and that of its inputs.

        `inputs` is a folder with a tokenizer; ConfigError where there is none.
        """
        from sparkml.models.directory import copy_inputs
        from sparkml.models.inputs import read_text_inputs, special_fields
        from sparkml.models.networks import write_config

        if inputs is None:
            raise ConfigError(
                f"a new network for task {cls.name} needs a tokenizer",
                next_action="name a model that has one: model=MODEL",
            )
        copy_inputs(inputs, folder)
        tokens = read_text_inputs(folder)
        write_config(network, folder, vocab_size=tokens.vocab_size, **special_fields(tokens))

    # Examples to samples, on Spark's workers: no torch, no transformers.

    @abstractmethod
    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """Samples of a batch of examples: `SAMPLE_FIELDS`, then `columns`.

        `purpose`: to train, where caps on rows count; to measure, where labels do; to answer, where targets are null.
        """

    # Samples to a loss, on ranks.

    @abstractmethod
    def network(self) -> NetworkSpec:
        """The network that is trained."""

    @abstractmethod
    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """A micro batch of samples as tensors. `draws` draws what training draws (masks, flips); None: it is measured.

        What a measurement has to draw follows from the samples alone.
        """

    def gold_of(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """The targets of samples as `loss` takes them; for tasks that have `sample_targets`."""
        raise ConfigError(f"task {self.name} has no one target an example")

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """The loss to descend. Where nothing is to be learnt it is 0 and the network is called all the same: ranks that
        share a model call it together.
        """

    def answering(self, batch: Batch) -> Tensor | None:
        """Where logits [rows, time, outputs] answer, bool [rows, time]; None: they are [rows, outputs], and all do."""
        return None

    def distance(self, logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """How far logits [n, outputs] are from a teacher's, summed over n, where both are softened by a temperature T.

        T^2 KL(teacher || logits): with T^2 its gradients are as large as those of the task's loss.
        """
        from torch.nn import functional as F

        ours, theirs = ((one / temperature).log_softmax(dim=1) for one in (logits, taught))
        return F.kl_div(ours, theirs, log_target=True, reduction="sum") * temperature**2

    def start(self, network: nn.Module, rows: Rows, seed: int) -> None:
        """Better weights than random ones, from `rows` of the training samples, for a network that begins anew."""

    @property
    @abstractmethod
    def n_sums(self) -> int:
        """How many numbers `sums` gives."""

    @abstractmethod
    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """What `values` needs, as float64 sums that are added up over batches and ranks."""

    @abstractmethod
    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """Metrics for the curve; `loss` is among them."""

    # Samples to answers.

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """What the network says of each sample of a batch, as one array a sample."""
        raise ConfigError(f"task {self.name} has no answers: its model is something to start from")

    def tokens_held(self, n_tokens: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """How many tokens samples of so many take of a budget while `outputs` answers them."""
        return n_tokens

    def combine(self, windows: Rows, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """What the network says of one example, from the outputs of its windows (`window` and `n_tokens`)."""
        return outputs[0]

    def answer(self, example: Mapping[str, Any], output: npt.NDArray[Any]) -> Answer:
        """The answer to an example, in the columns of `scores`."""
        raise ConfigError(f"task {self.name} has no answers: its model is something to start from")

    def moved(self, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> float:
        """How far an output is from that of another form of the network: 0 where they are equal."""
        return float(np.abs(before.astype(np.float64) - after).mean())

    # Outputs to figures.

    def evaluate(
        self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]], seed: int
    ) -> Evaluation | None:
        """Figures over labelled examples and what the network says of each; None where only the loss is a figure."""
        return None

    def judged(self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]]) -> Judged:
        """What the answers to labelled examples are worth row by row, to compare two models; see `evaluate`."""
        raise ConfigError(f"task {self.name} has no answers that could be compared")

    def baseline(self, train: pa.Table, held_out: pa.Table, seed: int) -> Evaluation | None:
        """The simple model to beat, trained and measured on the same examples; None where there is none."""
        return None


def task_names() -> list[str]:
    """Every task that is installed."""
    package = importlib.import_module(_PACKAGE)
    found = {name for _, name, _ in pkgutil.iter_modules(package.__path__) if _holds_task(name)}
    return sorted(found | {entry.name for entry in importlib.metadata.entry_points(group=_PACKAGE)})


def _holds_task(module: str) -> bool:
    return hasattr(importlib.import_module(f"{_PACKAGE}.{module}"), "TASK")


def task_class(name: str) -> type[Task[Any]]:
    """The task of that name; ConfigError lists those there are."""
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=_PACKAGE)}
    if name in entries:
        found: type[Task[Any]] = entries[name].load()
        return found
    module = f"{_PACKAGE}.{name}"
    if name.isidentifier() and importlib.util.find_spec(module) is not None:
        task: type[Task[Any]] | None = getattr(importlib.import_module(module), "TASK", None)
        if task is not None:
            return task
    names = task_names()
    raise ConfigError(
        "there is no such task", got=name, expected=", ".join(names), next_action=did_you_mean(name, names)
    )


class TaskChoice(BaseModel):
    """`task:` of a step: its name, and whatever settings that task has."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="Which task; what else stands here are its settings")

    @model_validator(mode="after")
    def _known(self) -> TaskChoice:
        _ = self.options
        return self

    @property
    def task(self) -> type[Task[Any]]:
        """The task."""
        return task_class(self.name)

    @property
    def options(self) -> Any:
        """Its settings; ConfigError names the one that is wrong."""
        try:
            return self.task.Options(**(self.model_extra or {}))
        except ValidationError as error:
            known = list(self.task.Options.model_fields)
            raise settings_error(f"task {self.name}", "task", known, error) from error


def make_task(spec: Mapping[str, Any], inputs: Any) -> Task[Any]:
    """A task from its plain data: `name`, `options`, `targets`."""
    task = task_class(spec["name"])
    return task(task.Options(**spec["options"]), Targets(**spec["targets"]), inputs)


def task_of(spec: Mapping[str, Any], folder: str | Path) -> Task[Any]:
    """A task from its plain data and the model directory whose inputs it takes."""
    return make_task(spec, task_class(spec["name"]).read_inputs(str(folder)))


def task_spec(task: Task[Any]) -> dict[str, Any]:
    """What `make_task` takes: JSON values, kept with the model."""
    return {
        "name": task.name,
        "options": task.options.model_dump(mode="json"),
        "targets": task.targets.model_dump(mode="json"),
    }
