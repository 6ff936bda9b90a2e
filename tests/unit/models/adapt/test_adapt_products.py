"""The fused product gives what peft's own layers give, forward and backward."""

from __future__ import annotations

import pytest
import torch
from peft.tuners.adalora import SVDLinear
from peft.tuners.lora import Linear
from torch import Tensor, nn

from sparkml.models.adapt.products import FusedLinear, FusedSVDLinear, LowRankProduct
from tests.unit.models.adapt.networks import KINDS, adapted, disturb, loss_of

SETTINGS = {"lora": {"bias": "lora_only"}, "adalora": {}}


def unfuse(network: nn.Module) -> int:
    """Give peft's layers their own class back; how many there were."""
    fused = [module for module in network.modules() if isinstance(module, FusedLinear | FusedSVDLinear)]
    for module in fused:
        module.__class__ = Linear if isinstance(module, FusedLinear) else SVDLinear
    return len(fused)


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_losses_and_gradients_are_those_of_peft(kind: str, method: str) -> None:
    model = adapted(kind, method=method, **SETTINGS[method])
    disturb(model)
    found: list[tuple[Tensor, dict[str, Tensor | None]]] = []
    for _ in range(2):
        model.network.eval()
        model.network.zero_grad()
        loss = loss_of(model.network, kind)
        loss.backward()
        found.append((loss.detach(), {n: p.grad for n, p in model.trained_parameters().items()}))
        unfused = unfuse(model.network)
    assert unfused == 0
    (loss, ours), (expected, theirs) = found
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-5, rtol=1e-3)
    assert sum(gradient is not None for gradient in ours.values()) > KINDS[kind].linears


def test_every_layer_of_the_blocks_is_fused() -> None:
    assert unfuse(adapted("gpt2", method="lora").network) == 8
    assert unfuse(adapted("bert", method="adalora").network) == 12


def test_gradients_are_the_derivatives() -> None:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, weight, bias, down, up = draw(6, 5), draw(4, 5), draw(4), draw(2, 5), draw(4, 2)
    for tensor in (x, bias, down, up):
        tensor.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x, bias, down, up: LowRankProduct.apply(x, weight, bias, down, up, 0.7), (x, bias, down, up)
    )
    assert torch.autograd.gradcheck(
        lambda x, down, up: LowRankProduct.apply(x, weight, None, down, up, 0.7), (x, down, up)
    )
