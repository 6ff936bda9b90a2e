"""Pack token streams into samples of one fixed length (FULL-SENTENCES of RoBERTa, arXiv:1907.11692).

A sample is `[CLS]` and then `sequence_length - 1` tokens of a stream in which `[SEP]` closes every document.
A document that does not fit goes on in the next sample, so the only padding is at the end of a stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
_NO_TOKENS: Int32 = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class Packed:
    """Samples of one length, and the parts of documents that lie in them, in order.

    `input_ids` int32 [samples, sequence_length]. Part `k` belongs to document `documents[k]` (its number in
    the stream) and starts at position `starts[k]` of its sample; sample `i` holds the parts
    `offsets[i]:offsets[i + 1]`, one at least.
    """

    input_ids: Int32
    starts: Int32
    documents: Int64
    offsets: Int64


def close_documents(tokens: Int32, lengths: Int64, sep_id: int) -> tuple[Int32, Int64]:
    """Put `[SEP]` behind every document of a flat token array; returns the stream and the lengths in it.

    `tokens` int32 [sum(lengths)], `lengths` int64 [documents].
    """
    stream = np.full(len(tokens) + len(lengths), sep_id, dtype=np.int32)
    closed = lengths + 1
    is_token = np.ones(len(stream), dtype=np.bool_)
    is_token[np.cumsum(closed) - 1] = False
    stream[is_token] = tokens
    return stream, closed


def pack_stream(stream: Int32, lengths: Int64, sequence_length: int, cls_id: int) -> Packed:
    """Cut a stream into its full samples; the caller keeps what is left after the last one.

    `stream` int32 [tokens], `lengths` int64 [documents], each > 0, summing up to the tokens.
    """
    body = sequence_length - 1
    n_samples = len(stream) // body
    used = n_samples * body
    input_ids = np.empty((n_samples, sequence_length), dtype=np.int32)
    input_ids[:, 0] = cls_id
    input_ids[:, 1:] = stream[:used].reshape(n_samples, body)
    ends = np.minimum(np.cumsum(lengths), used)
    begins = np.minimum(ends, np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]))
    first = begins // body
    n_parts = np.where(ends > begins, (ends - 1) // body - first + 1, 0)
    documents = np.repeat(np.arange(len(lengths), dtype=np.int64), n_parts)
    # The number of a part within its document: a running number, less where its document's parts began.
    before = np.cumsum(n_parts) - n_parts
    nth = np.arange(len(documents), dtype=np.int64) - before[documents]
    samples = first[documents] + nth
    starts = np.where(nth == 0, begins[documents] - samples * body, 0) + 1
    offsets = np.searchsorted(samples, np.arange(n_samples + 1, dtype=np.int64)).astype(np.int64)
    return Packed(input_ids, starts.astype(np.int32), documents, offsets)


class Packer:
    """Packs documents that arrive in blocks; the tail that fills no sample waits for the next block."""

    def __init__(self, sequence_length: int, *, cls_id: int, sep_id: int, pad_id: int) -> None:
        self._sequence_length = sequence_length
        self._cls_id, self._sep_id, self._pad_id = cls_id, sep_id, pad_id
        self._tail = _NO_TOKENS
        self._tail_lengths: Int64 = np.zeros(0, dtype=np.int64)
        self._tail_doc_ids: list[str] = []

    def add(self, tokens: Int32, lengths: Int64, doc_ids: list[str]) -> tuple[Packed, list[str]]:
        """Samples that are full now, and the document ids that `Packed.documents` counts.

        `tokens` int32 [sum(lengths)] without special tokens; a document of no tokens is its `[SEP]` alone.
        """
        closed, closed_lengths = close_documents(tokens, lengths, self._sep_id)
        stream = np.concatenate([self._tail, closed])
        stream_lengths = np.concatenate([self._tail_lengths, closed_lengths])
        stream_doc_ids = self._tail_doc_ids + doc_ids
        packed = pack_stream(stream, stream_lengths, self._sequence_length, self._cls_id)
        used = len(packed.input_ids) * (self._sequence_length - 1)
        left = np.maximum(np.cumsum(stream_lengths) - used, 0)
        open_documents = int(np.count_nonzero(left == 0))
        self._tail = stream[used:]
        self._tail_lengths = np.minimum(left, stream_lengths)[open_documents:]
        self._tail_doc_ids = stream_doc_ids[open_documents:]
        return packed, stream_doc_ids

    def finish(self) -> tuple[Packed, list[str]]:
        """The last sample, padded, where something is left; the packer is empty again after it."""
        doc_ids, lengths, rest = self._tail_doc_ids, self._tail_lengths, len(self._tail)
        padding = (self._sequence_length - 1 - rest) if rest else 0
        stream = np.concatenate([self._tail, np.full(padding, self._pad_id, dtype=np.int32)])
        packed = pack_stream(stream, lengths, self._sequence_length, self._cls_id)
        self._tail, self._tail_lengths, self._tail_doc_ids = _NO_TOKENS, np.zeros(0, dtype=np.int64), []
        return packed, doc_ids
