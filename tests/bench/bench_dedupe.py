"""Dedupe in figures: signatures on one core beside other tools', the stage on real documents, clustering.

    python -m tests.bench.bench_dedupe kernel [--peer-python VENV/bin/python]
    python -m tests.bench.bench_dedupe stage --documents 10000
    python -m tests.bench.bench_dedupe components --edges 1000000

The documents are the docstrings of the installed packages. The peers (datasketch, datatrove) live in an environment
of their own, which `--peer-python` names; without it they are left out, and the output says so. Besides seconds on the
clock, CPU seconds are printed: on a busy machine only these mean something.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame

from sparkml.kernels.minhash import band_hashes, shingle_sets
from tests.bench.documents import docstrings_of_packages

PEERS = r"""
import sys, time
documents = sys.stdin.buffer.read().decode().split("\0")
size = sum(len(d.encode()) for d in documents) / 1e6
try:
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig
    step = MinhashDedupSignature("/tmp", config=MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1")))
    step.get_shingles("warm up the tokenizer please now")
    begun = time.process_time()
    for d in documents:
        shingles = step.get_shingles(d)
        if shingles.size:
            step.get_signature(shingles)
    print(f"datatrove signature        {size / (time.process_time() - begun):8.2f} MB/s")
except ImportError as error:
    print(f"datatrove signature        left out: {error}")
try:
    from datasketch import MinHash
    begun = time.process_time()
    for d in documents:
        words = d.lower().split()
        sketch = MinHash(num_perm=112)
        sketch.update_batch([" ".join(words[i:i + 5]).encode() for i in range(len(words) - 4)])
    print(f"datasketch signature       {size / (time.process_time() - begun):8.2f} MB/s (no normalisation)")
except ImportError as error:
    print(f"datasketch signature       left out: {error}")
"""


def docstrings(limit: int) -> list[str]:
    """So many different docstrings of 20 words or more."""
    return docstrings_of_packages(1500 * limit, min_words=20)[:limit]


def bench_kernel(documents: int, peer_python: str | None) -> None:
    texts = docstrings(documents)
    array = pa.array(texts)
    size = array.nbytes / 1e6
    print(f"{len(texts)} documents, {size:.1f} MB, one core, CPU time")
    for name, work in (
        ("sparkml signature 14 x 8", lambda: band_hashes(array, n_bands=14, n_rows=8, ngram=5, seed=17)),
        ("sparkml shingle sets", lambda: shingle_sets(array, 5)),
    ):
        work()  # compiled and in the caches
        begun = time.process_time()
        work()
        print(f"{name:<26} {size / (time.process_time() - begun):8.1f} MB/s")
    if peer_python is None:
        print("datatrove, datasketch      left out: no --peer-python is given")
        return
    sample = "\0".join(texts[:1000]).encode()
    subprocess.run([peer_python, "-W", "ignore", "-c", PEERS], input=sample, check=True)


def bench_stage(documents: int) -> None:
    from pyspark.sql import functions as F

    from sparkml.frame.ledger import Ledger
    from sparkml.frame.tables import Tables
    from sparkml.stages.dedupe.config import DedupeConfig
    from sparkml.stages.dedupe.stage import run
    from tests.runs import new_run

    spark = _session()
    rows = [(f"{number:08d}", text, len(text.split())) for number, text in enumerate(docstrings(documents))]
    frame = spark.createDataFrame(rows, "doc_id string, text string, n_words int")
    absent = {name: F.lit(None).cast("string") for name in ("lang", "url", "title", "label")}
    frame = frame.withColumns(
        {
            **absent,
            "lang_score": F.lit(1.0).cast("float"),
            "signals": F.struct(F.lit(0).alias("none")),
            "meta": F.lit(None).cast("map<string,string>"),
            "run_id": F.lit("bench"),
        }
    )
    with tempfile.TemporaryDirectory() as lake:
        tables = Tables(lake, lambda: spark)
        tables.overwrite(frame.repartition(4), "clean")
        for turn in ("cold", "warm"):
            job = new_run(tables, Ledger(tables), Path(lake), "dedupe", fingerprint=turn)
            begun, cpu = time.monotonic(), _tree_cpu_seconds()
            report = run(job, DedupeConfig())
            seconds, used = time.monotonic() - begun, _tree_cpu_seconds() - cpu
            print(f"{turn}: {seconds:.1f} s, {used:.1f} CPU s, {report.rows_in} in, {report.rows_kept} kept")
            print(f"      {dict(report.metrics)}")
        for _ in range(2):
            begun, cpu = time.monotonic(), _tree_cpu_seconds()
            pairs = _mllib_pairs(tables.read("clean"), DedupeConfig().similarity_threshold)
            seconds, used = time.monotonic() - begun, _tree_cpu_seconds() - cpu
            print(f"MLlib's MinHashLSH, pairs alone: {seconds:.1f} s, {used:.1f} CPU s, {pairs} pairs")
    spark.stop()


def _mllib_pairs(documents: DataFrame, threshold: float) -> int:
    """Pairs of Spark's own MinHash join: the same shingles and threshold, its result verified by true Jaccard, too.

    Two tables of one hash find 96 % of the pairs at 0.8, a little more than the stage's 14 bands of 8.
    """
    from pyspark.ml.feature import HashingTF, MinHashLSH, NGram, RegexTokenizer
    from pyspark.sql import functions as F

    words = RegexTokenizer(inputCol="text", outputCol="words", pattern=r"\w+", gaps=False).transform(
        documents
    )
    shingles = NGram(n=5, inputCol="words", outputCol="shingles").transform(words)
    vectors = HashingTF(numFeatures=1 << 22, binary=True, inputCol="shingles", outputCol="vector").transform(
        shingles.where(F.size("shingles") > 0)
    )
    vectors = vectors.select("doc_id", "vector").persist()
    model = MinHashLSH(inputCol="vector", outputCol="hashes", numHashTables=2, seed=17).fit(vectors)
    joined = model.approxSimilarityJoin(vectors, vectors, 1 - threshold, "distance")
    pairs = joined.where("datasetA.doc_id < datasetB.doc_id").count()
    vectors.unpersist()
    return int(pairs)


def bench_components(edges: int) -> None:
    from sparkml.stages.dedupe.components import connected_components

    spark = _session()
    numbers = random.Random(3)
    # Clusters of a handful, as near duplicates make them, and one path of a tenth of the edges.
    path = [(f"p{n:08d}", f"p{n + 1:08d}") for n in range(edges // 10)]
    pairs = [
        (f"n{n:08d}", f"n{n + numbers.randrange(1, 4):08d}") for n in range(0, (edges - len(path)) * 2, 2)
    ]
    table = pa.table({"src": [a for a, _ in path + pairs], "dst": [b for _, b in path + pairs]})
    frame = spark.createDataFrame(table.to_pandas()).persist()
    count = frame.count()
    for name, limit in (("one task", count), ("contraction, then one task", count // 10), ("contraction", 0)):
        begun, cpu = time.monotonic(), _tree_cpu_seconds()
        found = connected_components(frame, count, single_task_edges=limit)
        clusters = found.select("component").distinct().count()
        seconds, used = time.monotonic() - begun, _tree_cpu_seconds() - cpu
        print(f"{count} edges, {name}: {seconds:.1f} s, {used:.1f} CPU s, {clusters} components")
    spark.stop()


def _session():  # type: ignore[no-untyped-def]
    from sparkml.frame.config import load_config
    from sparkml.frame.session import build_session

    properties = load_config("local", ["spark.master=local[2]", "spark.driver.memory=2g"]).spark
    return build_session(properties, name="bench-dedupe")


def _tree_cpu_seconds() -> float:
    """CPU seconds of this process and all below it, the JVM and its workers; a worker that ended is lost."""
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        parents[int(folder.name)] = int(fields[1])
        seconds[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return sum(used for pid, used in seconds.items() if _is_below(pid, os.getpid(), parents))


def _is_below(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid not in (0, root):
        pid = parents.get(pid, 0)
    return pid == root


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["kernel", "stage", "components"])
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--peer-python", help="interpreter of an environment with datatrove and datasketch")
    options = parser.parse_args()
    if options.what == "kernel":
        bench_kernel(options.documents, options.peer_python)
    elif options.what == "stage":
        bench_stage(options.documents)
    else:
        bench_components(options.edges)


if __name__ == "__main__":
    sys.exit(main())
