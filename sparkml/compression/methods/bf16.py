"""Weights in bfloat16, and products in it: half the size; norms, sums and the head stay in float32."""

from __future__ import annotations

from pathlib import Path

from sparkml.compression.methods import Given, Method, MethodOptions


def _apply(given: Given, target: Path, options: MethodOptions, kept: frozenset[str]) -> None:
    from sparkml.models.heads import load_trained, save_trained
    from sparkml.models.quantisable import to_bfloat16

    save_trained(to_bfloat16(load_trained(given.task.network(), given.folder)), target)


METHOD = Method("weights in bfloat16", "bfloat16", _apply)
