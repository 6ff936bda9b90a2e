"""Who may ask: bearer tokens from a file or a variable, read again when the file changes."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparkml.errors import ConfigError
from sparkml.log import get_logger

_log = get_logger(__name__)
_SHORTEST = 16
_ADMIN = "admin"
_CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class Caller:
    """Who a token belongs to: the name stands in logs and metrics, never the token."""

    name: str
    admin: bool = False


@dataclass(frozen=True)
class _Token:
    secret: bytes
    caller: Caller


def parse_tokens(text: str, where: str) -> list[_Token]:
    """The tokens of lines `TOKEN`, `NAME TOKEN` or `NAME TOKEN admin`; `#` begins a comment.

    ConfigError names the line that is no such, or whose token is shorter than 16 characters; it never shows a token.
    """
    found: list[_Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, secret = (words[0], words[1]) if len(words) > 1 else (f"token{number}", words[0])
        if len(words) > 3 or words[2:] not in ([], [_ADMIN]):
            raise ConfigError(
                "not a token",
                where=f"{where}, line {number}",
                got=f"{len(words)} words",
                expected="TOKEN, NAME TOKEN or NAME TOKEN admin",
            )
        if len(secret) < _SHORTEST:
            raise ConfigError(
                "a token is too short",
                where=f"{where}, line {number}",
                got=f"{len(secret)} characters",
                expected=f"{_SHORTEST} or more: openssl rand -hex 24",
            )
        found.append(_Token(secret.encode(), Caller(name, len(words) == 3)))
    return found


class Tokens:
    """The tokens that are valid now."""

    def __init__(self, file: str, variable: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._fixed = parse_tokens(os.environ.get(variable, "").replace(",", "\n"), f"variable {variable}")
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._from_file: list[_Token] = []
        self._next_check = 0.0
        if file:
            self._read()
            if not self._from_file:
                raise ConfigError(
                    "there is no token in the file", where=file, next_action="write one into it"
                )
        elif not self._fixed:
            raise ConfigError(
                "no token says who may ask",
                expected=f"--token-file FILE, or the variable {variable}",
                next_action="openssl rand -hex 24 > tokens; sparkml serve MODEL --token-file tokens",
            )

    def caller(self, header: str | None) -> Caller | None:
        """Who sends `Authorization: Bearer TOKEN`; None where nobody does who may ask.

        Every token is compared, each in constant time: how long it takes says nothing of how close a guess was.
        """
        self._refresh()
        kind, _, given = (header or "").partition(" ")
        secret = given.strip().encode()
        found = None
        for token in (*self._fixed, *self._from_file):
            if hmac.compare_digest(token.secret, secret):
                found = token.caller
        return found if kind.lower() == "bearer" else None

    def _refresh(self) -> None:
        now = self._clock()
        if not self._file or now < self._next_check:
            return
        self._next_check = now + _CHECK_SECONDS
        try:
            if self._stamp() != self._seen:
                self._read()
                _log.info("tokens read again: %d", len(self._from_file))
        except (OSError, ConfigError, UnicodeDecodeError) as error:
            # Whoever had a token keeps it while the file is being written.
            _log.warning("the tokens stay as they were: %s", str(error).replace("\n", " "))

    def _stamp(self) -> tuple[int, int, int]:
        found = Path(self._file).stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> None:
        """The file as it is now. One without a token, as it is while somebody writes it, changes nothing."""
        try:
            stamp = self._stamp()
            read = parse_tokens(Path(self._file).read_text(encoding="utf-8"), self._file)
        except OSError as error:
            raise ConfigError(
                "the file of tokens cannot be read", where=self._file, got=str(error)
            ) from error
        self._seen = stamp
        if read:
            self._from_file = read
        elif self._from_file:
            _log.warning("there is no token in %s: those from before stay", self._file)


class Rate:
    """Requests of each caller: so many a second on average, twice as many at once."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._most = max(1.0, 2 * per_second)
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, caller: str) -> float:
        """Take one request of a caller: 0, or after how many seconds it may ask again."""
        if not self._per_second:
            return 0.0
        now = self._clock()
        left, then = self._left.get(caller, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_second)
        if left < 1:
            self._left[caller] = (left, now)
            return (1 - left) / self._per_second
        self._left[caller] = (left - 1, now)
        return 0.0
