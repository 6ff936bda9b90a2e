"""Tokens a second of masked-LM pretraining on one thread: our loop beside transformers' `Trainer` and its own parts.

python -m tests.bench.bench_train [--steps 100] [--hidden 128] [--layers 2] [--rounds 5] [--peer-python PATH]

Both read the same rows and train the same network with the same batch and share of masked tokens; checkpoints,
validation and curves are left out of ours. The parts are what training scripts write: `DataLoader`,
`DataCollatorForLanguageModeling`, `BertForMaskedLM(labels=...)`, AdamW, clipping. Trainer runs in `--peer-python`, an
environment with transformers, accelerate and torch. They run in turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
)

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.feed.manifest import Manifest
from sparkml.feed.manifest_file import write_manifest
from sparkml.models.inputs import read_text_inputs, special_fields
from sparkml.models.networks import write_config
from sparkml.stages.shard.vocabulary import SPECIAL_TOKENS
from sparkml.tasks.masked_lm import MaskedLM, MaskedLMOptions
from sparkml.tasks.task import Targets, task_spec
from sparkml.training.run import train
from sparkml.training.settings import LoopSettings, Start, TrainingJob
from tests.bench.bench_feed import VOCABULARY, write
from tests.bench.fresh import last_line

LENGTH, BATCH, MASKED, WARM_UP = 128, 8, 0.15, 5
RATE = 1e-3


def write_start(folder: Path, hidden: int, layers: int) -> None:
    """What both start from: a configuration without dropout, and a tokenizer of as many words as ids."""
    words = {name: number for number, name in enumerate(SPECIAL_TOKENS)}
    words |= {f"w{number}": number for number in range(len(words), VOCABULARY)}
    roles = ("unk", "pad", "cls", "sep", "mask")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, "[UNK]")),
        **{f"{role}_token": f"[{role.upper()}]" for role in roles},
    )
    tokenizer.save_pretrained(folder)
    config = {
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": LENGTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    special = special_fields(read_text_inputs(folder))
    write_config(config, folder, vocab_size=VOCABULARY, **special)


def masked_lm(start: Path) -> MaskedLM:
    """The task."""
    return MaskedLM(MaskedLMOptions(mask_fraction=MASKED), Targets(), read_text_inputs(start))


def training_job(manifest: Manifest, start: Path, steps: int, batch: int, folder: Path) -> TrainingJob:
    """A training of a new network, without validations and checkpoints."""
    loop = LoopSettings(
        max_steps=steps + WARM_UP,
        max_epochs=None,
        batch_size=batch,
        learning_rate=RATE,
        precision="float32",
        validation_every_steps=sys.maxsize,
        validation_rows=0,
    )
    pinned = write_manifest(manifest, str(folder))
    return TrainingJob(
        task=task_spec(masked_lm(start)),
        start=Start(folder=str(start), random=True),
        loop=loop,
        seed=17,
        train_manifest=pinned,
        validation_manifest=pinned,
        reader="petastorm",
        checkpoint_every_steps=sys.maxsize,
        keep_checkpoints=1,
        run_folder=str(folder),
        run_name="bench",
        tensorboard_folder=str(folder / "tensorboard"),
        mlflow_uri="",
        mlflow_store="",
    )


def ours(manifest: Manifest, start: Path, steps: int, folder: Path) -> float:
    """Tokens a second of a training, as it measures itself."""
    job = training_job(manifest, start, steps, BATCH, folder)
    return train(job, SingleProcess(), Reporter(None))["tokens_per_second"]


def parts(manifest: Manifest, start: Path, steps: int) -> float:
    """Tokens a second of transformers' parts."""
    torch.use_deterministic_algorithms(False)  # ours asks for them, training scripts do not
    tokenizer = AutoTokenizer.from_pretrained(start)
    files = [pq.read_table(file.path)["input_ids"] for file in manifest.files]
    rows = [row for column in files for row in column.to_pylist()]
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, collate_fn=collator)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    model = BertForMaskedLM(BertConfig.from_pretrained(start)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for step, batch in enumerate(itertools.islice(batches, steps + WARM_UP)):
        if step == WARM_UP:
            begun = time.monotonic()
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return steps * BATCH * LENGTH / (time.monotonic() - begun)


def trainer(manifest: Manifest, start: Path, steps: int, folder: Path, python: str) -> float:
    """Tokens a second of transformers' Trainer, in a process of its environment."""
    job = {
        "start": str(start),
        "files": [file.path for file in manifest.files],
        "folder": str(folder),
        "steps": steps,
        "warm_up": WARM_UP,
        "batch": BATCH,
        "length": LENGTH,
        "rate": RATE,
        "masked": MASKED,
    }
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(job), encoding="utf-8")
    peer_file = Path(__file__).with_name("train_peer.py")
    return float(last_line("Trainer", [python, str(peer_file), str(file)]))


def main() -> None:
    """Print medians and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, default in (("--steps", 100), ("--hidden", 128), ("--layers", 2), ("--rounds", 5)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    steps, hidden, layers = options.steps, options.hidden, options.layers
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {"ours": [], "Trainer": [], "transformers' parts": []}
    with tempfile.TemporaryDirectory() as name:
        start = Path(name) / "start"
        write_start(start, hidden, layers)
        manifest = write(Path(name), rows=BATCH * (steps + WARM_UP), length=LENGTH)
        for turn in range(options.rounds):
            found["ours"].append(ours(manifest, start, steps, Path(name) / str(turn)))
            peer_folder = Path(name) / f"trainer-{turn}"
            found["Trainer"].append(trainer(manifest, start, steps, peer_folder, options.peer_python))
            found["transformers' parts"].append(parts(manifest, start, steps))
    print(
        f"hidden {hidden}, {layers} layers, batch {BATCH} x {LENGTH}, one thread, median of {options.rounds}"
    )
    mine = statistics.median(found["ours"])
    for way, rates in found.items():
        median = statistics.median(rates)
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(f"{way:24}{median:10,.0f} tokens/s ({spread}){mine / median:8.2f}")


if __name__ == "__main__":
    main()
