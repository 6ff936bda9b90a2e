"""Tokenise and pack, one core, without Spark: ours beside lists of Python numbers. Run by hand:

python -m tests.bench.bench_shard --megabytes 8
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from sparkml.models.inputs import TextInputs, parse, read_text_inputs
from sparkml.stages.shard.pack import packing
from sparkml.stages.shard.vocabulary import save_tokenizer, train_tokenizer
from tests.bench.documents import docstrings_of_packages

SEQUENCE_LENGTH = 128


def pack_lists(inputs: TextInputs, texts: list[str]) -> list[list[int]]:
    """What training scripts do: encode a document at a time, chain lists, cut them into blocks."""
    tokenizer = parse(inputs.tokenizer_json)
    stream = list(
        chain.from_iterable(
            [*tokenizer.encode(text, add_special_tokens=False).ids, inputs.sep_id] for text in texts
        )
    )
    body = SEQUENCE_LENGTH - 1
    samples = [[inputs.cls_id, *stream[start : start + body]] for start in range(0, len(stream), body)]
    samples[-1] += [inputs.pad_id] * (SEQUENCE_LENGTH - len(samples[-1]))
    return samples


def pack_ours(inputs: TextInputs, texts: list[str]) -> list[list[int]]:
    """The stage's function over Arrow batches, as Spark hands them over."""

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(texts), 2000):
            part = texts[start : start + 2000]
            ids = [f"{start + index:032x}" for index in range(len(part))]
            columns = [["train"] * len(part), pa.array([0] * len(part), pa.int32()), ids, part]
            yield pa.RecordBatch.from_pydict(
                dict(zip(("split", "bucket", "doc_id", "text"), columns, strict=True))
            )

    packed = list(packing(inputs, SEQUENCE_LENGTH)(batches()))
    return [row for batch in packed for row in batch.column("input_ids").to_pylist()]


def seconds_of(work: Callable[[], object]) -> float:
    """Processor seconds of one call: one thread does the work, and the machine may be busy with other things."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Measure both ways twice, in turn, on the same documents; print the better time of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=8.0)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = docstrings_of_packages(int(options.megabytes * 1e6))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    started = time.process_time()
    content = train_tokenizer(texts, 8192)
    print(f"{len(texts)} documents, {megabytes:.1f} MB; tokenizer {time.process_time() - started:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        inputs = read_text_inputs(Path(folder, "tokenizers", save_tokenizer(content, folder)))
    if pack_ours(inputs, texts) != pack_lists(inputs, texts):
        raise SystemExit("the two ways disagree")
    rounds = [
        (seconds_of(lambda: pack_ours(inputs, texts)), seconds_of(lambda: pack_lists(inputs, texts)))
        for _ in range(2)
    ]
    ours, lists = (min(column) for column in zip(*rounds, strict=True))
    print(f"ours {megabytes / ours:.1f} MB/s, lists {megabytes / lists:.1f} MB/s, ratio {lists / ours:.2f}")


if __name__ == "__main__":
    main()
