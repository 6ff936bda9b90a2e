"""Puts what shapes a network beside its adaptation."""

from __future__ import annotations

from sparkml.models.adapt import Adapted
from sparkml.models.shaping.rounding import round_layers
from sparkml.models.shaping.settings import Shaping
from sparkml.models.shaping.sparse import Zeros, sparse_matrices


def shape(adapted: Adapted, shaping: Shaping, total_steps: int) -> None:
    """Make a network that is about to be trained ready for it, in place."""
    if shaping.rounds:
        round_layers(adapted.network)
    if shaping.sparsity is not None:
        adapted.accompany(Zeros(sparse_matrices(adapted.network), shaping.sparsity, total_steps))
