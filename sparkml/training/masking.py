"""Dynamic masking of BERT (Devlin et al. 2019, arXiv:1810.04805, section 3.1; RoBERTa's dynamic variant)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparkml.models.tokenizer import MASK_ID, SPECIAL_TOKENS

_FIRST_WORD_ID = len(SPECIAL_TOKENS)
_REPLACED_BY_MASK, _REPLACED_BY_ANY = 0.8, 0.1


@dataclass(frozen=True)
class MaskedBatch:
    """`input_ids` int64 [rows, length]; `positions` in the flattened batch and `targets`, int64 [masked]."""

    input_ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]


def mask_tokens(
    input_ids: npt.NDArray[np.int32], vocab_size: int, fraction: float, rng: np.random.Generator
) -> MaskedBatch:
    """Choose `fraction` of the tokens, never special ones; of these 80 % become [MASK], 10 % any token."""
    masked = input_ids.astype(np.int64)
    flat = masked.reshape(-1)
    chosen = (rng.random(flat.shape) < fraction) & (flat >= _FIRST_WORD_ID)
    positions = np.flatnonzero(chosen)
    targets = flat[positions]
    lot = rng.random(len(positions))
    any_token = rng.integers(_FIRST_WORD_ID, vocab_size, len(positions))
    replaced = np.where(lot < _REPLACED_BY_MASK + _REPLACED_BY_ANY, any_token, targets)
    flat[positions] = np.where(lot < _REPLACED_BY_MASK, MASK_ID, replaced)
    return MaskedBatch(masked, positions, targets)
