"""A masked-LM pretraining by transformers' `Trainer` in an environment of its own: reads a job, prints tokens a second.

Alone in its file, and free of sparkml: `python train_peer.py JOB.json`. The trainer is as its users have it, but for
checkpoints and logs, which ours leaves out too, and AdamW's second beta.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pyarrow.parquet as pq
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """When the unmeasured steps were done, and when all were."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self.begun = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each step."""
        self.ended = time.monotonic()
        if state.global_step == self._warm_up:
            self.begun = self.ended


def main(job_file: str) -> None:
    """Train and print."""
    with open(job_file, encoding="utf-8") as stream:
        job = json.load(stream)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(job["start"])
    rows = [
        {"input_ids": row} for file in job["files"] for row in pq.read_table(file)["input_ids"].to_pylist()
    ]
    clock = Clock(job["warm_up"])
    arguments = TrainingArguments(
        output_dir=job["folder"],
        max_steps=job["steps"] + job["warm_up"],
        per_device_train_batch_size=job["batch"],
        learning_rate=job["rate"],
        weight_decay=0.01,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=BertForMaskedLM(BertConfig.from_pretrained(job["start"])),
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=job["masked"]),
        callbacks=[clock],
    )
    trainer.train()
    print(job["steps"] * job["batch"] * job["length"] / (clock.ended - clock.begun))


if __name__ == "__main__":
    main(sys.argv[1])
