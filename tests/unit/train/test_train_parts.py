"""Masks, learning rates, gradients in one buffer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sparkml.distributed.collective import SingleProcess
from sparkml.training.gradients import FlatGradients
from sparkml.training.masking import mask_tokens
from sparkml.training.schedule import learning_rate

MASK = 4


def test_masks_follow_the_paper():
    rows = np.full((400, 100), 50, dtype=np.int32)
    masked = mask_tokens(rows, 1000, 0.15, np.random.default_rng(0))
    assert (masked.targets == 50).all()
    assert len(masked.positions) / rows.size == pytest.approx(0.15, abs=0.01)
    seen = masked.input_ids.reshape(-1)[masked.positions]
    assert (seen == MASK).mean() == pytest.approx(0.8, abs=0.02)
    assert (seen == 50).mean() == pytest.approx(0.1, abs=0.02)
    untouched = np.delete(masked.input_ids.reshape(-1), masked.positions)
    assert (untouched == 50).all()
    replaced = seen[(seen != MASK) & (seen != 50)]
    assert replaced.min() >= 5
    assert replaced.max() < 1000


def test_special_tokens_are_never_chosen():
    rows = np.tile(np.array([0, 1, 2, 3, 4], dtype=np.int32), (50, 10))
    masked = mask_tokens(rows, 100, 0.99, np.random.default_rng(0))
    assert len(masked.positions) == 0
    assert (masked.input_ids == rows).all()


def test_no_rows_no_masks():
    masked = mask_tokens(np.empty((0, 8), dtype=np.int32), 100, 0.15, np.random.default_rng(0))
    assert masked.input_ids.shape == (0, 8)
    assert len(masked.positions) == 0


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_learning_rates(decay, expected):
    rates = [learning_rate(s, peak=1.0, warmup_steps=2, max_steps=6, decay=decay) for s in range(6)]
    assert rates == pytest.approx(expected)


def test_gradients_are_summed_scaled_and_clipped():
    model = nn.Linear(2, 1, bias=True)
    gradients = FlatGradients(model, n_sums=2)
    for _ in range(2):
        gradients.zero()
        model(torch.tensor([[3.0, 4.0]])).sum().backward()
    assert gradients.sum_over_ranks(SingleProcess(), [1.5, 2.0]) == [1.5, 2.0]
    assert model.weight.grad.tolist() == [[3.0, 4.0]]
    norm = gradients.scale_and_clip(2.0, max_norm=1.0)
    assert norm == pytest.approx(2 * math.sqrt(26))
    assert model.weight.grad.tolist()[0] == pytest.approx([3 / math.sqrt(26), 4 / math.sqrt(26)])
    assert model.bias.grad.tolist() == pytest.approx([1 / math.sqrt(26)])
