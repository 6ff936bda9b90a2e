"""What the front and its worker processes tell each other; imports no torch, which the front does without."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True)
class Loaded:
    """A version of a model as a worker loads it: `key` names it in messages, `folder` is on this machine."""

    key: str
    folder: str


def work(stream: socket.socket, models: Sequence[Loaded], engine: str, device: str) -> None:
    """What a worker process does; see `worker.answer_on`."""
    from sparkml.serving.worker import answer_on

    answer_on(stream, models, engine, device)


def packed(header: Mapping[str, Any], batch: pa.RecordBatch | None = None) -> bytes:
    """A message: the header as JSON, then the batch as an Arrow stream."""
    head = json.dumps(header).encode()
    if batch is None:
        return _LENGTH.pack(len(head)) + head
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return b"".join([_LENGTH.pack(len(head)), head, sink.getvalue()])


def unpacked(message: bytes) -> tuple[dict[str, Any], pa.RecordBatch | None]:
    """The header and the batch of a message."""
    (length,) = _LENGTH.unpack_from(message)
    start = _LENGTH.size
    header: dict[str, Any] = json.loads(message[start : start + length])
    rest = memoryview(message)[start + length :]
    if not rest:
        return header, None
    with pa.ipc.open_stream(pa.py_buffer(rest)) as reader:
        return header, reader.read_next_batch()
