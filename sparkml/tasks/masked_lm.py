"""Masked language modelling (Devlin et al. 2019, arXiv:1810.04805, section 3.1; masks drawn anew at every step)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sparkml.errors import ConfigError
from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws, draws_by_content
from sparkml.tasks.language import Int64, Language, LanguageOptions
from sparkml.tasks.task import Batch, Rows
from sparkml.tasks.texts import batch_of

if TYPE_CHECKING:
    from torch import nn

_REPLACED_BY_MASK, _REPLACED_BY_ANY = 0.8, 0.1


class MaskedLMOptions(LanguageOptions):
    """Settings of `task:` where its name is `masked_lm`."""

    mask_fraction: float = Field(0.15, gt=0, lt=1, description="Part of the tokens to predict")
    whole_words: bool = Field(False, description="Words are chosen whole, not single tokens of them")
    embedding_start: Literal["random", "spectral"] = Field(
        "random",
        description="Token embeddings of a new network: random, or factorised co-occurrence of tokens and samples",
    )


class MaskedLM(Language[MaskedLMOptions]):
    """Some tokens are hidden and predicted."""

    name = "masked_lm"
    summary = "hidden tokens from those around them (BERT)"
    Options = MaskedLMOptions

    def network(self) -> NetworkSpec:
        """transformers' masked language model."""
        self.check_mask()
        return NetworkSpec("AutoModelForMaskedLM")

    def check_mask(self) -> None:
        """ConfigError where the tokenizer has no token to hide others by."""
        if self.inputs.mask_id < 0:
            raise ConfigError(
                "the tokenizer has no mask token",
                expected="a tokenizer with one, as those of BERT-like models have",
                next_action="pretrain this model by task.name=causal_lm",
            )

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """`position` in the flattened batch and `target`, int64 [masked]."""
        import torch

        ids, mask = self.ids_of(rows)
        attention = self.attention(ids, mask, causal=False)
        positions, targets = self.masked(ids, draws or draws_by_content(ids))
        tensors = {"input_ids": torch.from_numpy(ids), **attention}
        return batch_of(tensors, {"position": positions, "target": targets}, len(ids), int(mask.sum()))

    def masked(self, ids: Int64, draws: Draws) -> tuple[Int64, Int64]:
        """Choose tokens, never special ones; of these 80 % become the mask, 10 % any token. Changes `ids`."""
        flat = ids.reshape(-1)
        special = np.zeros(max(self.inputs.vocab_size, int(flat.max(initial=0)) + 1), np.bool_)
        special[list(self.inputs.special_ids)] = True
        # Token after token, so that what is drawn for a row depends neither on the others nor on its padding.
        drawn = np.array([rng.random((ids.shape[1], 3)) for rng in draws]).reshape(-1, 3)
        chosen, lots, others = drawn.T
        positions = np.flatnonzero(self._chosen(ids, chosen) & ~special[flat])
        targets = flat[positions]
        lot = lots[positions]
        ordinary = np.flatnonzero(~special[: self.inputs.vocab_size])
        any_token = ordinary[(others[positions] * len(ordinary)).astype(np.int64)]
        replaced = np.where(lot < _REPLACED_BY_MASK + _REPLACED_BY_ANY, any_token, targets)
        flat[positions] = np.where(lot < _REPLACED_BY_MASK, self.inputs.mask_id, replaced)
        return positions, targets

    def _chosen(self, ids: Int64, drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """bool [rows * time]."""
        if self.options.whole_words:  # the lot of a word is that of its first token
            begins = self.inputs.begins_word[ids]
            begins[:, :1] = True
            first = np.where(begins.reshape(-1), np.arange(ids.size), 0)
            drawn = drawn[np.maximum.accumulate(first)]
        chosen: npt.NDArray[np.bool_] = drawn < self.options.mask_fraction
        return chosen

    def start(self, network: nn.Module, rows: Rows, seed: int) -> None:
        """Output bias at the log frequencies; embeddings factorised where asked for."""
        from sparkml.models.spectral import start_bias, start_embeddings

        ids, _ = self.ids_of(rows)
        counted = ids.astype(np.int32)
        start_bias(network, counted)  # type: ignore[arg-type]  # a network of transformers
        if self.options.embedding_start == "spectral":
            start_embeddings(network, counted, self.inputs.special_ids, seed)  # type: ignore[arg-type]


TASK = MaskedLM
