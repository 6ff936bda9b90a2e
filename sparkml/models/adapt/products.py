"""The product of a frozen linear layer with an update of low rank, in as few passes over memory as it takes.

peft computes the layer, the update, the scaled update and the sum one after another: three more passes over the output
forward, and as many backward. On a CPU that is a tenth of a step, and the large short-lived results scatter the heap.
Here the update is added inside the matrix products (x W' + scale (x A') B'), in place.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.adalora import SVDLinear
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from sparkml.models.linear import PLAIN_LAYERS
from sparkml.models.onednn import beats_mkl, product

_ADAPTER = "default"


class LowRankProduct(torch.autograd.Function):
    """x [rows, in], weight [out, in], bias [out] or None, down [rank, in], up [out, rank] -> [rows, out]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        """Only x, down, up and bias get gradients."""
        inner = x @ down.T
        out = _times(x, weight, bias).addmm_(inner, up.T, alpha=scale)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale = scale
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, bias, down and up."""
        x, weight, down, up, inner = ctx.saved_tensors
        outer = (grad @ up).mul_(ctx.scale)
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _times(grad, weight.T).addmm_(outer, down)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum(0)
        return of_x, None, of_bias, outer.T @ x, (grad.T @ inner).mul_(ctx.scale), None


def _times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return product(x, weight, bias) if beats_mkl() else F.linear(x, weight, bias)


class FusedLinear(Linear):
    """peft's layer for LoRA with the product above where nothing else is asked of it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As peft's."""
        if args or kwargs or not _is_plain(self, x):
            return super().forward(x, *args, **kwargs)
        down: Any = self.lora_A[_ADAPTER].weight
        up: Any = self.lora_B[_ADAPTER].weight
        return _product(self, x, down, up, self.scaling[_ADAPTER])


class FusedSVDLinear(SVDLinear):
    """peft's layer for AdaLoRA with the product above where nothing else is asked of it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As peft's."""
        if args or kwargs or not _is_plain(self, x):
            return super().forward(x, *args, **kwargs)
        down: Any = self.lora_A[_ADAPTER] * self.lora_E[_ADAPTER]
        up: Any = self.lora_B[_ADAPTER]
        # The rank at the start, as in peft's `ranknum`, which would have to come from the accelerator.
        return _product(self, x, down, up, self.scaling[_ADAPTER] / (self.r[_ADAPTER] + 1e-5))


def fuse(network: nn.Module) -> None:
    """Let peft's layers of a network use the product; names, weights and merging stay as they are."""
    for module in network.modules():
        if type(module) is Linear:
            module.__class__ = FusedLinear
        elif type(module) is SVDLinear:
            module.__class__ = FusedSVDLinear


def _is_plain(layer: Any, x: Tensor) -> bool:
    """A training step of one adapter, not merged, without dropout, all in one kind of number."""
    base = layer.get_base_layer()
    dropout = layer.lora_dropout[_ADAPTER]
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(x.device.type)
        and type(base) in PLAIN_LAYERS
        and not base.weight.requires_grad
        and not (layer.disable_adapters or layer.merged)
        and layer.active_adapters == [_ADAPTER]
        and (isinstance(dropout, nn.Identity) or not dropout.training)
        and x.dtype == base.weight.dtype == next(iter(layer.lora_B.parameters())).dtype
    )


def _product(layer: Any, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    base = layer.get_base_layer()
    weight = base.weight.T if isinstance(base, Conv1D) else base.weight
    rows = x.reshape(-1, x.shape[-1])
    found: Tensor = LowRankProduct.apply(rows, weight, base.bias, down, up, scale)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], found.shape[-1])
