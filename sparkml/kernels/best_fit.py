"""Pack documents so that few are cut: best-fit decreasing (Ding et al. 2024, arXiv:2404.10830).

A document that is longer than a sample is cut into full samples and a rest; the rests, and all other documents, are
laid into the fullest sample that still has room for them, the longest first. What stays free is padding.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sparkml.kernels.compiled import kernel
from sparkml.kernels.packing import Int32, Int64, Packed, close_documents

# Documents of about so many tokens are packed together; more of them would fill hardly better.
WINDOW_TOKENS = 1 << 21


class BestFitPacker:
    """Packs documents that arrive in blocks, window by window, wherever the blocks are cut."""

    def __init__(
        self,
        sequence_length: int,
        *,
        cls_id: int,
        sep_id: int,
        pad_id: int,
        window_tokens: int = WINDOW_TOKENS,
    ) -> None:
        self._sequence_length, self._window = sequence_length, window_tokens
        self._cls_id, self._sep_id, self._pad_id = cls_id, sep_id, pad_id
        self._clear()

    def _clear(self) -> None:
        self._stream: Int32 = np.zeros(0, dtype=np.int32)
        self._lengths: Int64 = np.zeros(0, dtype=np.int64)
        self._doc_ids: list[str] = []

    def add(self, tokens: Int32, lengths: Int64, doc_ids: list[str]) -> tuple[Packed, list[str]]:
        """The samples of every window that is full now, and the document ids that `Packed.documents` counts.

        `tokens` int32 [sum(lengths)] without special tokens; a document of no tokens is its `[SEP]` alone.
        """
        closed, closed_lengths = close_documents(tokens, lengths, self._sep_id)
        self._stream = np.concatenate([self._stream, closed])
        self._lengths = np.concatenate([self._lengths, closed_lengths])
        self._doc_ids += doc_ids
        ends = np.cumsum(self._lengths)
        windows = [0]
        while len(ends) and ends[-1] - (ends[windows[-1] - 1] if windows[-1] else 0) >= self._window:
            begun = int(ends[windows[-1] - 1]) if windows[-1] else 0
            windows.append(int(np.searchsorted(ends, begun + self._window)) + 1)
        used = windows[-1]
        packed, named = self._packed(windows), self._doc_ids[:used]
        self._stream = self._stream[int(ends[used - 1]) if used else 0 :]
        self._lengths, self._doc_ids = self._lengths[used:], self._doc_ids[used:]
        return packed, named

    def finish(self) -> tuple[Packed, list[str]]:
        """The samples of what is left; the packer is empty again after it."""
        packed, named = self._packed([0, len(self._lengths)]), self._doc_ids
        self._clear()
        return packed, named

    def _packed(self, windows: list[int]) -> Packed:
        """The documents between the edges of windows, each window on its own."""
        body = self._sequence_length - 1
        lengths = self._lengths[: windows[-1]]
        n_parts = -(-lengths // body)
        documents = np.repeat(np.arange(len(lengths), dtype=np.int64), n_parts)
        nth = np.arange(len(documents), dtype=np.int64) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
        begins = np.repeat(np.cumsum(lengths) - lengths, n_parts) + nth * body
        sizes = np.minimum(np.repeat(lengths, n_parts) - nth * body, body)
        samples = np.empty(len(sizes), dtype=np.int64)
        n_samples = 0
        edges = np.searchsorted(documents, windows)
        for first, last in pairwise(edges):
            samples[first:last], count = fit(sizes[first:last], body)
            samples[first:last] += n_samples
            n_samples += count
        return self._laid(begins, sizes, documents, samples, n_samples)

    def _laid(self, begins: Int64, sizes: Int64, documents: Int64, samples: Int64, n_samples: int) -> Packed:
        order = np.argsort(samples, kind="stable")  # in a sample, parts lie in the order of their documents
        begins, sizes, documents, samples = begins[order], sizes[order], documents[order], samples[order]
        offsets = np.searchsorted(samples, np.arange(n_samples + 1)).astype(np.int64)
        before = np.cumsum(sizes) - sizes
        starts = 1 + before - before[offsets[:-1]][samples] if n_samples else before
        input_ids = np.full((n_samples, self._sequence_length), self._pad_id, dtype=np.int32)
        input_ids[:, 0] = self._cls_id
        within = np.arange(int(sizes.sum()), dtype=np.int64) - np.repeat(before, sizes)
        places = np.repeat(samples * self._sequence_length + starts, sizes) + within
        input_ids.reshape(-1)[places] = self._stream[np.repeat(begins, sizes) + within]
        return Packed(input_ids, starts.astype(np.int32), documents, offsets)


def fit(sizes: Int64, room: int) -> tuple[Int64, int]:
    """Which bin of `room` each part lies in, int64 [parts], and how many bins there are; 0 < sizes <= room.

    Bins are numbered in the order of their first parts.
    """
    order = np.argsort(-sizes, kind="stable")
    bins = np.empty(len(sizes), dtype=np.int64)
    scratch = np.full(room + 1, -1, dtype=np.int64), np.empty(len(sizes), dtype=np.int64)
    words = np.zeros((room >> 6) + 1, dtype=np.uint64)
    count = _fit(sizes, order, room, bins, *scratch, words)
    _, first, number = np.unique(bins, return_index=True, return_inverse=True)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(count)
    return rank[number], count


@kernel
def _fit(
    sizes: Int64,
    order: Int64,
    room: int,
    bins: Int64,
    newest: Int64,
    older: Int64,
    words: npt.NDArray[np.uint64],
) -> int:
    """Best fit. `newest[c]` is the last bin with `c` left, `older[bin]` the one before; a bit of `words` for each `c`.

    Returns how many bins there are.
    """
    count = 0
    for place in range(len(order)):
        part = order[place]
        size = sizes[part]
        left = -1
        word = size >> 6
        masked = words[word] >> np.uint64(size & 63) << np.uint64(size & 63)
        while True:
            if masked != np.uint64(0):
                low = 0
                while (masked >> np.uint64(low)) & np.uint64(1) == np.uint64(0):
                    low += 1
                left = (word << 6) + low
                break
            word += 1
            if word >= len(words):
                break
            masked = words[word]
        if left < 0:
            chosen = count
            count += 1
            left = room
        else:
            chosen = newest[left]
            newest[left] = older[chosen]
            if newest[left] < 0:
                words[left >> 6] &= ~(np.uint64(1) << np.uint64(left & 63))
        bins[part] = chosen
        rest = left - size
        if rest > 0:
            older[chosen] = newest[rest]
            newest[rest] = chosen
            words[rest >> 6] |= np.uint64(1) << np.uint64(rest & 63)
    return count
