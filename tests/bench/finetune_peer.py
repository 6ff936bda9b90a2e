"""transformers' `Trainer` as its users run it, for `bench_finetune`. Imports nothing of ours: any environment will do.

    python finetune_peer.py JOB.json                                             # one process
    python -m torch.distributed.run --nproc_per_node 2 finetune_peer.py JOB.json # two

Prints what it measured as one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Stopwatch(TrainerCallback):
    """When each step was done, by the clock and by the processor, and the largest resident size up to then."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []
        self.before_mb = self.peak_mb = peak_mb()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step is done."""
        self.times.append((time.monotonic(), time.process_time()))
        self.peak_mb = peak_mb()


def peak_mb() -> float:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def arguments_of(job: dict[str, Any], folder: str) -> TrainingArguments:
    """The settings that ours has; all others are Trainer's own."""
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=job["batch_size"] // int(os.environ.get("WORLD_SIZE", "1")),
        per_device_eval_batch_size=64,
        num_train_epochs=job["epochs"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=job["warmup_fraction"],
        weight_decay=job["weight_decay"],
        train_sampling_strategy="group_by_length" if job["by_length"] else "random",
        seed=job["seed"],
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Train on the rows of the job, answer its held-out ones."""
    tables = json.loads(Path(job["tables"]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    started = time.monotonic()
    encoded = {}
    for split in ("train", "held_out"):
        texts = tokenizer(tables[split]["text"], truncation=True, max_length=job["max_length"])
        columns = {**texts, "labels": tables[split]["label"]}
        encoded[split] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    tokenized = time.monotonic() - started
    watch = Stopwatch()
    torch.manual_seed(job["seed"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(
                job["model"], num_labels=len(tables["labels"])
            ),
            args=arguments_of(job, folder),
            train_dataset=encoded["train"],
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[watch],
        )
        trainer.train()
        found = trainer.predict(encoded["held_out"])
    return {
        "seconds": watch.times[-1][0] - watch.times[0][0],
        "cpu_seconds": watch.times[-1][1] - watch.times[0][1],
        "steps": len(watch.times),
        "peak_mb": watch.peak_mb,
        "training_mb": watch.peak_mb - watch.before_mb,
        "tokenize_seconds": tokenized,
        "accuracy": float(np.mean(found.predictions.argmax(axis=1) == found.label_ids)),
    }


if __name__ == "__main__":
    measured = measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(measured))
