"""Where a masked language model starts before its first step: what counting the samples already says.

- The output bias starts at the log frequencies of the tokens. Else the embeddings learn the frequencies first, and
  a small encoder never gets rid of the direction that they all share: its sentence vectors then hardly differ.
- The embeddings start at a factorisation of how tokens and samples go together: positive pointwise mutual
  information by truncated SVD, singular values to the power of one half (Levy & Goldberg 2014, "Neural word embedding
  as implicit matrix factorization"; Levy, Goldberg & Dagan 2015 for the power). Training takes millions of tokens to
  come by the same knowledge of topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SVD_ITERATIONS = 2


def start_bias(network: PreTrainedModel, rows: NDArray[np.int32]) -> None:
    """Set the output bias, where there is one, to the tokens' log frequencies in `rows` [samples, time]."""
    head: Any = network.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    bias = getattr(head, "bias", None)
    if bias is None:
        return
    counts = np.bincount(rows.ravel(), minlength=len(bias)) + 1.0
    with torch.no_grad():
        bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))


def start_embeddings(
    network: PreTrainedModel, rows: NDArray[np.int32], special_ids: Sequence[int], seed: int
) -> None:
    """Set the token embeddings to the factorised `rows` [samples, time], in the spread they are initialised with.

    Special tokens and those never seen keep their random vectors, and so do dimensions beyond the number of
    samples or tokens.
    """
    weight: Any = network.get_input_embeddings().weight
    vectors = spectral_embeddings(rows, special_ids, len(weight), weight.shape[1], seed)
    told = vectors.norm(dim=1) > 0
    if not told.any():
        return
    vectors *= float(network.config.initializer_range) / vectors[told].square().mean().sqrt()
    with torch.no_grad():
        weight[told, : vectors.shape[1]] = vectors[told].to(weight)


def spectral_embeddings(
    rows: NDArray[np.int32], special_ids: Sequence[int], vocab_size: int, width: int, seed: int
) -> Tensor:
    """Vectors [vocab_size, at most width] of tokens that lie close where they occur in the same samples.

    The global random state is left as it was; equal rows and seeds give equal vectors.
    """
    ordinary = _ordinary_pairs(rows, special_ids, vocab_size)
    if not len(ordinary):
        return torch.zeros(vocab_size, 0)
    pairs, counts = np.unique(ordinary, return_counts=True)
    samples, tokens = np.divmod(pairs, vocab_size)
    weights = np.log1p(counts)
    of_samples = np.bincount(samples, weights, minlength=len(rows))
    of_tokens = np.bincount(tokens, weights, minlength=vocab_size)
    information = np.log(weights * weights.sum() / (of_samples[samples] * of_tokens[tokens])).clip(min=0)
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([tokens, samples])),
        torch.from_numpy(information).float(),
        (vocab_size, len(rows)),
        check_invariants=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, strengths, _ = torch.svd_lowrank(
            matrix.coalesce(), q=min(width, vocab_size, len(rows)), niter=_SVD_ITERATIONS
        )
    vectors: Tensor = left * strengths.sqrt()
    untold = np.bincount(tokens, information, minlength=vocab_size) == 0
    vectors[torch.from_numpy(untold)] = 0.0  # where the decomposition leaves rounding errors
    return vectors


def _ordinary_pairs(
    rows: NDArray[np.int32], special_ids: Sequence[int], vocab_size: int
) -> NDArray[np.int64]:
    """One number for each (sample, token) that occurs; special tokens say nothing about a sample."""
    numbers = np.arange(len(rows), dtype=np.int64)[:, None] * vocab_size + rows
    ordinary: NDArray[np.int64] = numbers[~np.isin(rows, np.asarray(special_ids))]
    return ordinary
