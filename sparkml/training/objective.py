"""The masked-LM loss of a batch, and its mean over held-out rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sparkml.distributed.collective import Collective
from sparkml.feed.batches import MicroBatch
from sparkml.models.tokenizer import PAD_ID
from sparkml.training.masking import MaskedBatch, mask_tokens

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

_VALIDATION_MASKS = 13


def masked_loss_sum(model: BertForMaskedLM, masked: MaskedBatch, device: torch.device) -> Tensor:
    """Cross-entropy summed over the masked tokens; the head sees these alone: a seventh of its work."""
    if not len(masked.positions):
        return torch.zeros((), device=device)
    ids = torch.from_numpy(masked.input_ids).to(device)
    positions = torch.from_numpy(masked.positions).to(device)
    targets = torch.from_numpy(masked.targets).to(device)
    padding = (ids != PAD_ID).long() if (masked.input_ids == PAD_ID).any() else None
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        states = model.bert(input_ids=ids, attention_mask=padding).last_hidden_state
        logits = model.cls(states.flatten(0, 1)[positions])
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def held_out_loss(
    model: BertForMaskedLM,
    batches: Sequence[MicroBatch],
    *,
    vocab_size: int,
    mask_fraction: float,
    seed: int,
    device: torch.device,
    collective: Collective,
) -> dict[str, float]:
    """Mean loss and perplexity over the batches of all ranks, with the same masks at every call."""
    sums = torch.zeros(2, dtype=torch.float64)
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    with torch.no_grad():
        for batch in batches:
            rng = np.random.default_rng([_VALIDATION_MASKS, seed, batch.step, collective.rank])
            masked = mask_tokens(batch.input_ids, vocab_size, mask_fraction, rng)
            loss = float(masked_loss_sum(model, masked, device))
            sums += torch.tensor([loss, len(masked.positions)], dtype=torch.float64)
    collective.allreduce_(sums)
    mean = float(sums[0] / sums[1].clamp(min=1))
    return {"validation_loss": mean, "validation_perplexity": math.exp(min(mean, 50.0))}
