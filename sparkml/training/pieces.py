"""Parts of tensors: which rectangle of the whole one a rank holds, and how such rectangles are put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A rectangle: where in the whole tensor it begins, how large it is, and how large the whole is.

    `is_own`: no other rank writes it down.
    """

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    is_own: bool = True

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return volume(self.shape)

    def overlap(self, other: Piece) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
        """What both have of the whole: where it lies in this one, and where in the other; None where nothing is."""
        here, there = [], []
        for own, size, start, length in zip(self.offset, self.shape, other.offset, other.shape, strict=True):
            first, last = max(own, start), min(own + size, start + length)
            if first >= last:
                return None
            here.append(slice(first - own, last - own))
            there.append(slice(first - start, last - start))
        return tuple(here), tuple(there)


@dataclass(frozen=True)
class Share:
    """What one rank writes of a checkpoint: it is the `number`th of `of` writers, and holds pieces of these tensors.

    Tensors without a piece are whole on every rank; the first one writes them.
    """

    number: int = 0
    of: int = 1
    pieces: Mapping[str, Piece] | None = None

    def piece(self, name: str, shape: tuple[int, ...]) -> Piece:
        """The piece of a tensor, by its name in the checkpoint."""
        whole = Piece((0,) * len(shape), shape, shape, is_own=self.number == 0)
        return (self.pieces or {}).get(name, whole)


WHOLE = Share()


def volume(shape: tuple[int, ...]) -> int:
    """The numbers of a tensor of that shape."""
    size = 1
    for length in shape:
        size *= length
    return size
