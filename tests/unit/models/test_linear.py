"""Linear layers by oneDNN: torch's values and gradients, and where torch itself computes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from sparkml.models import linear, onednn
from sparkml.models.heads import build_network
from sparkml.models.linear import OneDnnConv1D, OneDnnLinear, use_onednn
from sparkml.models.networks import NetworkSpec
from sparkml.models.onednn import product
from tests.tiny import SHAPE, tiny_model

GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that `product` was asked for."""
    seen: list[tuple[int, ...]] = []

    def counted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.append((x.shape[0], weight.shape[1], weight.shape[0]))
        return product(x, weight, bias)

    monkeypatch.setattr(linear, "product", counted)
    return seen


@pytest.mark.parametrize(
    ("capability", "maker", "beats"),
    [("AVX512", "AuthenticAMD", True), ("AVX512", "GenuineIntel", False), ("AVX2", "AuthenticAMD", False)],
)
def test_onednn_is_taken_where_mkl_leaves_registers_unused(
    capability: str, maker: str, beats: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"vendor_id : {maker}")
    monkeypatch.setattr(onednn, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert onednn.beats_mkl.__wrapped__() is beats


def test_rows_with_gaps_between_them_are_closed_first() -> None:
    """oneDNN takes a thousand times as long for such a matrix: the first tokens of a batch are one."""
    hidden = random(32, 25, 384)
    first, grad = hidden[:, 0], random(32, 384, seed=2)
    assert onednn._dense(first).is_contiguous()
    assert onednn._dense(grad.t()).data_ptr() == grad.data_ptr()
    expected = F.linear(grad.t(), first.t())
    torch.testing.assert_close(product(grad.t(), first.t()), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 130])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("strided", ["no", "x", "weight"])
def test_a_product_is_that_of_torch(rows: int, with_bias: bool, strided: str) -> None:
    x = random(33, rows).t() if strided == "x" else random(rows, 33)
    weight = random(33, 17, seed=2).t() if strided == "weight" else random(17, 33, seed=2)
    bias = random(17, seed=3) if with_bias else None
    torch.testing.assert_close(product(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12), (0, 12), (4, 0, 12)])
@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(12, 9), lambda: nn.Linear(12, 9, bias=False), lambda: Conv1D(9, 12)]
)
def test_values_and_gradients_are_those_of_the_layer(
    shape: tuple[int, ...], make: Callable[[], nn.Module]
) -> None:
    theirs = make()
    ours = use_onednn(copy.deepcopy(theirs))
    assert type(ours) in (OneDnnLinear, OneDnnConv1D)
    results = []
    for layer in (theirs, ours):
        x = random(*shape).requires_grad_()
        out = layer(x)
        (out * random(*out.shape, seed=4)).sum().backward()
        results.append([out, x.grad, *(one.grad for one in layer.parameters())])
    for theirs_value, ours_value in zip(*results, strict=True):
        torch.testing.assert_close(ours_value, theirs_value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12)])
def test_what_a_layer_gives_may_be_changed_in_place(shape: tuple[int, ...]) -> None:
    layer = use_onednn(nn.Linear(12, 9))
    layer(random(*shape)).relu_().sum().backward()
    assert layer.weight.grad is not None


def test_frozen_weights_get_no_gradient_and_cost_no_product(calls: list[tuple[int, ...]]) -> None:
    layer = use_onednn(nn.Linear(12, 9))
    layer.requires_grad_(False)
    x = random(5, 12).requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None
    assert calls == [(5, 12, 9), (5, 9, 12)]


@pytest.mark.parametrize("model", [SHAPE, GPT2])
def test_every_linear_layer_of_a_network_that_is_built_is_ours(
    tmp_path: Path, model: dict[str, Any], calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "beats_mkl", lambda: True)
    head = "AutoModelForCausalLM" if model is GPT2 else "AutoModelForMaskedLM"
    tiny_model(tmp_path / "m", head, config=model)
    network, _ = build_network(NetworkSpec(head), tmp_path / "m", seed=1)
    layers = [one for one in network.modules() if isinstance(one, (nn.Linear, Conv1D))]
    assert {type(one) for one in layers} <= {OneDnnLinear, OneDnnConv1D}
    network(input_ids=torch.tensor([[2, 9, 10, 3]])).logits.sum().backward()
    assert len(calls) >= 2 * len(layers)


def test_torch_computes_what_is_not_float32_on_a_processor(
    calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = use_onednn(nn.Linear(12, 9))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(random(5, 12)).dtype == torch.bfloat16
    assert copy.deepcopy(layer).double()(random(5, 12).double()).dtype == torch.float64
    assert copy.deepcopy(layer).to(torch.bfloat16)(random(5, 12).bfloat16()).dtype == torch.bfloat16
    assert not calls
    monkeypatch.setattr(onednn, "has_onednn", lambda: False)
    assert torch.equal(layer(random(5, 12)), F.linear(random(5, 12), layer.weight, layer.bias))


def test_a_compiled_layer_says_the_same() -> None:
    layer = use_onednn(nn.Linear(12, 9))
    compiled = torch.compile(layer, backend="aot_eager")
    x = random(5, 12)
    torch.testing.assert_close(compiled(x), layer(x))
    compiled(x).sum().backward()
    assert layer.weight.grad is not None
