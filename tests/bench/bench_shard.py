"""Tokenise, pack, write, one core, without Spark: ours beside datatrove's tokenizer step and lists of Python numbers.

python -m tests.bench.bench_shard --megabytes 8 --rounds 5 --peer-python PATH

Ours packs samples of 128 tokens and writes them as Parquet; lists are packed alike, written nowhere; datatrove writes
its file of token ids, which it cuts into samples when it reads. `the tokenizer alone` encodes batches and drops what
comes out: nothing that uses it can be faster. datatrove runs in `--peer-python`, an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

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


def batches_of(texts: list[str]) -> Iterator[pa.RecordBatch]:
    """As Spark hands them over."""
    for start in range(0, len(texts), 2000):
        part = texts[start : start + 2000]
        ids = [f"{start + index:032x}" for index in range(len(part))]
        columns = [["train"] * len(part), pa.array([0] * len(part), pa.int32()), ids, part]
        yield pa.RecordBatch.from_pydict(
            dict(zip(("split", "bucket", "doc_id", "text"), columns, strict=True))
        )


def pack_ours(inputs: TextInputs, texts: list[str]) -> list[pa.RecordBatch]:
    """The stage's function over Arrow batches."""
    return list(packing(inputs, SEQUENCE_LENGTH)(batches_of(texts)))


def write_ours(inputs: TextInputs, texts: list[str], file: Path) -> None:
    """The same, written as the stage's files are."""
    pq.write_table(pa.Table.from_batches(pack_ours(inputs, texts)), file, compression="zstd")


def tokenize(inputs: TextInputs, texts: list[str]) -> None:
    """The tokenizer, and nothing else."""
    tokenizer = parse(inputs.tokenizer_json)
    for start in range(0, len(texts), 2000):
        tokenizer.encode_batch_fast(texts[start : start + 2000], add_special_tokens=False)


def seconds_of(work: Callable[[], object]) -> float:
    """Processor seconds of one call: one thread does the work, and the machine may be busy with other things."""
    started = time.process_time()
    work()
    return time.process_time() - started


def datatrove(python: str, inputs: TextInputs, texts: list[str], folder: Path) -> float:
    """Processor seconds of datatrove's step."""
    tokenizer, job = folder / "tokenizer.json", folder / "job.json"
    tokenizer.write_text(inputs.tokenizer_json, encoding="utf-8")
    said = {"texts": texts, "tokenizer": str(tokenizer), "folder": str(folder / "peer"), "end": "[SEP]"}
    job.write_text(json.dumps(said), encoding="utf-8")
    peer = Path(__file__).with_name("shard_peer.py")
    done = subprocess.run([python, str(peer), str(job)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"datatrove failed:\n{done.stderr[-3000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def main() -> None:
    """Measure every way in turn on the same documents; print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = docstrings_of_packages(int(options.megabytes * 1e6))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    content = train_tokenizer(texts, 8192)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = read_text_inputs(Path(folder, "tokenizers", save_tokenizer(content, name)))
        packed = pack_ours(inputs, texts)
        if [row for batch in packed for row in batch.column("input_ids").to_pylist()] != pack_lists(
            inputs, texts
        ):
            raise SystemExit("the two ways disagree")
        for _ in range(options.rounds):
            ways = {
                "ours": seconds_of(lambda: write_ours(inputs, texts, folder / "ours.parquet")),
                "the tokenizer alone": seconds_of(lambda: tokenize(inputs, texts)),
                "lists": seconds_of(lambda: pack_lists(inputs, texts)),
                "datatrove": datatrove(options.peer_python, inputs, texts, folder),
            }
            for way, seconds in ways.items():
                found.setdefault(way, []).append(seconds)
    print(f"{len(texts)} documents, {megabytes:.1f} MB, one core, processor time, median of {options.rounds}")
    mine = statistics.median(found["ours"])
    for way, times in found.items():
        median = statistics.median(times)
        print(f"{way:22}{megabytes / median:8.2f} MB/s{median / mine:8.2f}")


if __name__ == "__main__":
    main()
