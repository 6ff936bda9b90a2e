"""Tokenise and pack, in the Python workers: sorted documents in, samples out, as Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sparkml.kernels.best_fit import BestFitPacker
from sparkml.kernels.packing import Packed, Packer
from sparkml.models.inputs import TextInputs, filled
from sparkml.stages.shard.encoder import PIECE_CHARACTERS, Encoder
from sparkml.stages.shard.vocabulary import one_thread

SAMPLE_SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("bucket", pa.int32()),
        ("nth", pa.int32()),
        ("input_ids", pa.list_(pa.int32())),
        ("doc_starts", pa.list_(pa.int32())),
        ("doc_ids", pa.list_(pa.string())),
        ("n_documents", pa.int32()),
        ("n_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Group:
    """Documents that are packed together: one bucket of one split."""

    split: str
    bucket: int


def packing(
    inputs: TextInputs, sequence_length: int, *, best_fit: bool = False
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: columns `split`, `bucket`, `doc_id`, `text`, each group in one piece.

    Answers with `SAMPLE_SCHEMA`: `nth` counts the samples of a group, `n_documents` the documents that end in
    a sample, `n_tokens` its tokens without padding.
    """

    def pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        one_thread()
        encoder = Encoder(inputs.tokenizer_json)
        current: GroupPacker | None = None
        for batch in batches:
            for group, part in groups_of(batch):
                if current is None or current.group != group:
                    if current is not None:
                        yield from current.finish()
                    current = GroupPacker(group, encoder, inputs, sequence_length, best_fit=best_fit)
                yield from current.add(part)
        if current is not None:
            yield from current.finish()

    return pack


def groups_of(batch: pa.RecordBatch) -> Iterator[tuple[Group, pa.RecordBatch]]:
    """The runs of equal `split` and `bucket` in a batch, in order."""
    keys = list(zip(batch.column("split").to_pylist(), batch.column("bucket").to_pylist(), strict=True))
    start = 0
    for end in range(1, len(keys) + 1):
        if end == len(keys) or keys[end] != keys[start]:
            yield Group(*keys[start]), batch.slice(start, end - start)
            start = end


class GroupPacker:
    """Tokenises and packs the documents of one group, which arrive in order, batch by batch."""

    def __init__(
        self,
        group: Group,
        encoder: Encoder,
        inputs: TextInputs,
        sequence_length: int,
        *,
        best_fit: bool,
    ) -> None:
        self.group = group
        self._encoder = encoder
        self._inputs = inputs
        self._packer = (BestFitPacker if best_fit else Packer)(
            sequence_length, cls_id=inputs.cls_id, sep_id=inputs.sep_id, pad_id=inputs.pad_id
        )
        self._n_samples = 0

    def add(self, documents: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Samples that these documents fill."""
        doc_ids = documents.column("doc_id").to_pylist()
        texts = documents.column("text").to_pylist()
        for start, end in blocks(texts):
            tokens, lengths = self._encoder.tokens(texts[start:end])
            yield from self._samples(*self._packer.add(tokens, lengths, doc_ids[start:end]))

    def finish(self) -> Iterator[pa.RecordBatch]:
        """The last samples of the group."""
        yield from self._samples(*self._packer.finish())

    def _samples(self, packed: Packed, doc_ids: list[str]) -> Iterator[pa.RecordBatch]:
        n_samples, sequence_length = packed.input_ids.shape
        if not n_samples:
            return
        tokens = filled(packed.input_ids, self._inputs)
        ends = packed.input_ids == self._inputs.sep_id
        flat = pa.array(packed.input_ids.reshape(-1))
        edges = pa.array(np.arange(n_samples + 1, dtype=np.int32) * sequence_length)
        offsets = pa.array(packed.offsets.astype(np.int32))
        parts = pa.array(doc_ids, pa.string()).take(pa.array(packed.documents))
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([self.group.split] * n_samples, pa.string()),
                pa.array(np.full(n_samples, self.group.bucket, dtype=np.int32)),
                pa.array(np.arange(self._n_samples, self._n_samples + n_samples, dtype=np.int32)),
                pa.ListArray.from_arrays(edges, flat),
                pa.ListArray.from_arrays(offsets, pa.array(packed.starts)),
                pa.ListArray.from_arrays(offsets, parts),
                pa.array((ends & tokens)[:, 1:].sum(axis=1, dtype=np.int32)),
                pa.array(tokens.sum(axis=1, dtype=np.int32)),
            ],
            schema=SAMPLE_SCHEMA,
        )
        self._n_samples += n_samples


def blocks(texts: list[str]) -> Iterator[tuple[int, int]]:
    """Cut documents into runs of about a megabyte, one document at least."""
    start, size = 0, 0
    for index, text in enumerate(texts):
        size += len(text)
        if size >= PIECE_CHARACTERS:
            yield start, index + 1
            start, size = index + 1, 0
    if start < len(texts):
        yield start, len(texts)
