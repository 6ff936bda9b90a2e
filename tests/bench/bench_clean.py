"""MB/s of the clean kernels on one core, stage by stage, beside datatrove's Gopher filters on the same text.

python -m tests.bench.bench_clean [--megabytes 20] [--peer-python PATH]

The text is documentation of the installed packages. The peer runs where datatrove and spaCy are installed: give that
interpreter. Seconds are those of the processor (a busy machine slows both alike), best of three for ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from sparkml.kernels.normalise import normalise
from sparkml.kernels.quality import measure_quality
from sparkml.kernels.repetition import measure_repetition
from sparkml.kernels.texts import pieces, read_texts
from sparkml.kernels.words import Memory, find_words
from sparkml.stages.clean.batches import decide
from sparkml.stages.clean.config import CleanConfig
from tests.bench.documents import docstrings_of_packages

_PIECE_BYTES = 1 << 20
_PEER_MEGABYTES = 2.0
_PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
filters = GopherRepetitionFilter(), GopherQualityFilter()
kept, started = [], time.process_time()
for number, text in enumerate(json.load(open(sys.argv[1]))):
    document = Document(text=text, id=str(number))
    try:
        kept.append(all(one.filter(document) is True for one in filters))
    except ZeroDivisionError:  # a text without words
        kept.append(False)
json.dump({"seconds": time.process_time() - started, "kept": kept}, sys.stdout)
"""


def chain(column: pa.Array) -> dict[str, float]:
    """Processor seconds of every kernel, one after the other as the stage runs them."""
    memory, config = Memory(), CleanConfig()
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        started = time.process_time()
        result = work(*arguments)
        seconds[name] = seconds.get(name, 0.0) + time.process_time() - started
        return result

    for start, stop in pieces(column, _PIECE_BYTES):
        part = column.slice(start, stop - start)
        texts = read_texts(timed("normalise", normalise, part))
        words = timed("find words", find_words, texts, memory)
        timed("repetition", measure_repetition, texts, words, memory)
        timed("quality", measure_quality, texts, words, config.stop_words)
        timed("all of it, decisions included", decide, part, config, memory)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--peer-python", default=sys.executable)
    arguments = parser.parse_args()
    started = time.process_time()
    chain(pa.array(["The kernels are compiled, or read from the cache."]))
    print(f"warm-up {time.process_time() - started:.1f} s")
    texts = docstrings_of_packages(int(arguments.megabytes * 1e6), min_words=1)
    column = pa.array(texts)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts)} documents, {megabytes:.1f} MB, one core")
    runs = [chain(column) for _ in range(3)]
    ours = {name: megabytes / min(run[name] for run in runs) for name in runs[0]}
    for name, rate in ours.items():
        print(f"  {name:30} {rate:8.1f} MB/s")
    peer(arguments.peer_python, texts, ours["all of it, decisions included"])


def peer(python: str, texts: list[str], our_rate: float) -> None:
    """Run datatrove's two filters on the first texts; print its rate, the ratio, and how many decisions are equal."""
    found = subprocess.run([python, "-c", "import datatrove, spacy"], capture_output=True, check=False)
    if found.returncode:
        print("  datatrove and spaCy are not installed there: peer skipped (give --peer-python)")
        return
    few, room = [], _PEER_MEGABYTES * 1e6
    for text in texts:
        if room <= 0:
            break
        few.append(text)
        room -= len(text.encode())
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(few, file)
        file.flush()
        done = subprocess.run([python, "-c", _PEER, file.name], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    rate = sum(len(text.encode()) for text in few) / 1e6 / result["seconds"]
    decided = decide(pa.array(few), CleanConfig(normalise=False), Memory())
    kept = [reason is None for reason in decided["drop_reason"].to_pylist()]
    equal = sum(left == right for left, right in zip(kept, result["kept"], strict=True))
    print(
        f"  {'datatrove, the same two filters':30} {rate:8.2f} MB/s: ours is {our_rate / rate:.0f} times as fast"
    )
    print(f"  {equal} of {len(few)} decisions are equal")


if __name__ == "__main__":
    main()
