from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.packing import Packer, close_documents, pack_stream

PAD, CLS, SEP = 0, 2, 3

Sample = tuple[list[int], list[int], list[str]]


def pack_slowly(documents: list[tuple[str, list[int]]], sequence_length: int) -> list[Sample]:
    """One token after the other: what packing means."""
    samples: list[Sample] = []
    for doc_id, tokens in documents:
        fresh = True
        for token in [*tokens, SEP]:
            if not samples or len(samples[-1][0]) == sequence_length:
                samples.append(([CLS], [], []))
                fresh = True
            ids, starts, doc_ids = samples[-1]
            if fresh:
                starts.append(len(ids))
                doc_ids.append(doc_id)
                fresh = False
            ids.append(token)
    if samples:
        samples[-1][0].extend([PAD] * (sequence_length - len(samples[-1][0])))
    return samples


def pack_in_blocks(blocks: list[list[tuple[str, list[int]]]], sequence_length: int) -> list[Sample]:
    packer = Packer(sequence_length, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    samples: list[Sample] = []
    outputs = []
    for block in blocks:
        tokens = np.array([token for _, ids in block for token in ids], dtype=np.int32)
        lengths = np.array([len(ids) for _, ids in block], dtype=np.int64)
        outputs.append(packer.add(tokens, lengths, [doc_id for doc_id, _ in block]))
    outputs.append(packer.finish())
    for packed, doc_ids in outputs:
        for i, row in enumerate(packed.input_ids):
            parts = slice(int(packed.offsets[i]), int(packed.offsets[i + 1]))
            documents = [doc_ids[number] for number in packed.documents[parts]]
            samples.append((row.tolist(), packed.starts[parts].tolist(), documents))
    return samples


def test_documents_follow_each_other_closed_by_sep() -> None:
    documents = [("a", [10, 11]), ("b", [20, 21, 22]), ("c", [30])]
    assert pack_in_blocks([documents], 6) == [
        ([CLS, 10, 11, SEP, 20, 21], [1, 4], ["a", "b"]),
        ([CLS, 22, SEP, 30, SEP, PAD], [1, 3], ["b", "c"]),
    ]


def test_a_long_document_goes_on_in_the_next_samples() -> None:
    assert pack_in_blocks([[("long", [10, 11, 12, 13, 14, 15, 16])]], 4) == [
        ([CLS, 10, 11, 12], [1], ["long"]),
        ([CLS, 13, 14, 15], [1], ["long"]),
        ([CLS, 16, SEP, PAD], [1], ["long"]),
    ]


def test_a_full_last_sample_is_not_followed_by_an_empty_one() -> None:
    assert pack_in_blocks([[("a", [10, 11])], [("b", [20, 21])]], 7) == [
        ([CLS, 10, 11, SEP, 20, 21, SEP], [1, 4], ["a", "b"])
    ]


def test_nothing_packs_to_nothing() -> None:
    assert pack_in_blocks([[]], 8) == []
    assert pack_in_blocks([], 8) == []


def test_a_finished_packer_starts_afresh() -> None:
    packer = Packer(8, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    packer.add(np.array([10], dtype=np.int32), np.array([1]), ["a"])
    packer.finish()
    packed, doc_ids = packer.finish()
    assert packed.input_ids.shape == (0, 8)
    assert doc_ids == []


def test_arrays_have_the_promised_shapes_and_types() -> None:
    stream, lengths = close_documents(np.array([7, 8, 9], dtype=np.int32), np.array([1, 2]), SEP)
    assert stream.tolist() == [7, SEP, 8, 9, SEP]
    assert lengths.tolist() == [2, 3]
    packed = pack_stream(stream, lengths, 3, CLS)
    assert packed.input_ids.tolist() == [[CLS, 7, SEP], [CLS, 8, 9]]
    assert packed.offsets.tolist() == [0, 1, 2]
    types = (packed.input_ids.dtype, packed.starts.dtype, packed.documents.dtype, packed.offsets.dtype)
    assert types == (np.int32, np.int32, np.int64, np.int64)


lengths_of_documents = st.lists(st.integers(0, 30), max_size=25)


@settings(max_examples=300, deadline=None)
@given(
    lengths=lengths_of_documents,
    sequence_length=st.integers(3, 17),
    cuts=st.lists(st.integers(0, 25), max_size=5),
)
def test_equals_packing_token_by_token(lengths: list[int], sequence_length: int, cuts: list[int]) -> None:
    documents = [(f"d{i}", [100 * i + 10 + k for k in range(n)]) for i, n in enumerate(lengths)]
    edges = sorted({0, len(documents), *(cut for cut in cuts if cut < len(documents))})
    blocks = [documents[a:b] for a, b in pairwise(edges)]
    assert pack_in_blocks(blocks, sequence_length) == pack_slowly(documents, sequence_length)


@pytest.mark.parametrize("sequence_length", [2, 5])
def test_one_token_per_sample_works(sequence_length: int) -> None:
    documents = [("a", [10, 11]), ("b", []), ("c", [30])]
    assert pack_in_blocks([documents], sequence_length) == pack_slowly(documents, sequence_length)
