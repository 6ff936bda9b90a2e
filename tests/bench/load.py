"""Open-loop load on a service, from a process of its own: requests leave at their time, whether others are back or not.

    python -m tests.bench.load PORT TEXTS RATE SECONDS [--token TOKEN]     # TEXTS: a Parquet file with `text`

Prints one line of JSON: `sent`, `failed` (no answer, or another status than 200), and percentiles of the seconds from
the moment at which a request was due to its answer. Moments are those of a Poisson process. Imports nothing of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import pyarrow.parquet as pq

_CONNECTIONS = 512


@dataclass
class Connections:
    """Connections that are kept and used again."""

    port: int
    free: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=deque)

    async def post(self, head: bytes, body: bytes) -> int:
        """The status of one request; a connection that the service has closed meanwhile is exchanged for a new one."""
        while self.free:
            try:
                return await self._post(head, body)
            except (OSError, asyncio.IncompleteReadError):
                continue
        return await self._post(head, body)

    async def _post(self, head: bytes, body: bytes) -> int:
        reader, writer = (
            self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
        )
        try:
            writer.write(head % len(body) + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        self.free.append((reader, writer))
        return int(answer.split(b" ", 2)[1])


async def load(
    port: int, texts: list[str], rate: float, seconds: float, token: str, seed: int
) -> dict[str, object]:
    """Requests of one text each."""
    draw = random.Random(seed)
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: "
    ).encode() + b"%d\r\n\r\n"
    connections = Connections(port)
    took: list[float] = []
    codes: Counter[int] = Counter()

    async def one(due: float, text: str) -> None:
        try:
            code = await connections.post(head, json.dumps({"texts": [text]}).encode())
        except (OSError, asyncio.IncompleteReadError, IndexError, ValueError):
            code = 0
        codes[code] += 1
        if code == 200:
            took.append(time.perf_counter() - due)

    running: set[asyncio.Task[None]] = set()
    start = due = time.perf_counter()
    while True:
        due += draw.expovariate(rate)
        if due > start + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(due, draw.choice(texts)))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running, timeout=60)
    took.sort()
    at = {
        name: took[min(len(took) - 1, int(part * len(took)))] if took else None
        for name, part in _PARTS.items()
    }
    sent = sum(codes.values()) + len(running)
    return {"sent": sent, "failed": sent - codes[200], "codes": dict(codes), **at}


_PARTS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser()
    for name, kind in (("port", int), ("texts", str), ("rate", float), ("seconds", float)):
        parser.add_argument(name, type=kind)
    parser.add_argument("--token", default="none")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    texts = pq.read_table(given.texts).column("text").to_pylist()
    print(
        json.dumps(asyncio.run(load(given.port, texts, given.rate, given.seconds, given.token, given.seed)))
    )


if __name__ == "__main__":
    main()
