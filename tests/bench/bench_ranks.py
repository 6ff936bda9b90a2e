"""Masked-LM pretraining on ranks of one thread: launcher, feed and allreduce beside a bare loop and other launchers.

    python -m tests.bench.bench_ranks [--hidden 384] [--layers 6] [--batch 16] [--rounds 5] [--ways "..."]

Every rank trains the same network with `--batch` rows a step, so two ranks have done twice the work. The bare loop has
its batches as tensors in memory, and one process; two of them side by side, which exchange nothing, say what two cores
of this machine can do at most. Its network, masks, loss, optimiser and clipping are ours, as those
of TorchDistributor (with DDP) and `horovod.spark.run` (with DistributedOptimizer) are. Tokens a second are those behind
the fifth step; what a launch takes is printed beside them. Each way runs in a process of its own, in turn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.bench_train import LENGTH, RATE, WARM_UP, masked_lm, write_start
from tests.bench.fresh import last_line


def batches_in_memory(job: dict[str, Any], rank: int) -> list[Any]:
    """Collated batches of a rank, in turn."""
    import numpy as np

    from sparkml.tasks.draws import draws_of

    task = masked_lm(Path(job["start"]))
    rng = np.random.default_rng(rank)
    found = []
    for step in range(8):
        ids = rng.integers(5, 8000, (job["batch"], LENGTH)).astype(np.int32)
        ids[:, 0] = 2
        found.append(task.collate({"input_ids": ids}, draws_of(17, step, range(job["batch"]))))
    return found


def loop(job: dict[str, Any], rank: int, ranks: int, wrap: Callable[[Any, Any], tuple[Any, Any]]) -> float:
    """Tokens a second of all ranks; `wrap` makes network and optimiser those of a library."""
    import torch

    from sparkml.models.heads import build_network

    torch.set_num_threads(1)
    task = masked_lm(Path(job["start"]))
    network, _ = build_network(task.network(), Path(job["start"]), seed=17, random=True)
    network.train()
    optimizer: Any = torch.optim.AdamW(
        network.parameters(), lr=RATE, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, fused=True
    )
    called, optimizer = wrap(network, optimizer)
    batches = batches_in_memory(job, rank)
    started = 0.0
    for step in range(job["steps"] + WARM_UP):
        if step == WARM_UP:
            started = time.perf_counter()
        optimizer.zero_grad()
        loss = task.loss(called, batches[step % len(batches)])
        (loss.total / loss.units).backward()
        if hasattr(optimizer, "synchronize"):  # Horovod's: the norm is that of the sum
            optimizer.synchronize()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if hasattr(optimizer, "skip_synchronize"):
            with optimizer.skip_synchronize():
                optimizer.step()
        else:
            optimizer.step()
    return float(ranks * job["steps"] * job["batch"] * LENGTH / (time.perf_counter() - started))


def bare(job: dict[str, Any]) -> float:
    """One process."""
    return loop(job, 0, 1, lambda network, optimizer: (network, optimizer))


def bare_twice(job: dict[str, Any]) -> float:
    """Two processes that know nothing of each other."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return sum(pool.map(bare, [job, job], chunksize=1))


def with_ddp(job: dict[str, Any]) -> float:
    """The function of a rank under TorchDistributor."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    found = loop(job, rank, ranks, lambda network, optimizer: (DistributedDataParallel(network), optimizer))
    dist.destroy_process_group()
    return found


def with_horovod(job: dict[str, Any]) -> float:
    """The function of a rank under `horovod.spark.run`."""
    import horovod.torch as hvd

    hvd.init()

    def wrap(network: Any, optimizer: Any) -> tuple[Any, Any]:
        hvd.broadcast_parameters(network.state_dict(), root_rank=0)
        named = network.named_parameters()
        return network, hvd.DistributedOptimizer(optimizer, named_parameters=named)

    return loop(job, hvd.rank(), hvd.size(), wrap)


def session(job: dict[str, Any]) -> Any:
    """A Spark of as many slots as ranks."""
    from sparkml.frame.config import load_config
    from sparkml.frame.session import build_session

    return build_session(load_config("local", [f"spark.master=local[{job['ranks']}]"]).spark, name="bench")


def torch_distributor(job: dict[str, Any]) -> float:
    """PySpark's own."""
    from pyspark.ml.torch.distributor import TorchDistributor

    spark = session(job)
    distributor = TorchDistributor(num_processes=job["ranks"], local_mode=False, use_gpu=False)
    found = distributor.run(with_ddp, job)
    spark.stop()
    return float(found)


def horovod_spark(job: dict[str, Any]) -> float:
    """Horovod's own."""
    import horovod.spark

    spark = session(job)
    found = horovod.spark.run(with_horovod, args=(job,), num_proc=job["ranks"], use_gloo=True, verbose=0)
    spark.stop()
    return float(found[0])


def ours(job: dict[str, Any]) -> float:
    """Launcher, feed through petastorm, trainer, Horovod."""
    from sparkml.distributed.launcher import LaunchOptions, launch
    from sparkml.feed.manifest import Manifest
    from sparkml.training.rank import train_rank
    from sparkml.training.settings import HorovodSettings
    from tests.bench.bench_train import training_job

    folder = Path(job["folder"])
    manifest = Manifest.from_record(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    own = folder / f"run-{os.getpid()}"
    batch = job["batch"] * job["ranks"]
    training = training_job(manifest, Path(job["start"]), job["steps"], batch, own)
    spark = session(job)
    horovod = HorovodSettings(**({"cycle_ms": job["cycle_ms"]} if job["cycle_ms"] else {}))
    options = LaunchOptions(job["ranks"], job["collective"], environment=horovod.environment())
    done = launch(spark, train_rank, training.to_payload(), options)
    spark.stop()
    print(json.dumps({name: round(value, 2) for name, value in done.results[0].items()}), file=sys.stderr)
    return float(done.results[0]["tokens_per_second"])


WAYS: dict[str, tuple[Callable[[dict[str, Any]], float], dict[str, Any]]] = {
    "bare loop": (bare, {"ranks": 1}),
    "two bare loops": (bare_twice, {"ranks": 2}),
    "ours, 1 rank": (ours, {"ranks": 1, "collective": "horovod"}),
    "ours, 2 ranks": (ours, {"ranks": 2, "collective": "horovod"}),
    "ours, 2 ranks, torch": (ours, {"ranks": 2, "collective": "torch"}),
    "TorchDistributor, 2 ranks": (torch_distributor, {"ranks": 2}),
    "horovod.spark.run, 2 ranks": (horovod_spark, {"ranks": 2}),
}


def run_once(way: str, job: dict[str, Any]) -> dict[str, float]:
    """One way in a fresh process: tokens a second, and the seconds of all of it."""
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.bench.bench_ranks", "--way", way, "--job", json.dumps(job)]
    return {"rate": float(last_line(way, command)), "seconds": time.monotonic() - started}


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options = (("--steps", 60), ("--hidden", 384), ("--layers", 6), ("--batch", 16), ("--rounds", 5))
    for option, default in options:
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--cycle-ms", type=float, help="Horovod's; by default ours")
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by `;`")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print medians, and what they are of the bare loops'."""
    options = parse()
    if options.way:
        function, given = WAYS[options.way]
        print(function({**options.job, **given}))
        return
    from tests.bench.bench_feed import write

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_start(folder / "start", options.hidden, options.layers)
        rows = 2 * options.batch * (options.steps + WARM_UP)
        manifest = write(folder, rows=rows, length=LENGTH)
        (folder / "manifest.json").write_text(json.dumps(manifest.to_record()), encoding="utf-8")
        job = {
            "folder": name,
            "start": str(folder / "start"),
            **{option: getattr(options, option) for option in ("steps", "batch", "cycle_ms")},
        }
        ways = options.ways.split(";")
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                found[way].append(run_once(way, job))
    print(
        f"hidden {options.hidden}, {options.layers} layers, {options.batch} rows of {LENGTH} a rank, "
        f"one thread, median of {options.rounds}"
    )
    rates = {way: statistics.median(run["rate"] for run in runs) for way, runs in found.items()}
    for way, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        ranks = WAYS[way][1]["ranks"]
        shares = [
            f"{rates[way] / rates[bare]:.2f} of {bare}"
            for bare, count in (("bare loop", 1), ("two bare loops", 2))
            if bare in rates and count <= ranks
        ]
        print(f"{way:28}{rates[way]:10,.0f} tokens/s, {', '.join(shares)}; {seconds:.1f} s in all")


if __name__ == "__main__":
    main()
