"""Tiny networks of many architectures with random weights, a batch for each, and a short training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from sparkml.models.adapt import Adapted, AdaptSettings, adapt

VOCABULARY = 60
_TEXT = {"vocab_size": VOCABULARY, "num_labels": 3}
_WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Kind:
    """An architecture: how it is built, what of it is new, how many linear layers and adapters it has."""

    build: Callable[[], nn.Module]
    new: tuple[str, ...]
    linears: int
    adapters: int
    feed_forwards: int = 2


KINDS = {
    "bert": Kind(
        lambda: hf.BertForSequenceClassification(hf.BertConfig(**_TEXT, **_WIDE)), ("classifier",), 12, 4
    ),
    "distilbert": Kind(
        lambda: hf.DistilBertForSequenceClassification(
            hf.DistilBertConfig(
                **_TEXT, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
            )
        ),
        ("pre_classifier", "classifier"),
        12,
        4,
    ),
    "roberta": Kind(
        lambda: hf.RobertaForTokenClassification(hf.RobertaConfig(**_TEXT, **_WIDE)), ("classifier",), 12, 4
    ),
    "modernbert": Kind(
        lambda: hf.ModernBertForSequenceClassification(
            hf.ModernBertConfig(**_TEXT, **_WIDE, pad_token_id=0, attn_implementation="sdpa")
        ),
        ("head", "classifier"),
        8,
        4,
    ),
    "gpt2": Kind(
        lambda: hf.GPT2ForSequenceClassification(
            hf.GPT2Config(**_TEXT, n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0)
        ),
        ("score",),
        8,
        4,
    ),
    "llama": Kind(
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_TEXT, **_WIDE, num_key_value_heads=2, pad_token_id=0)),
        (),
        14,
        4,
    ),
    "t5": Kind(
        lambda: hf.T5ForConditionalGeneration(
            hf.T5Config(
                vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0
            )
        ),
        (),
        32,
        10,
        4,
    ),
    "vit": Kind(
        lambda: hf.ViTForImageClassification(
            hf.ViTConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                image_size=16,
                patch_size=8,
                num_labels=3,
            )
        ),
        ("classifier",),
        12,
        4,
    ),
}


def network(kind: str, seed: int = 0) -> nn.Module:
    """A network of a kind in eval mode; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return KINDS[kind].build().eval()


def adapted(kind: str, seed: int = 1, steps: int = 20, **settings: Any) -> Adapted:
    """A network of a kind, adapted."""
    return adapt(
        network(kind),
        AdaptSettings(**settings),
        new_modules=KINDS[kind].new,
        total_steps=steps,
        epoch_steps=10,
        seed=seed,
    )


def batch(kind: str) -> dict[str, Tensor]:
    """Inputs for a network of a kind: 4 rows, of up to 7 tokens."""
    generator = torch.Generator().manual_seed(5)
    if kind == "vit":
        return {"pixel_values": torch.randn(4, 3, 16, 16, generator=generator)}
    ids = torch.randint(5, VOCABULARY, (4, 7), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in enumerate((7, 5, 4, 3)):
        ids[row, length:], mask[row, length:] = 0, 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs | ({"decoder_input_ids": ids[:, :4]} if kind == "t5" else {})


@torch.no_grad()
def answers(model: nn.Module, kind: str) -> Tensor:
    """Logits of the batch, in eval mode."""
    model.eval()
    logits: Tensor = model(**batch(kind)).logits
    return logits


def loss_of(model: nn.Module, kind: str) -> Tensor:
    """Cross entropy of the batch against fixed labels."""
    logits = model(**batch(kind)).logits.flatten(0, -2)
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)) % min(3, logits.shape[-1]))


def disturb(model: Adapted) -> None:
    """Move everything that is trained, so that no part of it is as it was at the start."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


class Training:
    """Steps of AdamW as a trainer makes them; random numbers follow the step."""

    def __init__(self, model: Adapted, kind: str, rate: float = 1e-2) -> None:
        self.model, self.kind, self.rate = model, kind, rate
        self.optimizer = torch.optim.AdamW(model.parameter_groups(rate, 0.01))

    def steps(self, first: int, last: int) -> list[float]:
        """Steps from `first` to before `last`; the losses of the task alone."""
        losses = []
        self.model.train()
        for step in range(first, last):
            torch.manual_seed(step)
            self.model.before_step(step)
            self.optimizer.zero_grad()
            loss = loss_of(self.model.network, self.kind)
            extra = self.model.extra_loss()
            (loss if extra is None else loss + extra).backward()
            self.optimizer.step()
            self.model.after_step(step)
            losses.append(float(loss.detach()))
        return losses
