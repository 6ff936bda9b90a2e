"""Passes between int8 products against the same in numpy's float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import erf

from sparkml.kernels import int8_rows

Array = npt.NDArray[Any]
DYNAMIC = np.float32(0)  # no fixed scale: one a row


def rounded(rows: Array) -> tuple[Array, Array]:
    """The slow, obvious way."""
    scale = np.maximum(np.abs(rows).max(axis=1, initial=0), 1e-10) / 127.0
    return np.rint(rows / scale[:, None]), scale


class Case:
    """A product of `rows` tokens with `width` channels, and what it stands for."""

    def __init__(self, rows: int, width: int) -> None:
        rng = np.random.default_rng([rows, width])
        self.rng = rng
        channels = rng.uniform(1e-4, 1e-2, width)
        self.acc = (rng.integers(-200_000, 200_000, (rows, width)) * channels).astype(np.float32)
        self.scale = rng.uniform(1e-4, 1e-2, rows).astype(np.float32)
        self.bias = rng.normal(size=width).astype(np.float32)
        self.product = (self.acc, self.scale, self.bias)
        self.floats = self.acc * self.scale[:, None].astype(np.float64) + self.bias
        self.out = np.empty((rows, width), np.int8)
        self.out_scale = np.empty(rows, np.float32)
        self.room = (self.out, self.out_scale, self.out_scale.view(np.int32))
        self.into = (DYNAMIC, *self.room)

    def check(self, wanted: Array) -> None:
        """int8 and scales are those of `wanted`; a value between two levels may go either way."""
        values, scale = rounded(wanted)
        np.testing.assert_allclose(self.out_scale, scale, rtol=1e-5, atol=1e-12)
        assert np.abs(self.out - values).max(initial=0) <= 1
        assert np.count_nonzero(self.out != values) <= 1e-3 * values.size


SHAPES = [(1, 1), (3, 17), (40, 384), (7, 1536), (0, 8)]


@pytest.fixture(params=SHAPES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


def test_rows_are_rounded_each_with_its_own_scale(case: Case) -> None:
    x = case.rng.normal(size=case.acc.shape).astype(np.float32) * np.float32(3)
    x[:1] = 0  # a row of zeros
    int8_rows.quantise(x, x.view(np.int32), *case.into)
    case.check(x.astype(np.float64))
    assert np.abs(case.out.astype(np.int32)).max(initial=0) <= 127


def at_scale(rows: Array, scale: float) -> Array:
    """The slow, obvious way of a fixed scale."""
    return np.clip(np.rint(rows / scale), -127, 127)


def test_at_a_fixed_scale_larger_values_saturate(case: Case) -> None:
    scale = np.float32(0.01)
    x = case.rng.normal(size=case.acc.shape).astype(np.float32)
    int8_rows.quantise(x, x.view(np.int32), scale, *case.room)
    wanted = at_scale(x.astype(np.float64), float(scale))
    assert (np.abs(wanted) == 127).any() or x.size < 100
    np.testing.assert_array_equal(case.out_scale, scale)
    assert np.count_nonzero(case.out != wanted) <= 1e-3 * x.size

    row = np.empty(x.shape[1], np.float32)
    int8_rows.gelu_quantise(*case.product, row, row.view(np.int32), scale, *case.room)
    wanted = at_scale(0.5 * case.floats * (1 + erf(case.floats / np.sqrt(2.0))), float(scale))
    assert np.abs(case.out - wanted).max(initial=0) <= 1
    np.testing.assert_array_equal(case.out_scale, scale)


def test_infinite_values_saturate() -> None:
    x = np.array([[np.inf, -np.inf, 0.1]], np.float32)
    out, scale = np.empty(x.shape, np.int8), np.empty(1, np.float32)
    int8_rows.quantise(x, x.view(np.int32), np.float32(0.1), out, scale, scale.view(np.int32))
    assert out.tolist() == [[127, -127, 1]]
    assert scale[0] == np.float32(0.1)


def test_a_product_in_floats(case: Case) -> None:
    out = np.empty(case.acc.shape, np.float32)
    int8_rows.dequantise(*case.product, out)
    np.testing.assert_allclose(out, case.floats, rtol=1e-5, atol=1e-5)


def test_gelu_of_a_product(case: Case) -> None:
    row = np.empty(case.acc.shape[1], np.float32)
    int8_rows.gelu_quantise(*case.product, row, row.view(np.int32), *case.into)
    case.check(0.5 * case.floats * (1 + erf(case.floats / np.sqrt(2.0))))


def test_the_norm_of_a_residual_and_a_product(case: Case) -> None:
    shape = case.acc.shape
    hidden = case.rng.normal(size=shape).astype(np.float32)
    gain, shift = case.rng.normal(size=(2, shape[1])).astype(np.float32)
    total = hidden + case.floats
    centred = total - total.mean(axis=1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gain + shift
    int8_rows.add_norm_quantise(
        *case.product, hidden, hidden.view(np.int32), gain, shift, np.float32(1e-5), *case.into
    )
    np.testing.assert_allclose(hidden, wanted, rtol=1e-4, atol=1e-4)
    case.check(wanted)


@pytest.mark.parametrize("fixed", [0.0, 0.5])
def test_what_is_not_a_number_stays_none(fixed: float) -> None:
    x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]], np.float32)
    out, scale = np.empty(x.shape, np.int8), np.empty(2, np.float32)
    int8_rows.quantise(x, x.view(np.int32), np.float32(fixed), out, scale, scale.view(np.int32))
    assert np.isnan(scale[0])
    assert np.isfinite(scale[1])


@pytest.mark.parametrize("x", [-40.0, -4.0, -1.0, -1e-3, 0.0, 0.3, 2.0, 5.0, 40.0])
def test_gelu_is_exact_to_float32(x: float) -> None:
    """One channel of scale 1 and product 0: the bias goes through GELU."""
    case = Case(1, 2)
    case.acc[:] = 0
    case.bias[:] = x
    row = np.empty(2, np.float32)
    int8_rows.gelu_quantise(*case.product, row, row.view(np.int32), *case.into)
    np.testing.assert_allclose(row, 0.5 * x * (1 + erf(x / np.sqrt(2.0))), rtol=2e-6, atol=1e-5)
