"""Mixup (Zhang et al. 2018, arXiv:1710.09412): examples and their labels, mixed in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


def mixed(
    inputs: Tensor, target: npt.NDArray[Any], n_labels: int, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """Each example mixed with another of the batch by a share that Beta(alpha, alpha) draws, and the shares of labels.

    `target` is int64 [rows] or float32 [rows, n_labels]; what comes back is float32 [rows, n_labels].
    """
    import torch

    shares = np.eye(n_labels, dtype=np.float32)[target] if target.ndim == 1 else target.astype(np.float32)
    n = len(shares)
    share = rng.beta(alpha, alpha, n).astype(np.float32)
    other = rng.permutation(n)
    weight = torch.from_numpy(share).view(n, *([1] * (inputs.dim() - 1)))
    together = inputs * weight + inputs[torch.from_numpy(other)] * (1 - weight)
    return together, shares * share[:, None] + shares[other] * (1 - share[:, None])
