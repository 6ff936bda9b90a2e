"""Products of matrices by oneDNN; apart, so that whoever multiplies needs no transformers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

_TYPES = (torch.float32, torch.bfloat16)


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN, and may use it."""
    return bool(torch.backends.mkldnn.enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """x [rows, in], weight [out, in] and bias [out] or None -> [rows, out], and GELU of it where `then` is `gelu`.

    Any strides, no gradients; torch computes on a GPU, in other types, and where there is nothing to multiply.
    """
    is_plain = x.device.type == "cpu" and x.dtype == weight.dtype and x.dtype in _TYPES
    if is_plain and x.numel() and weight.numel() and has_onednn():
        which = "none" if then == "gelu" else ""
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], which))
    out = F.linear(x, weight, bias)
    return F.gelu(out) if then == "gelu" else out
