"""BM25: passages ranked by the words that they share with a query, without any training.

Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", with k1 = 1.2 and b = 0.75:

    score(q, d) = sum over the words t of q of  idf(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * |d| / mean |d|))
    idf(t)      = ln(1 + (N - n_t + 0.5) / (n_t + 0.5))

The 1 within the logarithm keeps words of more than half of the passages from counting against them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_K1, _B = 1.2, 0.75
# Words are runs of letters and digits in lower case.
_WORD = r"(?u)\b\w+\b"


def bm25_scores(queries: Sequence[str], passages: Sequence[str]) -> Callable[[slice], Any]:
    """A function of a slice of the queries: float32 [queries, n_passages]; more is nearer. All 0 without words."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(token_pattern=_WORD)
    try:
        counts = counter.fit_transform(passages).tocsr()
    except ValueError:  # no passage has a word
        return lambda rows: np.zeros((len(queries[rows]), len(passages)), np.float32)
    asked = counter.transform(queries).tocsr().astype(np.float32)
    weights = _weighted(counts).T.tocsc()
    return lambda rows: (asked[rows] @ weights).toarray()


def _weighted(counts: Any) -> Any:
    """Counts of words [n_passages, n_words] -> what each adds to the score, as sparse float32."""
    from scipy.sparse import csr_matrix

    lengths = np.asarray(counts.sum(axis=1), np.float64).ravel()
    with_word = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log1p((counts.shape[0] - with_word + 0.5) / (with_word + 0.5))
    times = counts.data.astype(np.float64)
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    shrink = _K1 * (1 - _B + _B * lengths[rows] / lengths.mean())
    weights = (idf[counts.indices] * times * (_K1 + 1) / (times + shrink)).astype(np.float32)
    return csr_matrix((weights, counts.indices, counts.indptr), shape=counts.shape)
