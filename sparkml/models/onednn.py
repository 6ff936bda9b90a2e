"""Products of matrices by oneDNN; apart, so that whoever multiplies needs no transformers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

# How many rows a product has about, by which oneDNN chooses how a weight lies.
_PACKED_ROWS = 512


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN, and may use it."""
    return bool(torch.backends.mkldnn.enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@functools.lru_cache(maxsize=1)
def beats_mkl() -> bool:
    """Whether float32 products by oneDNN take about half as long as torch's by MKL.

    Of processors that are not Intel's MKL leaves the widest registers unused, where there are such (AVX-512).
    """
    widest = torch.backends.cpu.get_cpu_capability() == "AVX512"
    has_mkl = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
    return has_onednn() and widest and has_mkl and not _is_intel()


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True  # not Linux: torch's own choice


@functools.lru_cache(maxsize=1)
def has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 on this processor: a CPU needs AVX-512 for it."""
    return has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@functools.lru_cache(maxsize=1)
def has_int8() -> bool:
    """Whether this processor has instructions for int8 products (VNNI): without, torch takes one number at a time."""
    return has_onednn() and bool(torch.cpu._is_vnni_supported())


def _multiplies(kind: torch.dtype) -> bool:
    return (kind == torch.float32 and has_onednn()) or (kind == torch.bfloat16 and has_bfloat16())


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """x [rows, in], weight [out, in] and bias [out] or None -> [rows, out], and GELU of it where `then` is `gelu`.

    Any strides, no gradients; torch computes on a GPU, in other types, and where there is nothing to multiply.
    """
    is_plain = x.device.type == "cpu" and x.dtype == weight.dtype and x.numel() and weight.numel()
    if is_plain and _multiplies(x.dtype):
        which = "none" if then == "gelu" else ""
        rows, columns = _dense(x), weight if weight.is_mkldnn else _dense(weight)
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(rows, columns, bias, then, [], which))
    out = F.linear(x, weight, bias)
    return F.gelu(out) if then == "gelu" else out


def _dense(matrix: Tensor) -> Tensor:
    """The same, without gaps between its rows or columns: for one with gaps oneDNN takes a thousand times as long."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


class Int8Weight:
    """int8 [out, in] with a scale [out] a row, to be multiplied with int8 rows; lies as oneDNN wants it.

    Without instructions for int8 it lies in memory as float32.
    """

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        self._is_int8 = has_int8() and weight.numel() > 0
        self._scale = scale.float()
        if self._is_int8:
            self._weight = torch.ops.onednn.qlinear_prepack(weight, [_PACKED_ROWS, weight.shape[1]])
            self._zero = torch.zeros(len(scale), dtype=torch.int32)
        else:
            self._weight = weight.float()

    def __call__(self, rows: Tensor) -> Tensor:
        """int8 [rows, in] -> float32 [rows, out]: sums of products, exact up to 2^24, times the scale of the output."""
        if not self._is_int8:
            return product(rows.float(), self._weight).mul_(self._scale)
        if not len(rows):
            return torch.empty(0, len(self._scale))
        of_weight, as_it_is = (self._weight, self._scale, self._zero), (1.0, 0)
        multiply = torch.ops.onednn.qlinear_pointwise
        found = multiply(rows, *as_it_is, *of_weight, None, *as_it_is, torch.float32, "none", [], "")
        return cast(Tensor, found)


def packed(weight: Tensor) -> Tensor:
    """A weight as oneDNN multiplies it the fastest, for `product` alone; itself where nothing is gained.

    float32 stays, for it is mapped into memory, which the processes of a machine share.
    """
    if weight.dtype != torch.bfloat16 or not has_bfloat16() or not weight.numel():
        return weight
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_ROWS))
