"""Requests a second that a service answers in time, beside a plain server of FastAPI with a transformers pipeline.

    python -m tests.bench.bench_serve [--model DIR] [--rounds 5] [--peer-python PATH] [--within 0.25] [--soak 600]

The texts are `bench_score`'s, one a request, at the moments of a Poisson process, from a process of its own (open
loop). The figure of a service is the highest rate of a ladder at which 95 of 100 answers come within `--within`
seconds and none fails; medians over rounds. Then, at half that rate, the 99th percentile; seconds from the start to the
first answer; with `--soak` so many seconds at 80 % of it, with the memory of all processes before and after.
`--forms`: which of our models: float32, int8, bf16.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.bench_score import LONGEST, skewed_texts, write_model
from tests.forms import compressed
from tests.servers import free_ports

PEER = Path(__file__).with_name("serve_peer.py")
TOKEN = "bench-" + "0" * 24
STEP = 1.2
SECONDS = 8.0
PEER_NAME = "FastAPI, pipeline"


@contextlib.contextmanager
def running(command: list[str], port: int, threads: str | None) -> Iterator[tuple[psutil.Process, float]]:
    """A service, and how long it took until it answered the first text."""
    environment = {**os.environ, "SPARKML_TOKENS": TOKEN}
    if threads:
        environment["OMP_NUM_THREADS"] = threads
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise SystemExit(f"{command} ended with {process.returncode}")
            time.sleep(0.05)
        yield psutil.Process(process.pid), time.monotonic() - begun
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    body = json.dumps({"texts": ["a text"]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/score", body, headers)
    with (
        contextlib.suppress(urllib.error.URLError, ConnectionError),
        urllib.request.urlopen(request) as reply,
    ):
        return reply.status == 200
    return False


def loaded(port: int, texts: Path, rate: float, seconds: float) -> dict[str, float]:
    """What a load of so many requests a second meets."""
    command = [sys.executable, "-m", "tests.bench.load", str(port), str(texts), str(rate), str(seconds)]
    done = subprocess.run([*command, "--token", TOKEN], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(f"  {rate:7.1f}/s {found}", file=sys.stderr, flush=True)
    return found


def best_rate(port: int, texts: Path, first: float, within: float) -> float:
    """The highest rate of the ladder that is answered in time; two steps too fast end it."""
    best, rate, missed = 0.0, first, 0
    while missed < 2:
        found = loaded(port, texts, rate, SECONDS)
        if not found["failed"] and found["p95"] <= within:
            best, missed = rate, 0
        else:
            missed += 1
        rate *= STEP
    return best


def megabytes(process: psutil.Process) -> float:
    """Resident memory of a process and its children that is theirs alone."""
    return sum(one.memory_full_info().uss for one in [process, *process.children(recursive=True)]) / 1e6


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a classifier's directory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--forms", default="float32,int8")
    parser.add_argument("--within", type=float, default=0.25)
    parser.add_argument("--first", type=float, default=8.0, help="the ladder's first rate for the peer")
    parser.add_argument("--soak", type=float, default=0.0)
    return parser.parse_args()


def main() -> None:
    """Print the figures."""
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = folder / "texts.parquet"
        pq.write_table(pa.table({"text": skewed_texts(4000)}), texts)
        model = Path(options.model) if options.model else folder / "float32"
        if not options.model:
            write_model(model)
        ways = {PEER_NAME: model}
        for form in options.forms.split(","):
            method = {"int8": "int8_dynamic", "bf16": "bf16"}.get(form)
            ways[f"sparkml serve, {form}"] = compressed(model, folder / form, method) if method else model
        rates: dict[str, list[float]] = {way: [] for way in ways}
        p99: dict[str, list[float]] = {way: [] for way in ways}
        starts: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, where in ways.items():
                port = free_ports(1)[0]
                with running(_command(way, where, port, options.peer_python), port, None) as (process, start):
                    print(f"{way}: ready after {start:.1f} s", file=sys.stderr, flush=True)
                    loaded(port, texts, 5, 3)
                    first = options.first if way == PEER_NAME else 4 * options.first
                    rate = best_rate(port, texts, first, options.within)
                    rates[way].append(rate)
                    p99[way].append(loaded(port, texts, max(1.0, rate / 2), 2 * SECONDS)["p99"])
                    starts[way].append(start)
                    if options.soak and way != PEER_NAME and len(rates[way]) == 1:
                        before = megabytes(process)
                        found = loaded(port, texts, 0.8 * rate, options.soak)
                        print(
                            f"{way}: soak {found}, {before:.0f} MB before, {megabytes(process):.0f} MB after"
                        )
    peer = statistics.median(rates[PEER_NAME])
    print(f"one text a request, 95 % within {options.within} s, median of {options.rounds}")
    for way in ways:
        rate = statistics.median(rates[way])
        print(
            f"{way:24}{rate:8.1f} requests/s{rate / peer:7.2f}x; p99 at half of it {statistics.median(p99[way]):.3f} s;"
            f" first answer after {statistics.median(starts[way]):.1f} s"
        )


def _command(way: str, model: Path, port: int, peer_python: str) -> list[str]:
    if way == PEER_NAME:
        return [peer_python, str(PEER), str(model), str(port), str(LONGEST)]
    start = "import sys; from sparkml.cli.main import main; sys.exit(main())"
    words = ["serve", str(model), "--port", str(port), "--log-level", "WARNING"]
    return [sys.executable, "-c", start, *words]


if __name__ == "__main__":
    main()
