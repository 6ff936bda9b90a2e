"""A linear model of words and pairs of neighbouring words, hashed (Joulin et al. 2017, without a hidden layer).

The score of a text is the sigmoid of a bias and the mean weight of its words and pairs. Words are those of `overlap`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.overlap import word_hashes
from sparkml.kernels.rolling import BASE, ONE, slot_of
from sparkml.kernels.texts import Texts
from sparkml.kernels.words import Memory

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
_HASH = 2  # column of the words
_EPSILON = np.float32(1e-8)


class Features(NamedTuple):
    """Slots of the words and pairs of documents: those of d are `slots[offsets[d]:offsets[d + 1]]`."""

    slots: NDArray[np.int32]
    offsets: Longs


def features_of(texts: Texts, slots: int, most_words: int, memory: Memory | None = None) -> Features:
    """What the model sees of documents: of each its first `most_words` words; `slots` is a power of two."""
    words, ends = word_hashes(texts, memory)
    counts = np.minimum(np.diff(ends), most_words)
    offsets = np.concatenate([[0], np.cumsum(np.maximum(2 * counts - 1, 0))])
    out = np.empty(max(int(offsets[-1]), 1), np.int32)
    write_slots(words, ends, most_words, slots - 1, out)
    return Features(out[: offsets[-1]], offsets)


def scores(
    texts: Texts, weights: Floats, bias: float, most_words: int, memory: Memory | None = None
) -> NDArray[np.float64]:
    """The score of each document, float64[n] in 0 to 1; of one without words that of the bias alone."""
    words, ends = word_hashes(texts, memory)
    out = np.zeros(len(ends) - 1)
    write_scores(words, ends, most_words, weights, out)
    found: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-(out + bias)))
    return found


def fit(
    features: Features, labels: NDArray[np.bool_], slots: int, *, epochs: int, rate: float, seed: int
) -> tuple[Floats, float]:
    """Weights and bias that tell the labels apart: logistic loss, Adagrad, one document at a time, classes weighted."""
    weights, squares = np.zeros(slots, np.float32), np.zeros(slots, np.float32)
    share = max(float(labels.mean()), 1e-9)
    of_class = np.where(labels, 0.5 / share, 0.5 / max(1.0 - share, 1e-9)).astype(np.float32)
    state = np.zeros(2, np.float64)  # bias, and the sum of its squared gradients
    chance = np.random.Generator(np.random.PCG64(seed))
    for _ in range(epochs):
        order = chance.permutation(len(labels))
        learn(
            features.slots,
            features.offsets,
            labels.astype(np.float32),
            of_class,
            order,
            np.float32(rate),
            weights,
            squares,
            state,
        )
    return weights, float(state[0])


@part
def pair_of(first: np.uint64, second: np.uint64) -> np.uint64:
    """The hash of two neighbouring words."""
    return (first * BASE + ONE) * BASE + second


@kernel
def write_slots(words: Longs, ends: Longs, most_words: int, mask: int, out: NDArray[np.int32]) -> None:
    """Write the slots of every document, words and pairs in turn."""
    count = 0
    for doc in range(len(ends) - 1):
        stop = min(ends[doc + 1], ends[doc] + most_words)
        for word in range(ends[doc], stop):
            value = np.uint64(words[word, _HASH])
            out[count] = slot_of(value, mask)
            count += 1
            if word + 1 < stop:
                out[count] = slot_of(pair_of(value, np.uint64(words[word + 1, _HASH])), mask)
                count += 1


@kernel
def write_scores(
    words: Longs, ends: Longs, most_words: int, weights: Floats, out: NDArray[np.float64]
) -> None:
    """Write the mean weight of every document."""
    mask = len(weights) - 1
    for doc in range(len(ends) - 1):
        stop = min(ends[doc + 1], ends[doc] + most_words)
        total, count = 0.0, 0
        for word in range(ends[doc], stop):
            value = np.uint64(words[word, _HASH])
            total += weights[slot_of(value, mask)]
            count += 1
            if word + 1 < stop:
                total += weights[slot_of(pair_of(value, np.uint64(words[word + 1, _HASH])), mask)]
                count += 1
        out[doc] = total / count if count else 0.0


@kernel
def learn(
    slots: NDArray[np.int32],
    offsets: Longs,
    labels: Floats,
    of_class: Floats,
    order: Longs,
    rate: np.float32,
    weights: Floats,
    squares: Floats,
    state: NDArray[np.float64],
) -> None:
    """One pass over the documents in this order."""
    for at in range(len(order)):
        doc = order[at]
        first, last = offsets[doc], offsets[doc + 1]
        count = last - first
        total = 0.0
        for place in range(first, last):
            total += weights[as_int(slots[place])]
        mean = total / count if count else 0.0
        error = (1.0 / (1.0 + np.exp(-(mean + state[0]))) - labels[doc]) * of_class[doc]
        state[1] += error * error
        state[0] -= rate * error / np.sqrt(state[1] + _EPSILON)
        if count == 0:
            continue
        step = np.float32(error / count)
        square = step * step
        for place in range(first, last):
            slot = as_int(slots[place])
            squares[slot] += square
            weights[slot] -= rate * step / np.sqrt(squares[slot] + _EPSILON)
