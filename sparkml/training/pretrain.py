"""A pretraining from its job to the model folder, on one rank of many or on one process alone."""

from __future__ import annotations

import os

import torch

from sparkml.distributed.collective import Collective
from sparkml.distributed.reporter import Reporter
from sparkml.frame import artifacts, storage
from sparkml.models.encoder import save_model
from sparkml.models.folder import write_json
from sparkml.models.tokenizer import parse_tokenizer
from sparkml.training.curves import CURVE_FILE
from sparkml.training.loop import Trainer
from sparkml.training.settings import TrainingJob

TRAINING_FILE = "training.json"


def pretrain(job: TrainingJob, collective: Collective, reporter: Reporter) -> dict[str, float]:
    """Train to the last step; rank 0 writes the model folder. Returns losses and rates."""
    make_deterministic()
    tokenizer = job.tokenizer.read()
    vocab_size = parse_tokenizer(tokenizer.decode(), where=job.tokenizer.location).get_vocab_size()
    trainer = Trainer(job, vocab_size, collective, reporter)
    measured = trainer.run()
    if collective.rank == 0:
        with artifacts.new_artifact(job.model_folder) as folder:
            save_model(trainer.model, folder, tokenizer)
            (folder / CURVE_FILE).write_bytes(storage.read_bytes(storage.join(job.run_folder, CURVE_FILE)))
            facts = {"settings": job.settings.model_dump(mode="json"), "measured": measured}
            write_json(folder / TRAINING_FILE, {**facts, "ranks": collective.size})
    collective.barrier()
    return measured


def make_deterministic() -> None:
    """Only algorithms that give the same bits every time; for a process that does nothing else."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
