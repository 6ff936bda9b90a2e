"""What tasks on images and sounds share: encoding one file at a time, and rejects of those that cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from sparkml.tasks.task import Encoded, Reject
from sparkml.tasks.texts import sample_batch

# Images and windows of sounds are mostly of one length: more at once need no padding.
MEDIA_TOKENS = 2048


class BadMediaError(Exception):
    """An image or sound that cannot be used: reason and detail of its reject."""

    def __init__(
        self, reason: str, detail: str, value: float | None = None, limit: float | None = None
    ) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.value, self.limit = reason, detail, value, limit


def missing_media(examples: pa.RecordBatch) -> dict[int, Reject]:
    """A reject for every example without media, by its place."""
    found = {}
    for place, data in enumerate(examples.column("media")):
        if not data.is_valid or not len(data.as_buffer()):
            found[place] = Reject(place, "media_missing", "empty" if data.is_valid else "null")
    return found


def encode_media(
    examples: pa.RecordBatch,
    rejects: dict[int, Reject],
    targets: Sequence[bytes | None],
    columns: Sequence[tuple[str, pa.DataType]],
    windows: Callable[[bytes], list[tuple[bytes, int]]],
) -> Encoded:
    """Samples of the examples that no reject names: `windows` gives bytes and tokens of each window of one."""
    own, target = columns[0][0], columns[1][0]
    samples: dict[str, list[Any]] = {name: [] for name in ("example", "window", "n_tokens", own, target)}
    media = examples.column("media")
    for place in range(examples.num_rows):
        if place in rejects:
            continue
        try:
            found = windows(media[place].as_py())
        except BadMediaError as error:
            rejects[place] = Reject(place, error.reason, error.detail, error.value, error.limit)
            continue
        for number, (values, n_tokens) in enumerate(found):
            row = (place, number, n_tokens, values, targets[place])
            for column, value in zip(samples.values(), row, strict=True):
                column.append(value)
    return Encoded(sample_batch(samples, columns), list(rejects.values()))
