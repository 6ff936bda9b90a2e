"""The simple models to beat: TF-IDF with a linear model, on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# Likenesses of held-out and training texts that are held at once: 0.2 GB.
_MOST_LIKENESSES = 1 << 25
# Words and pairs of words that are counted, the most frequent first.
_MOST_FEATURES = 200_000
_ITERATIONS = 200
# Features times labels of a linear model: 0.8 GB.
MOST_WEIGHTS = 100_000_000


def joined_texts(examples: pa.Table, columns: Sequence[str]) -> list[str]:
    """The texts of each example, one after the other."""
    parts = [[text or "" for text in examples.column(name).to_pylist()] for name in columns]
    return [" ".join(row) for row in zip(*parts, strict=True)]


def text_features(train: Sequence[str], held_out: Sequence[str]) -> tuple[Any, Any]:
    """TF-IDF of words and pairs of words, counted on the training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    features = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        max_features=_MOST_FEATURES,
        token_pattern=r"(?u)\b\w+\b|[^\w\s]",
    )
    return features.fit_transform(train), features.transform(held_out)


def linear_classes(
    train_x: Any, train_y: npt.NDArray[np.int64], held_x: Any, n_labels: int, seed: int
) -> npt.NDArray[np.float32]:
    """Probabilities of logistic regression, float32 [rows, n_labels]; a label never seen in training has 0."""
    from sklearn.linear_model import LogisticRegression

    probabilities = np.zeros((held_x.shape[0], n_labels), np.float32)
    if len(np.unique(train_y)) < 2:
        probabilities[:, train_y[0]] = 1.0
        return probabilities
    # On 9,000 documents and 200,000 features lbfgs takes 26 s, saga 1.5 s for the same accuracy.
    model = LogisticRegression(C=10.0, solver="saga", tol=0.01, max_iter=_ITERATIONS, random_state=seed)
    model.fit(train_x, train_y)
    probabilities[:, model.classes_] = model.predict_proba(held_x)
    return probabilities


def linear_sets(
    train_x: Any, train_y: npt.NDArray[np.bool_], held_x: Any, seed: int
) -> npt.NDArray[np.float32]:
    """As `linear_classes` for several labels a row, bool [rows, n_labels]: each on its own."""
    columns = [
        linear_classes(train_x, train_y[:, label].astype(np.int64), held_x, 2, seed)[:, 1]
        for label in range(train_y.shape[1])
    ]
    return np.stack(columns, axis=1)


def linear_numbers(train_x: Any, train_y: npt.NDArray[np.float64], held_x: Any) -> npt.NDArray[np.float64]:
    """Predictions of ridge regression."""
    from sklearn.linear_model import Ridge

    predicted: npt.NDArray[np.float64] = Ridge(alpha=1.0).fit(train_x, train_y).predict(held_x)
    return predicted


def nearest_rows(train_x: Any, held_x: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each row of `held_x` the row of `train_x` with the largest cosine, the first of equal ones, and that cosine.

    Rows are of length 1 or 0, as TF-IDF makes them.
    """
    at_once = max(1, _MOST_LIKENESSES // max(train_x.shape[0], 1))
    nearest, likeness = [], []
    for first in range(0, held_x.shape[0], at_once):
        cosines = np.asarray((held_x[first : first + at_once] @ train_x.T).todense())
        nearest.append(cosines.argmax(axis=1))
        likeness.append(cosines.max(axis=1))
    return np.concatenate(nearest), np.concatenate(likeness)
