"""Best-fit packing: nothing is lost, nothing is cut that fits, the fullest sample is taken."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.best_fit import BestFitPacker, fit
from sparkml.kernels.packing import Packer

PAD, CLS, SEP = 0, 2, 3
Document = tuple[str, list[int]]
Sample = tuple[list[int], list[int], list[str]]


def fit_slowly(sizes: list[int], room: int) -> list[int]:
    """Best-fit decreasing, every bin looked at; of equally full ones the one that came to be so last."""
    left: list[int] = []
    became: list[int] = []
    bins = [0] * len(sizes)
    for time, part in enumerate(sorted(range(len(sizes)), key=lambda part: -sizes[part])):
        fitting = [number for number, free in enumerate(left) if free >= sizes[part]]
        if fitting:
            chosen = min(fitting, key=lambda number: (left[number], -became[number]))
        else:
            chosen = len(left)
            left.append(room)
            became.append(time)
        left[chosen] -= sizes[part]
        became[chosen] = time
        bins[part] = chosen
    first = {number: bins.index(number) for number in set(bins)}
    rank = {number: place for place, number in enumerate(sorted(first, key=first.__getitem__))}
    return [rank[number] for number in bins]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 200))
def test_equals_looking_at_every_bin(data, room: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, room), max_size=60))
    found, count = fit(np.array(sizes, dtype=np.int64), room)
    assert found.tolist() == fit_slowly(sizes, room)
    assert count == len(set(found.tolist()))


def packed(documents: list[Document], length: int, cuts: list[int], window: int = 1 << 20) -> list[Sample]:
    packer = BestFitPacker(length, cls_id=CLS, sep_id=SEP, pad_id=PAD, window_tokens=window)
    edges = sorted({0, len(documents), *(cut for cut in cuts if cut < len(documents))})
    outputs = []
    for begin, end in pairwise(edges):
        block = documents[begin:end]
        tokens = np.array([token for _, ids in block for token in ids], dtype=np.int32)
        lengths = np.array([len(ids) for _, ids in block], dtype=np.int64)
        outputs.append(packer.add(tokens, lengths, [doc_id for doc_id, _ in block]))
    outputs.append(packer.finish())
    samples: list[Sample] = []
    for found, doc_ids in outputs:
        for number, row in enumerate(found.input_ids):
            parts = slice(int(found.offsets[number]), int(found.offsets[number + 1]))
            named = [doc_ids[place] for place in found.documents[parts]]
            samples.append((row.tolist(), found.starts[parts].tolist(), named))
    return samples


def test_a_document_that_fits_is_not_cut() -> None:
    documents = [("a", [10] * 5), ("b", [20] * 3), ("c", [30] * 2), ("d", [40])]
    assert packed(documents, 9, []) == [
        ([CLS, *[10] * 5, SEP, 40, SEP], [1, 7], ["a", "d"]),
        ([CLS, *[20] * 3, SEP, *[30] * 2, SEP, PAD], [1, 5], ["b", "c"]),
    ]


def test_a_long_document_fills_samples_and_its_rest_is_laid_to_others() -> None:
    documents = [("a", [10]), ("long", list(range(20, 29)))]
    assert packed(documents, 6, []) == [
        ([CLS, 10, SEP, PAD, PAD, PAD], [1], ["a"]),
        ([CLS, 20, 21, 22, 23, 24], [1], ["long"]),
        ([CLS, 25, 26, 27, 28, SEP], [1], ["long"]),
    ]


def test_nothing_packs_to_nothing() -> None:
    assert packed([], 8, []) == []


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), max_size=40),
    length=st.integers(2, 17),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    window=st.integers(1, 200),
)
def test_nothing_is_lost_wherever_blocks_are_cut(lengths, length, cuts, window) -> None:
    documents = [
        (f"d{number}", [100 * number + 10 + k for k in range(n)]) for number, n in enumerate(lengths)
    ]
    samples = packed(documents, length, cuts, window)
    assert samples == packed(documents, length, [], window)
    parts: dict[str, list[list[int]]] = {}
    for ids, starts, named in samples:
        assert len(ids) == length
        assert ids[0] == CLS
        end = next((place for place in range(length, 1, -1) if ids[place - 1] != PAD), 1)
        for begin, until, doc_id in zip(starts, [*starts[1:], end], named, strict=True):
            parts.setdefault(doc_id, []).append(ids[begin:until])
    for doc_id, tokens in documents:
        mine = [part for part in parts[doc_id] if part[-1] != SEP] + [
            part for part in parts[doc_id] if part[-1] == SEP
        ]
        whole = [token for part in mine for token in part]
        assert sorted(whole) == sorted([*tokens, SEP])
        assert len(mine) == -(-(len(tokens) + 1) // (length - 1))  # as few parts as there can be


@pytest.mark.parametrize("length", [128, 512])
def test_little_is_padding_and_fewer_documents_are_cut(length: int) -> None:
    rng = np.random.default_rng(1)
    lengths = np.minimum(rng.lognormal(4.5, 1.0, 3000).astype(np.int64) + 1, 2000)
    tokens = np.full(int(lengths.sum()), 9, dtype=np.int32)
    names = [str(number) for number in range(len(lengths))]
    kinds = {}
    for kind in (BestFitPacker, Packer):
        packer = kind(length, cls_id=CLS, sep_id=SEP, pad_id=PAD)
        found = [packer.add(tokens, lengths, names), packer.finish()]
        cut = sum(len(one.documents) for one, _ in found) - len(lengths)
        kinds[kind] = (cut, sum(len(one.input_ids) for one, _ in found))
    assert kinds[BestFitPacker][0] < 0.75 * kinds[Packer][0]
    assert kinds[BestFitPacker][1] < 1.02 * kinds[Packer][1]
