"""Causal language modelling: every token from those before it (Radford et al. 2018)."""

from __future__ import annotations

import numpy as np

from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws
from sparkml.tasks.language import Language, LanguageOptions
from sparkml.tasks.task import Batch, Rows
from sparkml.tasks.texts import batch_of


class CausalLM(Language[LanguageOptions]):
    """The next token."""

    name = "causal_lm"
    summary = "every token from those before it (GPT)"
    Options = LanguageOptions

    def network(self) -> NetworkSpec:
        """transformers' causal language model."""
        return NetworkSpec("AutoModelForCausalLM", settings={"use_cache": False})

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """`position` of a token in the flattened batch and `target`, the token after it: int64 [tokens]."""
        import torch

        ids, mask = self.ids_of(rows)
        follows = (mask[:, 1:] > 0) & (mask[:, :-1] > 0)
        if (
            self.options.attend_within_documents
        ):  # what comes after a document's end is not to be guessed from it
            follows &= ids[:, :-1] != self.inputs.sep_id
        row, place = np.nonzero(follows)
        targets = {"position": row * ids.shape[1] + place, "target": ids[row, place + 1]}
        tensors = {"input_ids": torch.from_numpy(ids), **self.attention(ids, mask, causal=True)}
        return batch_of(tensors, targets, len(ids), int(mask.sum()))


TASK = CausalLM
