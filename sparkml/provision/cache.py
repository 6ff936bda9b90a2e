"""Where a machine keeps what every checkout shares: jars, wheels, logs of set-ups."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_root(environ: Mapping[str, str] | None = None) -> Path:
    """`$XDG_CACHE_HOME/sparkml`, or `~/.cache/sparkml` (a relative XDG_CACHE_HOME counts as unset)."""
    base = (os.environ if environ is None else environ).get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "sparkml"


def jars_folder(cache: Path, delta_version: str) -> Path:
    return cache / "jars" / f"delta-{delta_version}"


def wheels_folder(cache: Path) -> Path:
    return cache / "wheels"


def log_file(cache: Path, step: str) -> Path:
    """What the programs of a step said, last time."""
    return cache / "logs" / f"{step}.log"
