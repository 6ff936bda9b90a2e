"""Products of float32 matrices by oneDNN where torch would take MKL and that is slower: `onednn.beats_mkl`.

`use_onednn` gives the linear layers of a network, whatever its architecture, this product: forward, and for the
gradients of inputs and weights. Names, shapes and what is saved stay as they were. On a GPU, under autocast, in another
type or for weights that are spread over ranks the layers compute as torch does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from sparkml.models.onednn import beats_mkl, product


class Product(torch.autograd.Function):
    """x [rows, in], weight [out, in], bias [out] or None -> [rows, out]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """All of them get gradients."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = product(grad, weight.t())
        if ctx.needs_input_grad[1]:
            of_weight = product(grad.t(), x.t())
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum(0)
        return of_x, of_weight, of_bias


class OneDnnLinear(nn.Linear):
    """A linear layer that was a `nn.Linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """As torch's."""
        return linear(input, self.weight, self.bias)


class OneDnnConv1D(Conv1D):
    """GPT-2's linear layer, whose weight is [in, out]."""

    def forward(self, x: Tensor) -> Tensor:
        """As transformers'."""
        if _is_ours(x, self.weight):
            return _apply(x, self.weight.t(), self.bias)
        found: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return found


_OURS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: OneDnnLinear, Conv1D: OneDnnConv1D}
# Layers that are a product with a weight and nothing else.
PLAIN_LAYERS = (*_OURS, *_OURS.values())


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in], weight [out, in], bias [out] or None -> [..., out]; all of them get gradients."""
    return _apply(x, weight, bias) if _is_ours(x, weight) else F.linear(x, weight, bias)


def with_fast_products(network: nn.Module) -> nn.Module:
    """The network, by oneDNN where that is faster on this processor."""
    return use_onednn(network) if beats_mkl() else network


def use_onednn(network: nn.Module) -> nn.Module:
    """The network, whose linear layers compute by `product` from now on."""
    for module in network.modules():
        module.__class__ = _OURS.get(type(module), type(module))
    return network


def use_torch(network: nn.Module) -> nn.Module:
    """The network with its linear layers as they were before `use_onednn`: what traces a network knows no others."""
    theirs = {ours: plain for plain, ours in _OURS.items()}
    for module in network.modules():
        module.__class__ = theirs.get(type(module), type(module))
    return network


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    found: Tensor = Product.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    # Not in there: what a function of autograd gives as a view, networks may not change in place.
    return found.view(*x.shape[:-1], found.shape[-1])


def _is_ours(x: Tensor, weight: Tensor) -> bool:
    """Weights in one piece: those that lie over several ranks are of another class."""
    is_plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return type(weight) in (nn.Parameter, Tensor) and is_plain and not torch.is_autocast_enabled("cpu")
