"""The lock: every package with its exact version and hashes, made by `make lock`.

One file, `requirements.lock`, for Python 3.10 to 3.12. It names no registry. It leaves out torch and what
torch pins itself (CUDA libraries, triton): which build of torch a machine gets is for the configuration of
pip or uv to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sparkml.errors import ConfigError

LOCK_NAME = "requirements.lock"
TORCH_FAMILY = re.compile(r"^(torch|triton|pytorch-triton.*|nvidia-.*|cuda-.*)$")

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)\s*(?:;\s*(.*?))?\s*\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One package of the lock: its version, the environment it is for, its files' sha256, and its lines."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    text: str

    @property
    def constraint(self) -> str:
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")


def normalise(name: str) -> str:
    """A distribution's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_lock(text: str, where: str = LOCK_NAME) -> list[Pin]:
    """The pins of a lock. Raises `ConfigError` for a line that is no exact pin or a pin without a hash."""
    pins = []
    for number, block in _blocks(text):
        head = _PIN.match(block.splitlines()[0])
        hashes = tuple(_HASH.findall(block))
        if head is None or not hashes:
            raise ConfigError(
                "the lock is damaged",
                where=f"{where}, line {number}",
                got=block.splitlines()[0],
                expected="name==version with sha256 hashes",
                next_action="make lock",
            )
        pins.append(Pin(normalise(head[1]), head[2], head[3] or "", hashes, block))
    return pins


def read_lock(path: Path) -> list[Pin]:
    try:
        return parse_lock(path.read_text(encoding="utf-8"), path.name)
    except FileNotFoundError:
        raise ConfigError("the lock is missing", where=str(path), next_action="make lock") from None


def pins_of(pins: Iterable[Pin], name: str) -> list[Pin]:
    """The pins of one package (several when Python versions get different ones)."""
    found = [pin for pin in pins if pin.name == name]
    if not found:
        raise ConfigError(f"the lock does not hold {name}", where=LOCK_NAME, next_action="make lock")
    return found


def without_torch_family(text: str) -> str:
    """The text of a lock without torch and what torch pins itself."""
    head = text[: text.index(next(_blocks(text))[1])] if any(_blocks(text)) else text
    kept = [
        block for _, block in _blocks(text) if not TORCH_FAMILY.match(normalise(block.partition("==")[0]))
    ]
    return head + "".join(kept)


def as_requirements(pins: Iterable[Pin]) -> str:
    return "".join(pin.text for pin in pins)


def write_atomically(path: Path, text: str) -> None:
    """The whole file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Each package's lines (the pin, its hashes, its comments) with the number of the first."""
    lines = text.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.strip() and line[0] not in " \t#"]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield start + 1, "".join(lines[start:end])
