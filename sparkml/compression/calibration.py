"""Fixed scales for the inputs of layers, from what examples put into them.

`minmax` takes the largest magnitude seen. Few large values make that coarse for all others: `percentile` lets the
largest saturate, and `entropy` ends the range where the rounded values are distributed most like the exact ones (the
least Kullback-Leibler divergence; Migacz, 8-bit inference with TensorRT, 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sparkml.compression.methods.int8_static import Calibration

Histogram = npt.NDArray[np.float64]
Inputs = Mapping[str, Tensor]

LEVELS = 127
BINS = 2048  # of magnitudes between 0 and the largest: a range ends at one of them
_STEP = 8  # bins between two ends that `entropy` compares
_SMALLEST = 1e-12


def input_scales(
    network: nn.Module, names: Sequence[str], batches: Sequence[Inputs], how: Calibration, percentile: float
) -> dict[str, float]:
    """The scale of each of the linear layers `names`: int8 * scale = value. Layers that no example reaches have none.

    Padding does not count, so scales do not depend on which examples share a batch.
    """
    most: dict[str, float] = {}

    def largest(name: str, values: Tensor) -> None:
        most[name] = max(most.get(name, 0.0), float(values.abs().amax()))

    _watch(network, names, batches, largest)
    ends = {name: end for name, end in most.items() if np.isfinite(end) and end > 0}
    if how != "minmax":
        counts = {name: np.zeros(BINS) for name in ends}

        def count(name: str, values: Tensor) -> None:
            if name in ends:
                counts[name] += torch.histc(values.abs().float(), BINS, 0.0, ends[name]).double().numpy()

        _watch(network, names, batches, count)
        parts = {
            name: end_of_percentile(found, percentile) if how == "percentile" else end_of_entropy(found)
            for name, found in counts.items()
        }
        ends = {name: end * parts[name] / BINS for name, end in ends.items()}
    return {name: max(end / LEVELS, _SMALLEST) for name, end in ends.items()}


def end_of_percentile(counts: Histogram, percentile: float) -> int:
    """How many bins hold that percentage of the values."""
    reached = np.cumsum(counts) / counts.sum() >= percentile / 100 - 1e-12
    return int(np.argmax(reached)) + 1


def end_of_entropy(counts: Histogram) -> int:
    """After how many bins to end so that what saturates and what is rounded changes the distribution least."""
    ends = range(LEVELS + 1, len(counts) + 1, _STEP)
    return min(ends, key=lambda end: _divergence(counts, end))


def _divergence(counts: Histogram, end: int) -> float:
    """Of the values that end at a bin, larger ones in the last one, from the same values in 128 levels."""
    inside = counts[:end]
    exact = inside.copy()
    exact[-1] += counts[end:].sum()
    level = np.arange(end) * (LEVELS + 1) // end
    filled = np.bincount(level, inside > 0)
    share = np.bincount(level, inside) / np.maximum(filled, 1)
    rounded = np.where(inside > 0, share[level], 0.0)
    seen = exact > 0
    p, q = exact[seen] / exact.sum(), rounded[seen] / max(rounded.sum(), 1.0)
    # Where nothing but what saturates is left, no level says so: that counts as very unlikely, not as impossible.
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-12))))


def _watch(
    network: nn.Module,
    names: Sequence[str],
    batches: Sequence[Inputs],
    see: Callable[[str, Tensor], None],
) -> None:
    """Answer the batches; `see` gets what comes into each layer, [values, in], padding left out."""
    real: list[Tensor | None] = [None]

    def hook(name: str) -> Callable[..., None]:
        def before(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            values, mask = given[0], real[0]
            if mask is not None and values.shape[:-1] == mask.shape:
                values = values[mask]
            if values.numel():
                see(name, values)

        return before

    with torch.inference_mode(), _hooks(network, {name: hook(name) for name in names}):
        for inputs in batches:
            mask = inputs.get("attention_mask")
            real[0] = None if mask is None else mask.bool()
            network(**inputs)


@contextmanager
def _hooks(network: nn.Module, hooks: Mapping[str, Callable[..., None]]) -> Iterator[None]:
    modules = {name: network.get_submodule(name) for name in hooks}
    handles = [
        module.register_forward_pre_hook(hooks[name])
        for name, module in modules.items()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
