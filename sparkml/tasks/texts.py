"""What tasks on text share: encoding in windows, padding, and how a windowed text is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from sparkml.models.inputs import TextInputs
from sparkml.models.text_encoder import Kept, TextEncoder, Window
from sparkml.tasks.task import Batch, Reject, Rows, TaskOptions

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["network", "mean"]
# Where there is a GPU, padded lengths are multiples of this, as its kernels like them. A CPU's time follows the length
# itself: rounded up, short texts would be a tenth of padding more.
_GPU_LENGTH_STEP = 8


class WindowOptions(TaskOptions):
    """How long a text the model reads."""

    max_length: int = Field(
        128, ge=8, description="Tokens of a window, special tokens included; at most what the network reads"
    )
    max_windows: int = Field(1, ge=1, description="Windows of a longer text; what is beyond them is not read")
    overlap: int = Field(0, ge=0, description="Tokens that two neighbouring windows share")


class TextOptions(WindowOptions):
    """And which part of it."""

    keep: Kept = Field(
        "head",
        description="Of a text that is longer than its windows: its head, its tail, or as many tokens of both ends",
    )


IDS = ("input_ids", pa.binary())
TYPES = ("type_ids", pa.binary())


class Texts:
    """The text side of a task: one tokenizer a process, made when it is first needed."""

    def __init__(self, inputs: TextInputs, options: WindowOptions) -> None:
        self.inputs = inputs
        self.options = options
        self._encoder: TextEncoder | None = None

    @property
    def encoder(self) -> TextEncoder:
        """The tokenizer."""
        if self._encoder is None:
            self._encoder = self.inputs.encoder()
        return self._encoder

    def windows(self, texts: Sequence[str], seconds: Sequence[str] | None = None) -> list[list[Window]]:
        """The windows of each text, or pair of texts."""
        options = self.options
        return self.encoder.encode(
            texts,
            seconds,
            max_length=options.max_length,
            max_windows=options.max_windows,
            overlap=options.overlap,
            keep=options.keep if isinstance(options, TextOptions) else "head",
        )

    def tensors(self, rows: Rows) -> tuple[dict[str, Tensor], int]:
        """Padded `input_ids`, `attention_mask` and, where the network takes them, `token_type_ids`; real tokens."""
        import torch

        ids = [np.frombuffer(row, np.int32) for row in rows["input_ids"]]
        inputs, mask = padded(ids, self.inputs.pad_id)
        tensors = {"input_ids": torch.from_numpy(inputs), "attention_mask": torch.from_numpy(mask)}
        if self.inputs.segments and "type_ids" in rows:
            kinds, _ = padded([np.frombuffer(row, np.int32) for row in rows["type_ids"]], 0)
            tensors["token_type_ids"] = torch.from_numpy(kinds)
        return tensors, int(mask.sum())


def padded(
    rows: Sequence[npt.NDArray[Any]], fill: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of different lengths as one int64 matrix [rows, longest], and the mask (1: there is a value)."""
    import torch

    step = _GPU_LENGTH_STEP if torch.cuda.is_available() else 1
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    width = -(-int(lengths.max(initial=1)) // step) * step
    mask = np.arange(width) < lengths[:, None]
    matrix = np.full((len(rows), width), fill, np.int64)
    if len(rows):
        matrix[mask] = np.concatenate(rows)
    return matrix, mask.astype(np.int64)


def missing_texts(columns: Sequence[Sequence[str | None]], names: Sequence[str]) -> dict[int, Reject]:
    """A reject for every example that lacks one of the texts, by its place."""
    found: dict[int, Reject] = {}
    for name, texts in zip(names, columns, strict=True):
        for place, text in enumerate(texts):
            if place not in found and (text is None or not text.strip()):
                found[place] = Reject(place, f"{name}_missing", "null" if text is None else "empty")
    return found


def as_bytes(values: Sequence[int]) -> bytes:
    """Numbers as little-endian int32: what lies in a sample's binary column."""
    return np.asarray(values, dtype="<i4").tobytes()


def batch_of(tensors: dict[str, Tensor], targets: dict[str, Any], rows: int, tokens: int) -> Batch:
    """A batch whose targets are numpy arrays."""
    import torch

    return Batch(tensors, {name: torch.from_numpy(value) for name, value in targets.items()}, rows, tokens)


def samples_of_windows(
    places: Sequence[int],
    windows: Sequence[Sequence[Window]],
    own: Sequence[tuple[str, pa.DataType]],
    targets: Mapping[str, Sequence[Any]] | None = None,
) -> pa.RecordBatch:
    """One sample per window: ids, segment ids where the task has them, and the targets of its example."""
    samples: dict[str, list[Any]] = {name: [] for name in ("example", "window", "n_tokens", *dict(own))}
    for place, parts in zip(places, windows, strict=True):
        for number, window in enumerate(parts):
            values: dict[str, Any] = {
                "example": place,
                "window": number,
                "n_tokens": len(window.ids),
                IDS[0]: as_bytes(window.ids),
                TYPES[0]: as_bytes(window.type_ids),
                **{name: column[place] for name, column in (targets or {}).items()},
            }
            for name, column in samples.items():
                column.append(values[name])
    return sample_batch(samples, own)


def sample_batch(
    columns: Mapping[str, Sequence[Any]], own: Sequence[tuple[str, pa.DataType]]
) -> pa.RecordBatch:
    """Samples from Python columns: `example`, `window`, `n_tokens`, and the task's own."""
    from sparkml.tasks.task import SAMPLE_FIELDS

    schema = pa.schema([*SAMPLE_FIELDS, *own])
    return pa.RecordBatch.from_arrays(
        [pa.array(columns[name], schema.field(name).type) for name in schema.names], schema=schema
    )
