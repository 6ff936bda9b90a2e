"""Secrets by reference: a configuration says where one is, and nothing keeps its value."""

from __future__ import annotations

import os

from sparkml.errors import ConfigError
from sparkml.frame import storage

_KINDS = ("env:", "file:")


def is_reference(place: str) -> bool:
    """Whether this says where a secret is: env:VARIABLE or file:PATH."""
    return place.startswith(_KINDS)


def secret_at(place: str, name: str) -> str:
    """The secret that is there; ConfigError, with the `name` of what needs it, where there is none."""
    kind, _, where = place.partition(":")
    found = os.environ.get(where) if kind == "env" else _content(where)
    if not found:
        raise ConfigError(
            f"{name} is not there",
            where=place,
            next_action=f"set the variable {where}" if kind == "env" else f"write it into the file {where}",
        )
    return found


def _content(path: str) -> str:
    return storage.read_bytes(path).decode().strip() if storage.is_file(path) else ""
