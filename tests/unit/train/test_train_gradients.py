"""Gradients: of a process alone, and summed over ranks in parts, while others are still computed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from sparkml.distributed.collective import SingleProcess
from sparkml.training import gradients as module
from sparkml.training.gradients import Gradients, gradients_of
from tests.unit.train.trainings import Together, run_together, together

ROWS, WIDTH = 5000, 300


def of(model: nn.Module, alone: bool) -> Gradients:
    """Of two ranks, the other one of which has nothing; or of one alone."""
    return gradients_of(model, SingleProcess() if alone else Silent())


class Silent(Together):
    """A rank whose peers send zeros."""

    def __init__(self) -> None:
        super().__init__(0, None, [torch.zeros(0)] * 2)  # type: ignore[arg-type]

    def allreduce_(self, tensor: torch.Tensor) -> None:
        self.sent.append(tensor.numel())


@pytest.mark.parametrize("alone", [False, True])
def test_gradients_are_summed_scaled_and_clipped(alone):
    model = nn.Linear(2, 1, bias=True)
    gradients = of(model, alone)
    for _ in range(2):
        gradients.zero()
        gradients.last_pass()
        model(torch.tensor([[3.0, 4.0]])).sum().backward()
    assert gradients.sum_over_ranks([1.5, 2.0]) == [1.5, 2.0]
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
    gradients = of(model, alone)
    model[1].weight.grad = torch.ones(1, 1) if alone else model[1].weight.grad.fill_(1)
    gradients.zero()
    gradients.last_pass()
    model[0](torch.tensor([[3.0, 4.0]])).sum().backward()
    gradients.sum_over_ranks([0.0])
    assert gradients.scale_and_clip(2.0, max_norm=0.0) == pytest.approx(2 * math.sqrt(26))
    assert model[0].weight.grad.tolist() == [[6.0, 8.0]]
    assert model[1].weight.grad.tolist() == [[0.0]]


class Net(nn.Module):
    """Embeddings, two layers, and an output layer that may be the embeddings."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.tokens = nn.Embedding(ROWS, WIDTH)
        self.middle = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, ROWS if tied else 2, bias=False)
        if tied:
            self.out.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.middle(self.tokens(ids)).tanh())


def steps(
    model: Net, passes: list[list[torch.Tensor]], rank: Any, **settings: Any
) -> list[list[torch.Tensor]]:
    """The gradients of every parameter after each step, whose passes are given."""
    gradients = gradients_of(model, rank, **settings)
    found = []
    for parts in passes:
        gradients.zero()
        for number, ids in enumerate(parts, start=1):
            if number == len(parts):
                gradients.last_pass()
            model(ids).square().sum().backward()
        gradients.sum_over_ranks([1.0, float(sum(map(len, parts)))])
        gradients.scale_and_clip(0.5, max_norm=0.0)
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    return found


def ids_of(*rows: int) -> torch.Tensor:
    return torch.tensor(rows)


# Of both ranks, step by step: accumulated, one rank without rows, equal rows, rows that were touched before.
PASSES = [
    [[ids_of(1, 2, 3), ids_of(7)], [ids_of(4000)]],
    [[], [ids_of(5, 6)]],
    [[ids_of(1, 4000)], [ids_of(1), ids_of(2)]],
]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bucket_bytes", [100, 1 << 20, 1 << 30])
def test_two_ranks_have_the_sum_of_both(tied, bucket_bytes):
    expected = [
        steps(Net(tied), [[ids for rank in step for ids in rank]], SingleProcess())[0] for step in PASSES
    ]
    found: dict[int, list[list[torch.Tensor]]] = {}
    ranks = together(2)
    models = [Net(tied) for _ in ranks]  # one after the other: they draw from one generator

    def work(rank: Together) -> None:
        mine = [step[rank.rank] for step in PASSES]
        found[rank.rank] = steps(models[rank.rank], mine, rank, bucket_bytes=bucket_bytes)

    run_together([lambda rank=rank: work(rank) for rank in ranks])
    for rank in (0, 1):
        for step, whole in zip(found[rank], expected, strict=True):
            for mine, one in zip(step, whole, strict=True):
                torch.testing.assert_close(mine, one, atol=1e-3, rtol=1e-4)


def test_of_embeddings_the_touched_rows_travel_unless_they_are_the_output_layer_too():
    apart, tied = Silent(), Silent()
    for model, rank in ((Net(), apart), (Net(tied=True), tied)):
        steps(model, [[ids_of(1, 2, 2)]] * 3, rank)
    rest = WIDTH * WIDTH + WIDTH
    assert apart.sent == [rest + 2 * WIDTH, 2, ROWS, 2 * WIDTH] * 3
    assert (
        tied.sent == [rest, 2, ROWS, ROWS * WIDTH] + [rest, 2, ROWS * WIDTH] * 2
    )  # not looked at again at once


def test_buckets_travel_during_the_last_pass_alone():
    rank = Silent()
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(4)])
    gradients = gradients_of(model, rank, bucket_bytes=8 * 8 * 4)
    seen: list[list[int]] = []

    def loss() -> torch.Tensor:
        first = model[0](torch.ones(1, 8))
        # Looked at when the gradient of the first layer's output is there: those of the other layers are done.
        first.register_hook(lambda _: seen.append(list(rank.sent)))
        return model[1:](first).sum()

    gradients.zero()
    loss().backward()
    gradients.last_pass()
    loss().backward()
    assert seen == [[], [64, 64, 64]]
    gradients.sum_over_ranks([0.0])
    assert rank.sent == [64, 64, 64, 64, 1]


def test_half_precision_halves_the_bytes_and_rounds(monkeypatch):
    kinds = []

    def noted(self: Silent, tensor: torch.Tensor) -> None:
        kinds.append((tensor.dtype, tensor.numel()))

    monkeypatch.setattr(Silent, "allreduce_", noted)
    model = Net()
    whole = steps(Net(), [[ids_of(1, 2)]] * 2, SingleProcess())
    found = steps(model, [[ids_of(1, 2)]] * 2, Silent(), kind="float16")
    dense = WIDTH * WIDTH + WIDTH + 2 * WIDTH
    assert (torch.float32, dense) in kinds[:4]  # the first step: nothing is known of its range
    assert {(torch.float16, dense), (torch.float16, 2 * WIDTH)} <= set(kinds[4:])
    for mine, one in zip(found[1], whole[1], strict=True):
        torch.testing.assert_close(mine, one, atol=1e-3, rtol=2e-3)
        assert not torch.equal(mine, one) or not one.any()


def test_gradients_beyond_the_range_of_half_precision_arrive():
    model = nn.Linear(4, 4, bias=False)
    gradients = gradients_of(model, Silent(), kind="float16")
    for _ in range(2):
        gradients.zero()
        gradients.last_pass()
        (1e6 * model(torch.ones(1, 4))).sum().backward()
        gradients.sum_over_ranks([1.0, 1e4])
    torch.testing.assert_close(model.weight.grad, torch.full((4, 4), 1e6), atol=0, rtol=1e-3)


def test_the_limits_of_a_tall_matrix_are_what_the_tests_take():
    assert ROWS >= module._TALL_ROWS
    assert ROWS * WIDTH >= module._TALL_NUMBERS
