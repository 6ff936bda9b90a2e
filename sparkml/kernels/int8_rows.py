"""What lies between the int8 products of an encoder, each in one pass over a row: scales, GELU, norms, rounding.

A row is a token: float32 values = int8 * scale of the row, symmetric, 127 levels. A product of such rows with weights
of one scale an output channel comes as float32 with the channels' scales in it; the scale of the row is still to come.
Where `fixed` is not 0 it is the scale of all rows, and what is larger than 127 of it saturates.
Buffers of float32 come with `bits`, an int32 view of the same memory: the largest magnitude of a row is found as an
integer, which compiles to vector instructions where floats with their NaNs do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparkml.kernels.compiled import kernel, part

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int8 = npt.NDArray[np.int8]

_LEVELS = np.float32(127.0)
_SMALLEST = np.float32(1e-10).view(np.int32)  # magnitudes below it count as this, so that no scale is 0
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITE, _NAN = (
    np.int32(0x7F800000),
    np.int32(0x7FC00000),
)  # bits of float32; those of any NaN are above infinity's
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_ROOT_HALF = np.float32(0.7071067811865476)
# erf(z) = z P(z^2) / Q(z^2) up to |z| = 3.9, beyond which it is 1 to float32; fitted on Chebyshev nodes, off by 8e-7.
_FAR = np.float32(3.9)
_P0, _P1, _P2, _P3, _P4, _P5 = (
    np.float32(c)
    for c in (
        1.128381499e00,
        3.695757079e-01,
        7.325371526e-02,
        1.044854206e-02,
        2.629895307e-04,
        -1.495804610e-06,
    )
)
_Q1, _Q2, _Q3, _Q4 = (
    np.float32(c) for c in (6.608686424e-01, 1.852213575e-01, 2.866202496e-02, 2.451251523e-03)
)


def _gelu(x: Any) -> Any:
    z = x * _ROOT_HALF
    z = -_FAR if z < -_FAR else z
    z = _FAR if z > _FAR else z
    t = z * z
    above = ((((_P5 * t + _P4) * t + _P3) * t + _P2) * t + _P1) * t + _P0
    below = (((_Q4 * t + _Q3) * t + _Q2) * t + _Q1) * t + _ONE
    return _HALF * x * (_ONE + z * above / below)


gelu = part(_gelu)


def _magnitude(bits: Any) -> Any:
    """The bits of the largest magnitude of a row of float32; of NaN where there is one, which no float would tell."""
    most = _SMALLEST
    for j in range(len(bits)):
        one = bits[j] & _MAGNITUDE
        most = one if one > most else most
    return most


def _round(row: Any, largest: Any, out: Any) -> Any:
    """A row in int8; returns its scale."""
    scale = largest / _LEVELS
    by = _ONE / scale
    for j in range(len(row)):
        out[j] = np.int8(np.rint(row[j] * by))
    return scale


def _saturate(row: Any, scale: Any, out: Any) -> None:
    """A row in int8 at a given scale."""
    by = _ONE / scale
    for j in range(len(row)):
        level = np.rint(row[j] * by)
        level = -_LEVELS if level < -_LEVELS else level
        level = _LEVELS if level > _LEVELS else level
        out[j] = np.int8(level)


magnitude, round_row, saturate_row = part(_magnitude), part(_round), part(_saturate)


def _keep(row: Any, bits: Any, fixed: Any, i: Any, out: Any, scale: Any, scale_bits: Any) -> None:
    """A row as row i of the int8 ones, with its scale; NaN where there is one in the row."""
    scale_bits[i] = magnitude(bits)
    if fixed > _ZERO:
        is_number = scale_bits[i] <= _INFINITE
        saturate_row(row, fixed, out[i])
        scale[i] = fixed
        if not is_number:
            scale_bits[i] = _NAN
    else:
        scale[i] = round_row(row, scale[i], out[i])


keep = part(_keep)


def _quantise(
    x: Float32, x_bits: Int32, fixed: np.float32, out: Int8, scale: Float32, scale_bits: Int32
) -> None:
    """x [rows, width] -> int8 of the same shape and its scales [rows]."""
    for i in range(len(x)):
        keep(x[i], x_bits[i], fixed, i, out, scale, scale_bits)


def _dequantise(acc: Float32, scale: Float32, bias: Float32, out: Float32) -> None:
    """A product [rows, width] with the scales of its rows and its bias."""
    for i in range(len(acc)):
        by = scale[i]
        for j in range(acc.shape[1]):
            out[i, j] = acc[i, j] * by + bias[j]


def _gelu_quantise(
    acc: Float32,
    scale: Float32,
    bias: Float32,
    row: Float32,
    row_bits: Int32,
    fixed: np.float32,
    out: Int8,
    out_scale: Float32,
    out_bits: Int32,
) -> None:
    """A product -> GELU of it in int8; `row` is room for one."""
    for i in range(len(acc)):
        by = scale[i]
        for j in range(acc.shape[1]):
            row[j] = gelu(acc[i, j] * by + bias[j])
        keep(row, row_bits, fixed, i, out, out_scale, out_bits)


def _add_norm_quantise(
    acc: Float32,
    scale: Float32,
    bias: Float32,
    hidden: Float32,
    hidden_bits: Int32,
    gain: Float32,
    shift: Float32,
    epsilon: np.float32,
    fixed: np.float32,
    out: Int8,
    out_scale: Float32,
    out_bits: Int32,
) -> None:
    """hidden <- layer norm of hidden + a product, in place, and the same in int8."""
    width = acc.shape[1]
    share = _ONE / np.float32(width)
    for i in range(len(acc)):
        by, row = scale[i], hidden[i]
        total = _ZERO
        for j in range(width):
            value = row[j] + acc[i, j] * by + bias[j]
            row[j] = value
            total += value
        mean = total * share
        squares = _ZERO
        for j in range(width):
            off = row[j] - mean
            squares += off * off
        unit = _ONE / np.sqrt(squares * share + epsilon)
        for j in range(width):
            row[j] = (row[j] - mean) * unit * gain[j] + shift[j]
        keep(row, hidden_bits[i], fixed, i, out, out_scale, out_bits)


quantise = kernel(_quantise, reorders_sums=True)
dequantise = kernel(_dequantise, reorders_sums=True)
gelu_quantise = kernel(_gelu_quantise, reorders_sums=True)
add_norm_quantise = kernel(_add_norm_quantise, reorders_sums=True)
