"""A service as a process of its own, and a client that speaks to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ALICE, ROOT = "alice-" + "a" * 24, "root-" + "r" * 24
_READY_SECONDS = 90


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.content)


@dataclass
class Served:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        token: str | None = ALICE,
        headers: dict[str, str] | None = None,
        method: str = "",
        timeout: float = 60,
    ) -> Reply:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method or ("GET" if body is None else "POST"), path, content, sent)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())

    def score(self, *texts: str | None, **more: Any) -> Reply:
        """Answers to texts."""
        return self.ask("/v1/score", {"texts": list(texts), **more})

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that hold the models: those that the fork server has made."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        parents = {child.pid for child in children}
        return [child for child in children if child.ppid() in parents]

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.ask("/metrics").content.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def stop(self, seconds: float = 60) -> int:
        """Tell it to end, and wait for it."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def serving(
    folder: Path, *words: str, port: int, environment: dict[str, str] | None = None, command: str = "serve"
) -> Iterator[Served]:
    """`sparkml serve WORDS`, from its being ready until it is stopped; its token file is FOLDER/tokens."""
    tokens, log = folder / "tokens", folder / "log.txt"
    tokens.write_text(f"alice {ALICE}\nroot {ROOT} admin\n")
    program = [sys.executable, "-c", "import sys; from sparkml.cli.main import main; sys.exit(main())"]
    line = [*program, command, *words, "--port", str(port), "--token-file", str(tokens)]
    with log.open("wb") as out:
        process = subprocess.Popen(line, stdout=out, stderr=out, env={**os.environ, **(environment or {})})
    served = Served(process, port, log)
    try:
        wait_ready(served)
        yield served
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_ready(served: Served, seconds: float = _READY_SECONDS) -> None:
    """Until it says that it is ready; what it has logged where it ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert served.process.poll() is None, served.log.read_text()
        with contextlib.suppress(OSError):
            if served.ask("/ready", token=None, timeout=5).status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(served.log.read_text())


def texts_of(n: int, words: Sequence[str]) -> list[str]:
    """Texts of different lengths."""
    return [" ".join(words[(start + at) % len(words)] for at in range(1 + start % 25)) for start in range(n)]
