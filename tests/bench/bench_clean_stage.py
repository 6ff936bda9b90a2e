"""The stage `clean` from Delta table to Delta table: MB/s a core, growth with the input, 1 % more, memory.

    python -m tests.bench.bench_clean_stage [--megabytes 40] [--slots 1] [--times 1,2,4,8] [--rounds 3]

The rules are normalising, language, both of Gopher, C4, FineWeb and personal data. The text is documentation of the
installed packages, so many times over. Seconds are those of the whole run, tables written. Then one part in a hundred
of new documents comes, and the step runs again. In the end a document of 100 MB stands among the others; megabytes
are the largest resident size of a Python worker.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.frame.config import load_config
from sparkml.frame.progress import Progress
from sparkml.frame.runner import Runner, StepOutcome
from sparkml.frame.schemas import BRONZE
from sparkml.frame.session import build_session
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.tables import Tables
from tests.bench.documents import docstrings_of_packages

RULES = (
    "clean.rules=[language,gopher_repetition,gopher_quality,c4,fineweb,pii]",
    "clean.c4.lines_end_in_punctuation=false",
)
_MEGA = 1e6


def run_clean(spark: SparkSession, lake: Path, *, force: bool = False) -> tuple[float, StepOutcome]:
    """Seconds of the step, as `sparkml run clean` takes them without starting."""
    config = load_config("local", [f"lake={lake}", *RULES])
    runner = Runner(lambda: spark, config, Progress())
    started = time.perf_counter()
    outcome = runner.run(config.pipeline.step("clean"), force=force)
    return time.perf_counter() - started, outcome


def bronze(spark: SparkSession, texts: list[str], copies: int, first: int = 0) -> DataFrame:
    """So many copies of the documents, each with an id of its own."""
    rows = spark.createDataFrame([(number, text) for number, text in enumerate(texts)], "n long, text string")
    many = rows.crossJoin(spark.range(first, first + copies).withColumnRenamed("id", "copy"))
    named = many.withColumn("doc_id", F.concat_ws("-", "copy", "n"))
    types = {field.name: field.dataType for field in spark_schema(BRONZE).fields}
    return named.select(
        *(
            F.col(name) if name in ("doc_id", "text") else F.lit(None).cast(types[name]).alias(name)
            for name in BRONZE.names
        )
    )


@contextmanager
def peak_of_workers() -> Iterator[list[float]]:
    """The largest resident size of a Python worker while the block runs, in megabytes."""
    found, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "python" in process.name():
                        found[0] = max(found[0], process.memory_info().rss / _MEGA)
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=40.0)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--times", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    texts = docstrings_of_packages(int(options.megabytes * _MEGA), min_words=1)
    size = sum(len(text.encode()) for text in texts) / _MEGA
    settings = load_config("local", [f"spark.master=local[{options.slots}]", "spark.driver.memory=3g"])
    spark = build_session(settings.spark, name="bench-clean")
    with tempfile.TemporaryDirectory() as name:
        lake = Path(name)
        for times in map(int, options.times.split(",")):
            place = lake / f"of-{times}"
            Tables(str(place), lambda: spark).overwrite(bronze(spark, texts, times), "bronze")
            run_clean(spark, place)  # warms the workers up
            seconds = statistics.median(run_clean(spark, place, force=True)[0] for _ in range(options.rounds))
            rate = size * times / seconds / options.slots
            print(
                f"{size * times:8.0f} MB {seconds:8.1f} s {rate:8.1f} MB/s a core, median of {options.rounds}"
            )
        tables = Tables(str(place), lambda: spark)
        few = texts[: max(len(texts) * times // 100, 1)]
        tables.append(bronze(spark, few, 1, first=1000), "bronze")
        took, outcome = run_clean(spark, place)
        read = int(outcome.report.metrics["documents_read"])
        print(f"1 % more: {took:.1f} s of {seconds:.1f} s; {read} documents read of {outcome.report.rows_in}")
        huge = lake / "huge"
        long = ("All of it is one document that nobody should have to read. " * 1_700_000)[:100_000_000]
        of_huge = Tables(str(huge), lambda: spark)
        of_huge.overwrite(bronze(spark, texts[:2_000], 1), "bronze")
        with peak_of_workers() as usual:
            run_clean(spark, huge)
        of_huge.append(bronze(spark, [long], 1, first=7), "bronze")
        with peak_of_workers() as peak:
            _, outcome = run_clean(spark, huge, force=True)
        print(f"a document of 100 MB: {peak[0]:.0f} MB at most in a worker, {usual[0]:.0f} without it")
        print(f"rejected: {dict(outcome.report.reasons)}")
    spark.stop()


if __name__ == "__main__":
    main()
