"""Addresses of pages against lists of domains and paths of any length, and their words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:(?://)?", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_]+")
# What may follow the last label of a domain in an entry or an address.
_BEHIND_HOST = re.compile(r"[/?#\\]")


def parts_of(address: str) -> tuple[str, str]:
    """Host and path of an address: lower case, without scheme, user, `www.`, port, query and final slash."""
    rest = _SCHEME.sub("", address.strip(), count=1).lstrip("/")
    found = _BEHIND_HOST.search(rest)
    host, path = (rest[: found.start()], rest[found.start() :]) if found else (rest, "")
    host = host.rpartition("@")[2].lower()
    if not host.startswith("["):
        host = host.partition(":")[0]
    host = host.strip(".").removeprefix("www.")
    if not host.isascii():
        with suppress(UnicodeError):  # no domain could be called so: it is compared as it stands
            host = host.encode("idna").decode()
    return host, re.split(r"[?#]", path, maxsplit=1)[0].rstrip("/")


def _keys(address: str) -> Iterator[str]:
    """What a list may call a page: its host and all domains above it, and its path and all above that."""
    host, path = parts_of(address)
    labels = host.split(".")
    hosts = [".".join(labels[start:]) for start in range(len(labels))]
    yield from hosts
    steps = path.split("/")[1:]
    for depth in range(1, len(steps) + 1):
        below = "/" + "/".join(steps[:depth])
        for name in hosts:
            yield name + below


def _hash(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class AddressList:
    """Sorted 64-bit hashes of entries: eight bytes each, however long the list is.

    An address is taken for a listed one by chance with a probability of about entries x keys / 2^64.
    """

    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, given: Iterable[str]) -> AddressList:
        """From entries `domain` or `domain/path`."""
        keys = {_hash("".join(parts_of(entry))) for entry in given}
        return cls(np.array(sorted(keys), np.uint64))

    def has(self, addresses: Sequence[str | None]) -> NDArray[np.bool_]:
        """For each address whether its domain, one above it, or a path above it is listed."""
        if not len(self.hashes):
            return np.zeros(len(addresses), np.bool_)
        keys, owners = [], []
        for number, address in enumerate(addresses):
            for key in _keys(address) if address else ():
                keys.append(_hash(key))
                owners.append(number)
        wanted = np.array(keys, np.uint64)
        places = np.searchsorted(self.hashes, wanted)
        hits = self.hashes[np.minimum(places, len(self.hashes) - 1)] == wanted
        found = np.zeros(len(addresses), np.bool_)
        found[np.array(owners, np.int64)[hits]] = True
        return found


@dataclass(frozen=True)
class AddressWords:
    """Words of addresses that speak against a page."""

    words: frozenset[str]
    soft_words: frozenset[str]
    parts: tuple[str, ...]

    def count(self, address: str | None) -> tuple[int, int, int]:
        """How many words, soft words and parts an address has; words are what is between signs."""
        if not address:
            return 0, 0, 0
        lower = address.lower()
        found = set(_WORDS.findall(lower))
        return (
            len(found & self.words),
            len(found & self.soft_words),
            sum(part in lower for part in self.parts),
        )
