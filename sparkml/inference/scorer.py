"""Scores documents with a classifier folder, float or int8; plain torch, no Spark.

scorer = load_scorer("lake/_artifacts/models/classifier/v1")
probabilities = scorer.score(["a text", "another"])     # float32 [2, len(scorer.labels)]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sparkml.models.bert import BertClassifier
from sparkml.models.classifier import load_classifier
from sparkml.models.folder import TOKENIZER_FILE
from sparkml.models.tokenizer import PAD_ID, encode_batch, load_tokenizer

# Tokens of one forward pass, padding included: the widest activations of a small encoder then stay in the
# second-level cache, and a large batch of long documents cannot exhaust the memory.
TOKEN_BUDGET = 2048


class Scorer:
    """A classifier with its tokenizer and labels."""

    def __init__(
        self,
        model: BertClassifier,
        tokenizer: Tokenizer,
        labels: list[str],
        max_length: int,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        self.labels = labels
        self.max_length = max_length
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._token_budget = token_budget

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities of the labels for each text, in the order of `texts`: float32 [n, n_labels].

        A row depends on its text alone, up to 1e-5: the company it is scored in only changes the padding.
        """
        return self.score_ids(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text as the model sees it: cut, with [CLS] and [SEP]."""
        return encode_batch(self._tokenizer, texts, self.max_length)

    def score_ids(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """As `score`, from token ids with [CLS] and [SEP]."""
        scores = np.empty((len(input_ids), len(self.labels)), dtype=np.float32)
        with torch.inference_mode():
            for members in batches_by_length(input_ids, self._token_budget):
                logits = self._model(*padded([input_ids[index] for index in members]))
                scores[members] = torch.softmax(logits, dim=1).numpy()
        return scores


def load_scorer(folder: str | Path, threads: int = 1) -> Scorer:
    """Load a classifier folder; `threads` torch threads of this process do the work (a process-wide setting).

    Raises `InputError` when the folder is missing, incomplete, no classifier, or holds pickle weights.
    """
    torch.set_num_threads(threads)
    found = load_classifier(folder)
    longest = int(found.config.get("max_length", found.model.bert.shape.max_length))
    return Scorer(found.model, load_tokenizer(Path(folder) / TOKENIZER_FILE), found.labels, longest)


def batches_by_length(input_ids: Sequence[Sequence[int]], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, each at most `token_budget` tokens padded."""
    order = sorted(range(len(input_ids)), key=lambda index: (-len(input_ids[index]), index))
    start = 0
    while start < len(order):
        size = max(1, token_budget // max(len(input_ids[order[start]]), 1))
        yield order[start : start + size]
        start += size


def padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids as int64 [rows, longest] filled with [PAD], and the boolean mask of real tokens."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), PAD_ID, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)
