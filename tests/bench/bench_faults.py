"""How long a training takes to find a lost rank, and to be back at the step where it was lost.

    python -m tests.bench.bench_faults [--rounds 5] [--ways "killed rank;stopped rank;killed executor"]

Two ranks train a masked language model on a local cluster of two executors, processes of their own, with a training's
default settings but for checkpoints every 20 steps. At step 50 one rank is killed (SIGKILL), stopped (SIGSTOP) or
loses its executor. Found: until the launcher says that the attempt failed. Back: until the step is done again. At the
end the weights are compared, bit for bit, with those of a run that nothing disturbed.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from pyspark.sql import SparkSession
from safetensors.torch import load_file

from sparkml.distributed.hub import StepDone
from sparkml.distributed.launcher import LaunchOptions, launch
from sparkml.feed.manifest import Manifest
from sparkml.frame.config import load_config
from sparkml.frame.session import build_session
from sparkml.training.rank import train_rank
from sparkml.training.settings import RankSettings, TrainingJob
from tests.bench.bench_feed import write
from tests.bench.bench_train import LENGTH, training_job, write_start

HIDDEN, LAYERS, BATCH, STEPS, LOST_AT, EVERY = 256, 4, 32, 80, 50, 20


def rank_process(number: int) -> psutil.Process:
    """The process of a rank, by what its job says."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "sparkml.distributed.rank" in words and f'"rank": {number},' in Path(words[-1]).read_text("utf-8"):
            return process
    raise SystemExit(f"rank {number} is not there")


def kill_rank() -> None:
    """As the kernel does that runs out of memory."""
    rank_process(1).kill()


def stop_rank() -> None:
    """It hangs without a word."""
    os.kill(rank_process(1).pid, signal.SIGSTOP)


def kill_executor() -> None:
    """With the Python worker and the rank below it."""
    java = [one for one in rank_process(1).parents() if "java" in one.name()]
    java[0].kill()


WAYS: dict[str, Callable[[], None]] = {
    "killed rank": kill_rank,
    "stopped rank": stop_rank,
    "killed executor": kill_executor,
}


class Found(logging.Handler):
    """When the launcher said that an attempt failed, and what."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.at, self.said = 0.0, ""

    def emit(self, record: logging.LogRecord) -> None:
        """One line of the launcher's log."""
        if "attempt" in record.msg and not self.at:
            self.at, self.said = time.monotonic(), record.getMessage().splitlines()[0]


def job_in(folder: Path, start: Path, manifest: Manifest) -> TrainingJob:
    """A training with checkpoints."""
    job = training_job(manifest, start, STEPS, BATCH, folder)
    return job.model_copy(update={"checkpoint_every_steps": EVERY, "keep_checkpoints": 2})


def run(spark: SparkSession, job: TrainingJob, lose: Callable[[], None] | None) -> dict[str, Any]:
    """Seconds, and the weights at the end."""
    lost_at = back_at = 0.0
    handler = Found()
    logging.getLogger("sparkml.distributed.launcher").addHandler(handler)

    def seen(done: StepDone) -> None:
        nonlocal lost_at, back_at
        if done.step == LOST_AT and lose is not None:
            if not lost_at:
                lost_at = time.monotonic()
                lose()
            else:
                back_at = time.monotonic()

    default = RankSettings()
    options = LaunchOptions(2, heartbeat_seconds=default.heartbeat_seconds, step_seconds=default.step_seconds)
    done = launch(spark, train_rank, job.to_payload(), options, on_progress=seen)
    logging.getLogger("sparkml.distributed.launcher").removeHandler(handler)
    return {
        "found": handler.at - lost_at,
        "back": back_at - lost_at,
        "attempts": done.attempts,
        "said": handler.said,
        "step_ms": done.results[0]["step_ms"],
        "weights": load_file(Path(job.run_folder) / "result" / "model.safetensors"),
    }


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by `;`")
    options = parser.parse_args()
    properties = load_config(
        "local", ["spark.master=local-cluster[2,1,2048]", "spark.executor.memory=1g"]
    ).spark
    spark = build_session(properties, name="bench")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_start(folder / "start", HIDDEN, LAYERS)
        manifest = write(folder, rows=BATCH * (STEPS + 5), length=LENGTH)
        undisturbed = run(spark, job_in(folder / "undisturbed", folder / "start", manifest), None)
        print(f"undisturbed: {undisturbed['step_ms']:.0f} ms a step, checkpoints every {EVERY} steps")
        for way in options.ways.split(";"):
            found = []
            for turn in range(options.rounds):
                job = job_in(folder / f"{way}-{turn}", folder / "start", manifest)
                found.append(run(spark, job, WAYS[way]))
                same = all(
                    torch.equal(tensor, undisturbed["weights"][key])
                    for key, tensor in found[-1]["weights"].items()
                )
                print(
                    f"  {way}: {found[-1]['said']}; {found[-1]['attempts']} attempts, equal weights: {same}"
                )
            medians = {key: statistics.median(one[key] for one in found) for key in ("found", "back")}
            most = {key: max(one[key] for one in found) for key in ("found", "back")}
            print(
                f"{way:16} found after {medians['found']:5.1f} s (at most {most['found']:.1f}), "
                f"back after {medians['back']:5.1f} s (at most {most['back']:.1f}), median of {options.rounds}"
            )
    spark.stop()


if __name__ == "__main__":
    main()
