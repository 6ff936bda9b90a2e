"""A pretraining from its job to the model folder, on one rank of many or on one process alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch

from sparkml.distributed.collective import Collective
from sparkml.distributed.reporter import Reporter
from sparkml.models.encoder import save_model
from sparkml.models.tokenizer import load_tokenizer
from sparkml.training.curves import CURVE_FILE
from sparkml.training.loop import Trainer
from sparkml.training.settings import TrainingJob

TRAINING_FILE = "training.json"


def pretrain(job: TrainingJob, collective: Collective, reporter: Reporter) -> dict[str, float]:
    """Train to the last step; rank 0 writes the model folder. Returns losses and rates."""
    make_deterministic()
    vocab_size = load_tokenizer(job.tokenizer_file).get_vocab_size()
    trainer = Trainer(job, vocab_size, collective, reporter)
    measured = trainer.run()
    if collective.rank == 0:
        folder = save_model(trainer.model, job.model_folder, job.tokenizer_file)
        shutil.copyfile(Path(job.run_folder) / CURVE_FILE, folder / CURVE_FILE)
        facts = {"settings": job.settings.model_dump(mode="json"), "measured": measured}
        text = json.dumps({**facts, "ranks": collective.size}, indent=2, sort_keys=True)
        (folder / TRAINING_FILE).write_text(text + "\n", encoding="utf-8")
    collective.barrier()
    return measured


def make_deterministic() -> None:
    """Only algorithms that give the same bits every time; for a process that does nothing else."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
