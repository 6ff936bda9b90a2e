"""MB/s of the clean kernels on one core, stage by stage, beside datatrove's filters on the same text.

    python -m tests.bench.bench_clean [--megabytes 20] [--peer-python PATH] [--texts FOLDER]

The chain is FineWeb's: Gopher repetition and quality, C4 (lines may end in anything), FineWeb. The text is
documentation of the installed packages, or the column `text` of Parquet files. The peer runs where datatrove and spaCy
are installed: give that interpreter. Seconds are those of the processor (a busy machine slows both alike), best of
three for ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.kernels.c4 import count_sentences, keep_lines
from sparkml.kernels.fineweb import measure_fineweb
from sparkml.kernels.normalise import normalise
from sparkml.kernels.quality import measure_quality
from sparkml.kernels.repetition import measure_repetition
from sparkml.kernels.texts import pieces, read_texts
from sparkml.kernels.words import Memory, find_words
from sparkml.stages.clean.batches import decide
from sparkml.stages.clean.config import GOPHER, CleanConfig
from sparkml.stages.clean.rules.c4 import C4
from tests.bench.documents import docstrings_of_packages

GOPHER_CHAIN, WHOLE_CHAIN = "normalise and Gopher, decided", "the whole chain, decided"
FINEWEB = CleanConfig(rules=(*GOPHER, "c4", "fineweb"), c4=C4(lines_end_in_punctuation=False))
_PIECE_BYTES = 1 << 20
_PEER_MEGABYTES = 2.0
_PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter,
)
filters = {
    "gopher_repetition": GopherRepetitionFilter(),
    "gopher_quality": GopherQualityFilter(),
    "c4": C4QualityFilter(filter_no_terminal_punct=False),
    "fineweb": FineWebQualityFilter(),
}
decided, seconds = [], dict.fromkeys(filters, 0.0)
for number, text in enumerate(json.load(open(sys.argv[1]))):
    document, reason = Document(text=text, id=str(number)), ""
    for name, one in filters.items():
        started = time.process_time()
        try:
            found = one.filter(document)
        except ZeroDivisionError:  # a text without words
            found = (False, "empty")
        seconds[name] += time.process_time() - started
        if found is not True:
            reason = name + " " + (found[1] if isinstance(found, tuple) else "")
            break
    decided.append([reason, "" if reason else document.text])
json.dump({"seconds": seconds, "decided": decided}, sys.stdout)
"""


def chain(column: pa.Array) -> dict[str, float]:
    """Processor seconds of every kernel, one after the other as the stage runs them."""
    memory, gopher = Memory(), CleanConfig()
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
        timed("quality", measure_quality, texts, words, (gopher.gopher_quality.stop_words,))
        lines, _ = timed(
            "c4 lines", partial(keep_lines, terminal=False, min_words=3, max_word_chars=1000), texts
        )
        left = timed("words of what is left", find_words, lines, memory)
        timed("sentences", count_sentences, lines, left)
        timed("fineweb", measure_fineweb, lines, left, FINEWEB.fineweb.short_line_chars, memory)
        timed(GOPHER_CHAIN, decide, part, gopher, memory)
        timed(WHOLE_CHAIN, decide, part, FINEWEB, memory)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--texts", type=Path, help="Parquet files instead of documentation")
    arguments = parser.parse_args()
    started = time.process_time()
    chain(pa.array(["The kernels are compiled, or read from the cache."]))
    print(f"warm-up {time.process_time() - started:.1f} s")
    texts = docstrings_of_packages(int(arguments.megabytes * 1e6), min_words=1)
    if arguments.texts:
        texts = pq.read_table(arguments.texts, columns=["text"]).column("text").to_pylist()
    column = pa.array(texts)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts)} documents, {megabytes:.1f} MB, one core")
    runs = [chain(column) for _ in range(3)]
    ours = {name: megabytes / min(run[name] for run in runs) for name in runs[0]}
    for name, rate in ours.items():
        print(f"  {name:30} {rate:8.1f} MB/s")
    peer(arguments.peer_python, texts, ours)


def peer(python: str, texts: list[str], ours: dict[str, float]) -> None:
    """Run datatrove's filters on the first texts; print its rates, the ratios, and how many decisions are equal."""
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
    megabytes, seconds = sum(len(text.encode()) for text in few) / 1e6, result["seconds"]
    for chain, names in ((GOPHER_CHAIN, GOPHER), (WHOLE_CHAIN, tuple(seconds))):
        rate = megabytes / sum(seconds[name] for name in names)
        print(
            f"  datatrove, {', '.join(names):45} {rate:8.2f} MB/s: {ours[chain] / rate:.0f} times as fast: {chain}"
        )
    compare(few, result["decided"])


def compare(texts: list[str], theirs: list[tuple[str, str]]) -> None:
    """Print by rule set how many decisions are equal: the same set drops it, or the same text stays."""
    config = FINEWEB.model_copy(update={"normalise": False})
    decided = decide(pa.array(texts), config, Memory())
    sets = {
        rule.reason: name
        for name, one in zip(config.rules, config.rule_sets, strict=True)
        for rule in one.rules()
    }
    counts: dict[str, list[int]] = {}
    shown = 0
    for reason, left, (their_reason, their_text), text in zip(
        decided["drop_reason"].to_pylist(), decided["text"].to_pylist(), theirs, texts, strict=True
    ):
        name, _, detail = their_reason.partition(" ")
        of_set = sets.get(reason or "", "")
        same = of_set == name if name in GOPHER else (reason or "") == detail and (left or "") == their_text
        if reason == "empty" and detail == "empty":
            same = True
        equal = counts.setdefault(name or "kept", [0, 0])
        equal[0] += same
        equal[1] += 1
        if not same and shown < 10:
            shown += 1
            print(f"    theirs {their_reason or 'kept'!r}, ours {reason or 'kept'!r}: {text[:70]!r}")
    for name, (same, of) in sorted(counts.items()):
        print(f"  {name}: {same} of {of} decisions are equal")


if __name__ == "__main__":
    main()
