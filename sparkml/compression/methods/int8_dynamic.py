"""Weights and activations in int8: weights once, activations as they come, with one scale a token."""

from __future__ import annotations

from pathlib import Path

from sparkml.compression.methods import Given, Method, MethodOptions
from sparkml.models.folder import INT8_FOLDER


def _apply(given: Given, target: Path, options: MethodOptions, kept: frozenset[str]) -> None:
    from sparkml.models.heads import load_trained
    from sparkml.models.int8 import save_int8, to_int8

    network = to_int8(load_trained(given.task.network(), given.folder), kept)
    save_int8(network, target / INT8_FOLDER)


def groups(given: Given) -> tuple[str, ...]:
    """The groups of layers that may stay float."""
    from sparkml.models.heads import load_trained
    from sparkml.models.quantisable import groups_of

    return tuple(groups_of(load_trained(given.task.network(), given.folder)))


METHOD = Method("weights and tokens in int8, one scale a token", "int8", _apply, groups=groups)
