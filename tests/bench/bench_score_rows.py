"""The stage `score` on more and more rows: seconds, memory of the workers, and a second run over rows that are scored.

    python -m tests.bench.bench_score_rows [--rows 125000 250000 500000 1000000]

Texts of one to twenty words and a network of two layers of 32, so that the stage itself is measured. Each size is a
lake of its own in a process of its own, with a session of two task slots. Memory is that of all Python workers together
(their private pages), sampled ten times a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.fresh import last_line

if TYPE_CHECKING:
    from sparkml.frame.tables import Tables

_FILE_ROWS = 100_000


def write_rows(folder: Path, rows: int) -> None:
    """Parquet in files of 100,000 rows."""
    from tests.tiny import WORDS

    chance = np.random.default_rng(5)
    words = np.array(" ".join(WORDS).split())
    folder.mkdir()
    for start in range(0, rows, _FILE_ROWS):
        count = min(_FILE_ROWS, rows - start)
        lengths = chance.integers(1, 21, count)
        drawn = words[chance.integers(0, len(words), int(lengths.sum()))].tolist()
        ends = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        texts = [" ".join(drawn[ends[at] : ends[at + 1]]) for at in range(count)]
        ids = [f"{start + at:09d}" for at in range(count)]
        pq.write_table(pa.table({"doc_id": ids, "text": texts}), folder / f"{start}.parquet")


class Watch:
    """Most private memory that the Python workers of this process had."""

    def __init__(self) -> None:
        self.most = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._ending.wait(0.1):
            total = 0
            for child in me.children(recursive=True):
                try:
                    if "python" in child.name():
                        total += child.memory_full_info().uss
                except psutil.Error:
                    continue
            self.most = max(self.most, total)


def score(tables: Tables, folder: Path, model: str) -> float:
    """Seconds of one run of the stage, recorded as a success."""
    from sparkml.frame.ledger import STARTED, SUCCEEDED, Ledger
    from sparkml.stages.score.config import ScoreConfig
    from sparkml.stages.score.stage import run
    from tests.runs import new_run, put_run

    config = ScoreConfig(source="documents", model=model)
    job = new_run(tables, Ledger(tables), folder / "artifacts", "score")
    put_run(job, STARTED, config=config)
    begun = time.monotonic()
    report = run(job, config)
    seconds = time.monotonic() - begun
    put_run(job, SUCCEEDED, report, config)
    return seconds


def measured(rows: int) -> dict[str, float]:
    """A lake of so many rows: the first run, a second one, and one after 1 % more rows have come."""
    from sparkml.frame.config import load_config
    from sparkml.frame.session import Session
    from sparkml.frame.tables import Tables
    from tests.tiny import tiny_classifier

    with (
        tempfile.TemporaryDirectory() as name,
        Session(load_config("local", ["spark.master=local[2]"]).spark) as session,
    ):
        folder = Path(name)
        write_rows(folder / "texts", rows)
        tiny_classifier(folder / "model")
        session.expect(sum(file.stat().st_size for file in (folder / "texts").glob("*")))
        spark = session()
        tables = Tables(str(folder / "lake"), lambda: spark)
        tables.overwrite(spark.read.parquet(str(folder / "texts")), "documents")
        with Watch() as watch:
            first = score(tables, folder, str(folder / "model"))
        second = score(tables, folder, str(folder / "model"))
        more = spark.read.parquet(str(folder / "texts")).limit(rows // 100)
        tables.append(more.selectExpr("concat('new-', doc_id) AS doc_id", "text"), "documents")
        third = score(tables, folder, str(folder / "model"))
        found = tables.read("scores").count()
    return {
        "rows": rows,
        "seconds": first,
        "rows_per_second": rows / first,
        "worker_mb": watch.most / 1e6,
        "again": second,
        "one_percent_more": third,
        "scores": found,
    }


def main() -> None:
    """Print a line a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[125_000, 250_000, 500_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return
    for rows in options.rows:
        command = [sys.executable, "-m", "tests.bench.bench_score_rows", "--one", str(rows)]
        found = json.loads(last_line(str(rows), command))
        assert found["scores"] == rows + rows // 100, found
        print(", ".join(f"{name} {value:.1f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
