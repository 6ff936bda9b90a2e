"""Can a classifier tell the rows of a window from those of the reference? (Lopez-Paz and Oquab 2017.)

It sees vectors of the rows: embeddings, or hashed words where there are none. Each half of the rows is judged by a
classifier of the other half; the area under the curve of all is .5 where nothing has changed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import linalg, stats
from threadpoolctl import threadpool_limits

from sparkml.kernels.linear import features_of
from sparkml.kernels.texts import read_texts

Vectors = NDArray[np.float32]
SLOTS = 512
_MOST_WORDS = 200
# Weight of the penalty beside the mean variance of a coordinate.
_RIDGE = 1.0


class Told(NamedTuple):
    """The area under the curve; how sure the classifier is that each row of the window is one of it, 0 to 1."""

    area: float
    ranks: NDArray[np.float64]


def word_vectors(texts: pa.Array) -> Vectors:
    """float32[n, 512]: words and pairs of neighbours by their hash, square roots of counts, of length 1."""
    features = features_of(read_texts(texts), SLOTS, _MOST_WORDS)
    counts = np.zeros((len(features.offsets) - 1, SLOTS), np.float32)
    np.add.at(counts, (np.repeat(np.arange(len(counts)), np.diff(features.offsets)), features.slots), 1.0)
    return unit(np.sqrt(counts))


def unit(vectors: Vectors) -> Vectors:
    """The same of length 1; what is 0 stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return found


def tell_apart(window: Vectors, reference: Vectors, seed: int) -> Told:
    """How well a ridge classifier tells them apart; both need two rows."""
    vectors = np.concatenate([window, reference]).astype(np.float64)
    is_window = np.arange(len(vectors)) < len(window)
    chance = np.random.Generator(np.random.PCG64(seed))
    half = np.zeros(len(vectors), bool)
    for group in (is_window, ~is_window):
        members = np.flatnonzero(group)
        half[chance.permutation(members)[: len(members) // 2]] = True
    ranks = np.zeros(len(vectors))
    # Small matrices: threads that wait for each other take longer, on a machine that does something else much longer.
    with threadpool_limits(1, "blas"):
        for part in (half, ~half):
            weights, middle = _fit(vectors[part], is_window[part])
            said = (vectors[~part] - middle) @ weights
            # The two classifiers have scales of their own: compared are places within a half.
            ranks[~part] = (stats.rankdata(said) - 0.5) / len(said)
    places = stats.rankdata(ranks)
    n, m = len(window), len(reference)
    area = (places[is_window].sum() - n * (n + 1) / 2) / (n * m)
    return Told(float(area), ranks[is_window])


def scaled_area(area: float, n: int, m: int) -> float:
    """The square of an area's distance from .5 in standard deviations: without drift chi-square of one degree."""
    return float((area - 0.5) / _deviation(n, m)) ** 2


def area_of(scaled: float, n: int, m: int) -> float:
    """The area above .5 that has this square."""
    return float(0.5 + np.sqrt(scaled) * _deviation(n, m))


def _deviation(n: int, m: int) -> float:
    return float(np.sqrt((n + m + 1) / (12 * n * m)))


def _fit(
    vectors: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of a ridge regression on the labels, classes weighted alike, and what is taken from a row before."""
    share = labels.mean()
    weight = np.where(labels, 0.5 / share, 0.5 / (1 - share))
    middle = (vectors * weight[:, None]).mean(0)
    centred = vectors - middle
    # In the space of the rows where these are fewer than the coordinates.
    penalty = _RIDGE * float((centred**2).mean()) * len(vectors)
    root = np.sqrt(weight)[:, None]
    weighted, goal = centred * root, (2.0 * labels - 1) * root[:, 0]
    if len(vectors) < vectors.shape[1]:
        kernel = weighted @ weighted.T
        kernel[np.diag_indices_from(kernel)] += penalty + 1e-12
        found = weighted.T @ linalg.solve(kernel, goal, assume_a="pos")
    else:
        gram = weighted.T @ weighted
        gram[np.diag_indices_from(gram)] += penalty + 1e-12
        found = linalg.solve(gram, weighted.T @ goal, assume_a="pos")
    return found, middle
