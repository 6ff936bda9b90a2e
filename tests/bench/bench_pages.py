"""MB/s and F1 of the main texts of web pages: clean's rule set `html`, resiliparse and trafilatura by themselves.

    python -m tests.bench.bench_pages FOLDER [--peer-python PATH] [--rounds 5]

FOLDER holds folders with `source.html.gz` and `expected.html.gz`, as Readability's test pages have them. F1 is over the
words of the two texts, with their counts; the expected text is all that is visible on the expected page. Seconds are
those of the processor, of one core, from markup to text; medians. Each of the peers has its own settings and runs in
`--peer-python`, where resiliparse and trafilatura are installed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

_PEER = """
import gzip, json, sys, time
from pathlib import Path
way, folder = sys.argv[1:]
name = "expected" if way == "all visible text" else "source"
files = sorted(Path(folder).glob(f"*/{name}.html.gz"))
pages = [gzip.open(file, "rt", encoding="utf-8", errors="replace").read() for file in files]
if way == "resiliparse":
    from resiliparse.extract.html2text import extract_plain_text
    extract = lambda page: extract_plain_text(page, main_content=True)
elif way == "all visible text":
    from resiliparse.extract.html2text import extract_plain_text
    extract = lambda page: extract_plain_text(page, main_content=False, alt_texts=False, list_bullets=False)
else:
    import trafilatura
    extract = lambda page: trafilatura.extract(page) or ""
extract(pages[0])
started = time.process_time()
texts = [extract(page) for page in pages]
json.dump({"seconds": time.process_time() - started, "texts": texts}, sys.stdout)
"""


def markup(folder: Path) -> list[bytes]:
    """The pages as they were."""
    return [gzip.decompress(file.read_bytes()) for file in sorted(folder.glob("*/source.html.gz"))]


def words(text: str) -> Counter[str]:
    """How often each word is there."""
    return Counter(re.findall(r"\w+", text))


def f1(found: str, expected: str) -> float:
    """Agreement of two texts' words."""
    left, right = words(found), words(expected)
    shared = sum((left & right).values())
    return 2 * shared / max(sum(left.values()) + sum(right.values()), 1)


def ours(folder: Path) -> tuple[float, list[str]]:
    """The stage's own extraction."""
    import pyarrow as pa

    from sparkml.kernels.texts import as_column, read_texts
    from sparkml.stages.clean.pages import main_texts

    pages = [page.decode("utf-8", "replace") for page in markup(folder)]
    texts = read_texts(pa.array(pages, pa.large_string()))
    main_texts(read_texts(pa.array(pages[:1])), {}, "fast", 10.0)
    started = time.process_time()
    found, _, _, _ = main_texts(texts, {}, "fast", 10.0)
    return time.process_time() - started, as_column(found, pa.large_string()).to_pylist()


def peer(python: str, way: str, folder: Path) -> tuple[float, list[str]]:
    """One of the others, in a process of its own."""
    done = subprocess.run([python, "-c", _PEER, way, str(folder)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found["seconds"], found["texts"]


def main() -> None:
    """Print a line a way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sizes = [len(page) for page in markup(options.folder)]
    megabytes = sum(sizes) / 1e6
    _, expected = peer(options.peer_python, "all visible text", options.folder)
    print(f"{len(sizes)} pages, {megabytes:.1f} MB")
    for way in ("ours", "resiliparse", "trafilatura"):
        runs = [
            ours(options.folder) if way == "ours" else peer(options.peer_python, way, options.folder)
            for _ in range(options.rounds)
        ]
        seconds = statistics.median(run[0] for run in runs)
        score = statistics.mean(f1(text, want) for text, want in zip(runs[0][1], expected, strict=True))
        print(f"{way:12} {megabytes / seconds:7.1f} MB/s  F1 {score:.4f}", flush=True)


if __name__ == "__main__":
    main()
