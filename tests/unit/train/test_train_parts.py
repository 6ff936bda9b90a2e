"""Learning rates, gradients in one buffer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sparkml.distributed.collective import SingleProcess
from sparkml.training.gradients import FlatGradients
from sparkml.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("none", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_learning_rates(decay, expected):
    rates = [learning_rate(s, peak=1.0, warmup_steps=2, max_steps=6, decay=decay) for s in range(6)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("alone", [False, True])
def test_gradients_are_summed_scaled_and_clipped(alone):
    model = nn.Linear(2, 1, bias=True)
    gradients = FlatGradients(model, n_sums=2, alone=alone)
    for _ in range(2):
        gradients.zero()
        model(torch.tensor([[3.0, 4.0]])).sum().backward()
    assert gradients.sum_over_ranks(SingleProcess(), [1.5, 2.0]) == [1.5, 2.0]
    assert model.weight.grad.tolist() == [[3.0, 4.0]]
    assert gradients.scale_and_clip(1.0, max_norm=0.0) == pytest.approx(math.sqrt(26))  # 0: never clipped
    assert model.weight.grad.tolist() == [[3.0, 4.0]]
    norm = gradients.scale_and_clip(2.0, max_norm=1.0)
    assert norm == pytest.approx(2 * math.sqrt(26))
    assert model.weight.grad.tolist()[0] == pytest.approx([3 / math.sqrt(26), 4 / math.sqrt(26)])
    assert model.bias.grad.tolist() == pytest.approx([1 / math.sqrt(26)])


@pytest.mark.parametrize("alone", [False, True])
def test_what_a_step_did_not_use_has_a_gradient_of_zeros(alone):
    model = nn.ModuleList([nn.Linear(2, 1), nn.Linear(1, 1)])
    gradients = FlatGradients(model, n_sums=1, alone=alone)
    model[1].weight.grad = torch.ones(1, 1) if alone else model[1].weight.grad.fill_(1)
    gradients.zero()
    model[0](torch.tensor([[3.0, 4.0]])).sum().backward()
    gradients.sum_over_ranks(SingleProcess(), [0.0])
    assert gradients.scale_and_clip(2.0, max_norm=0.0) == pytest.approx(2 * math.sqrt(26))
    assert model[0].weight.grad.tolist() == [[6.0, 8.0]]
    assert model[1].weight.grad.tolist() == [[0.0]]
