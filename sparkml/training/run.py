"""A training from its job to the trained network, on one rank of many or in one process alone.

    <run folder>/result/     config.json, model.safetensors (or the adapter), curve.jsonl, training.json
    <run folder>/answers/    rank-00000.arrow ...: what the trained network says of the held-out samples

Who started the training makes the model directory of it.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sparkml.distributed.collective import Collective
from sparkml.distributed.reporter import WORK, Reporter
from sparkml.feed.batches import micro_batches, parts_of
from sparkml.feed.plan import epoch_plan, steps_per_epoch
from sparkml.feed.reader import open_reader
from sparkml.frame import artifacts, storage
from sparkml.models.adapt import Adapted, adapt
from sparkml.models.directory import read_task
from sparkml.models.folder import write_json
from sparkml.models.heads import build_network, load_trained, save_network
from sparkml.models.shaping.beside import Beside
from sparkml.models.shaping.build import shape
from sparkml.tasks.on_features import OnFeatures
from sparkml.tasks.task import Task, task_of
from sparkml.tasks.taught import Taught
from sparkml.training.columns import SAMPLE_ID, widths_of
from sparkml.training.curves import CURVE_FILE
from sparkml.training.feeding import data_rank
from sparkml.training.settings import ANSWERS, RESULT, TrainingJob
from sparkml.training.spread import Spread
from sparkml.training.trainer import Trainer, device_of

TRAINING_FILE = "training.json"
ANSWER_SCHEMA = pa.schema([(SAMPLE_ID, pa.int64()), ("output", pa.binary()), ("dtype", pa.string())])
# Samples that are counted for the weights of a new network to start from: seconds of work.
_COUNTED_TOKENS = 1 << 21
_ANSWERED_ROWS = 256


def train(job: TrainingJob, collective: Collective, reporter: Reporter) -> dict[str, float]:
    """Train to the end, answer the held-out samples; rank 0 writes the network. Returns losses and rates."""
    make_deterministic()
    folder = artifacts.localise(job.start.folder)
    task = task_of(job.task, folder)
    if job.on_features:
        task = OnFeatures(task)
    network, new_modules = build_network(task.network(), folder, seed=job.seed, random=job.start.random)
    train_manifest = job.train_manifest.read()
    epoch_steps = steps_per_epoch(train_manifest, job.loop.batch_size)
    if job.start.random:
        _start(job, task, network)
        new_modules = frozenset()  # all is drawn already, and what counting has told must not be drawn over
    steps = {"total_steps": job.loop.steps(epoch_steps), "epoch_steps": epoch_steps}
    adapted = adapt(network, job.adapt, new_modules=new_modules, **steps, seed=job.seed)
    shape(adapted, job.shaping, steps["total_steps"])
    if job.shaping.teaching is not None:
        task = Taught(task, job.shaping.teaching, _beside(job, task, adapted, collective))
    trainer = Trainer(job, task, adapted, collective, reporter)
    measured = trainer.run()
    _answer(job, task, trainer.spread, collective, reporter)
    state = trainer.spread.whole_state()
    if state is not None:
        network, new_modules = build_network(task.network(), folder, seed=job.seed, random=job.start.random)
        adapted = adapt(network, job.adapt, new_modules=new_modules, **steps, seed=job.seed)
        adapted.network.load_state_dict(state)
    if collective.rank == 0:
        _write(job, task, adapted, measured, collective.size)
    collective.barrier()
    return measured


def _beside(job: TrainingJob, task: Task[Any], adapted: Adapted, collective: Collective) -> Beside | None:
    """The teacher in this process, where more of it is matched than its logits."""
    teaching = job.shaping.teaching
    if teaching is None or not teaching.beside:
        return None
    folder = artifacts.localise(teaching.teacher)
    teacher = load_trained(task_of(read_task(folder), folder).network(), folder)
    return Beside(adapted.network, teacher.to(device_of(collective.local_rank)), teaching.beside)


def _start(job: TrainingJob, task: Task[Any], network: torch.nn.Module) -> None:
    """Every rank computes the same; what rank 0 has is broadcast anyway."""
    manifest = job.train_manifest.read()
    length = manifest.sequence_length or _ANSWERED_ROWS
    n_rows = max(1, min(_COUNTED_TOKENS // length, manifest.rows))
    plan = epoch_plan(
        manifest, epoch=0, seed=job.seed, batch_size=n_rows, n_streams=job.loop.canonical_streams
    )
    reader = open_reader(job.reader, widths_of(task, manifest), job.feed)
    (batch,) = micro_batches(reader, plan, stop_step=1)
    task.start(network, batch.columns, job.seed)


def _answer(
    job: TrainingJob,
    task: Task[Any],
    spread: Spread,
    collective: Collective,
    reporter: Reporter,
) -> None:
    """This rank's part of the held-out samples, answered into a file of its own."""
    manifest = job.validation_manifest.read()
    if not task.has_figures or not manifest.rows:
        return
    device = device_of(collective.local_rank)
    own = data_rank(collective, job.spread)
    plan = epoch_plan(
        manifest,
        epoch=0,
        seed=job.seed,
        batch_size=own.size * _ANSWERED_ROWS,
        n_streams=job.loop.canonical_streams,
    )
    reader = open_reader(job.reader, widths_of(task, manifest), job.feed)
    found: dict[str, list[Any]] = {name: [] for name in ANSWER_SCHEMA.names}
    with torch.inference_mode() if spread.is_whole else torch.no_grad():
        ranks = {"rank": own.rank, "world_size": own.size}
        for batch in micro_batches(reader, plan, **ranks, pool_steps=16):
            reporter.enter(WORK)  # each batch is a piece of work of its own to whoever watches
            held = task.tokens_held(batch.columns["n_tokens"]) if batch.rows else None
            parts = list(parts_of(batch.columns, job.loop.micro_batch_tokens, held))
            collated = (task.collate(part, None) for part in parts)
            for number, (one, counts) in enumerate(spread.even(len(parts), collated)):
                outputs = spread.call(task.outputs, one.to(device))
                if not counts:
                    continue
                found[SAMPLE_ID] += parts[number][SAMPLE_ID].tolist()
                found["output"] += [np.ascontiguousarray(output).tobytes() for output in outputs]
                found["dtype"] += [output.dtype.str for output in outputs]
    if collective.rank % job.spread.tensor_ranks:
        return  # the first of its group has said the same
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ANSWER_SCHEMA) as writer:
        writer.write_table(pa.table(found, ANSWER_SCHEMA))
    name = f"rank-{collective.rank:05d}.arrow"
    storage.write_bytes(storage.join(job.run_folder, ANSWERS, name), bytes(sink.getvalue()))


def read_answers(run_folder: str) -> pa.Table:
    """The answers of all ranks by `sample_id`; `output` holds an array's bytes and `dtype` what they are."""
    folder = storage.join(run_folder, ANSWERS)
    parts = [
        pa.ipc.open_stream(storage.read_bytes(storage.join(folder, name))).read_all()
        for name in sorted(storage.names(folder))
    ]
    return pa.concat_tables(parts).sort_by(SAMPLE_ID) if parts else ANSWER_SCHEMA.empty_table()


def _write(
    job: TrainingJob, task: Task[Any], adapted: Adapted, measured: dict[str, float], ranks: int
) -> None:
    location = storage.join(job.run_folder, RESULT)
    with artifacts.new_artifact(location) as folder:
        save_network(adapted, task.network(), folder, merge=job.adapt.merge, base=job.start.folder)
        (folder / CURVE_FILE).write_bytes(storage.read_bytes(storage.join(job.run_folder, CURVE_FILE)))
        facts = {"loop": job.loop.model_dump(mode="json"), "adapt": job.adapt.model_dump(mode="json")}
        if job.shaping.is_any:
            facts["shaping"] = job.shaping.model_dump(mode="json")
        write_json(folder / TRAINING_FILE, {**facts, "measured": measured, "ranks": ranks, "seed": job.seed})


def make_deterministic() -> None:
    """Only algorithms that give the same bits every time; for a process that does nothing else."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Every result that an operation gives is written in full; to fill it before costs up to 7 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
