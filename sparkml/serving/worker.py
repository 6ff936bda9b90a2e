"""A worker process: holds the models of a deployment and answers one batch at a time."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparkml.inference.batches import SAID_FIELDS, answer_chunk, answer_values
from sparkml.inference.device import device_for, gpu_of_task
from sparkml.inference.scorer import Scorer, load_scorer
from sparkml.serving.wire import Loaded, packed, unpacked
from sparkml.tasks.task import Answer

ANSWERS = pa.schema([*SAID_FIELDS, ("n_tokens", pa.int32())])


def answer_on(stream: socket.socket, models: Sequence[Loaded], engine: str, device: str) -> None:
    """Load the models, say so, and answer batches until the front hangs up."""
    channel = Connection(stream.detach())  # frames messages; the front speaks the same
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        scorers = {one.key: _load(one.folder, engine, device) for one in models}
    except Exception as error:
        channel.send_bytes(packed({"failed": f"{type(error).__name__}: {error}"}))
        return
    channel.send_bytes(packed({"models": {key: _facts(scorer) for key, scorer in scorers.items()}}))
    while True:
        try:
            header, examples = unpacked(channel.recv_bytes())
        except (EOFError, ConnectionError):
            return
        begun = time.perf_counter()
        scorer = scorers[header["model"]]
        answers = answer_chunk(scorer, examples) if examples is not None else []
        batch = _batch(answers)
        channel.send_bytes(packed({"seconds": time.perf_counter() - begun}, batch))


def _load(folder: str, engine: str, device: str) -> Scorer:
    place = device_for(device, engine, Path(folder), gpu_of_task(device))
    scorer = load_scorer(folder, engine_name=engine, device=place)
    # The first answer pays for what is compiled and allocated; no request should.
    scorer.answer(**{name: [value] * 4 for name, value in scorer.task.example().items()})
    return scorer


def _facts(scorer: Scorer) -> dict[str, Any]:
    example = scorer.task.example()
    return {
        "task": scorer.task.name,
        "columns": list(scorer.columns),
        "labels": list(scorer.labels),
        "engine": scorer.engine,
        "example": {name: None if isinstance(value, bytes) else value for name, value in example.items()},
        "longest": getattr(scorer.task.options, "max_length", None),
    }


def _batch(answers: list[Answer]) -> pa.RecordBatch:
    values = {**answer_values(answers), "n_tokens": [answer.n_tokens for answer in answers]}
    arrays = [pa.array(values[field.name], field.type) for field in ANSWERS]
    return pa.RecordBatch.from_arrays(arrays, schema=ANSWERS)
