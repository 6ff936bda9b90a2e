"""Tiny model directories that write text: they have learnt, in some steps, to write the words of a text backwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sparkml.inference.scorer import rows_of
from sparkml.models.directory import TASK_FILE
from sparkml.models.folder import write_json
from sparkml.models.heads import build_network, save_trained
from sparkml.tasks.seq2seq import Seq2Seq, Seq2SeqOptions
from sparkml.tasks.task import Targets, task_spec
from tests.tiny import WORDS, tiny_model

T5: dict[str, Any] = {
    "model_type": "t5",
    "d_model": 32,
    "d_ff": 64,
    "d_kv": 16,
    "num_layers": 2,
    "num_heads": 2,
    "dropout_rate": 0.0,
}
GPT2: dict[str, Any] = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}


def backwards(n_texts: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of one to five words, and their words from the last to the first."""
    rng = np.random.default_rng(seed)
    words = " ".join(WORDS).split()
    texts = [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(n_texts)]
    return texts, [" ".join(reversed(text.split())) for text in texts]


def tiny_writer(folder: Path, config: Mapping[str, Any] = T5, steps: int = 60, **options: Any) -> Path:
    """Write a directory whose network has had so many steps: few, and many of its tokens are uncertain."""
    head = "AutoModelForSeq2SeqLM" if config["model_type"] == "t5" else "AutoModelForCausalLM"
    tiny_model(folder, head, config=config)
    settings = Seq2SeqOptions(**{"max_length": 32, "max_target_length": 16, **options})
    task = Seq2Seq(settings, Targets(), Seq2Seq.read_inputs(str(folder)))
    network, _ = build_network(task.network(), folder, seed=1)
    texts, targets = backwards(48)
    encoded = task.encode(pa.RecordBatch.from_pydict({"text": texts, "text_b": targets}), purpose="train")
    batch = task.collate(rows_of(encoded.samples), None)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(steps):
        found = task.loss(network, batch)
        (found.total / found.units).backward()
        optimizer.step()
        optimizer.zero_grad()
    save_trained(network, folder)
    write_json(folder / TASK_FILE, task_spec(task))
    return folder
