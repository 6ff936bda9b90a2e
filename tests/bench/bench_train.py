"""Tokens a second of masked-LM pretraining on one thread: our loop beside transformers' own parts.

python -m tests.bench.bench_train [--steps 100] [--hidden 128] [--layers 2]

Both read the same rows and train the same network with the same batch and share of masked tokens; checkpoints,
validation and curves are left out of ours. The peer is what training scripts write: `DataLoader`,
`DataCollatorForLanguageModeling`, `BertForMaskedLM(labels=...)`, AdamW, clipping. They run in turn, three times.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch
from sparkml.models.encoder import EncoderShape, build_masked_lm
from sparkml.models.tokenizer import SPECIAL_TOKENS, TokenizerFile
from sparkml.training.loop import Trainer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.feed.manifest import Manifest
from sparkml.feed.manifest_file import write_manifest
from sparkml.training.settings import LoopSettings, TrainingJob
from tests.bench.bench_feed import write

VOCABULARY, LENGTH, BATCH, MASKED, ROUNDS, WARM_UP = 8192, 128, 8, 0.15, 3, 5
RATE = 1e-3


def ours(manifest: Manifest, shape: EncoderShape, steps: int, folder: Path) -> float:
    """Tokens a second of the loop, as it measures itself."""
    settings = LoopSettings(
        shape=shape,
        embedding_start="random",
        seed=17,
        max_steps=steps + WARM_UP,
        micro_batch=BATCH,
        learning_rate=RATE,
        warmup_steps=1,
        decay="linear",
        weight_decay=0.01,
        gradient_clip=1.0,
        mask_fraction=MASKED,
        validation_every_steps=sys.maxsize,
        validation_rows=BATCH,
        checkpoint_every_steps=sys.maxsize,
        keep_checkpoints=1,
    )
    pinned = write_manifest(manifest, str(folder))
    job = TrainingJob(
        settings=settings,
        train_manifest=pinned,
        validation_manifest=pinned,
        tokenizer=TokenizerFile("", ""),
        reader="petastorm",
        run_folder=str(folder),
        model_folder=str(folder / "model"),
        run_name="bench",
        tensorboard_folder=str(folder / "tensorboard"),
        mlflow_uri=(folder / "mlflow").as_uri(),
        mlflow_store="",
    )
    return Trainer(job, VOCABULARY, SingleProcess(), Reporter(None)).run()["tokens_per_second"]


def peer(manifest: Manifest, shape: EncoderShape, steps: int) -> float:
    """Tokens a second of transformers' parts."""
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    words = {**{name: number for number, name in enumerate(SPECIAL_TOKENS)}}
    words |= {f"w{number}": number for number in range(len(words), VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, "[UNK]")),
        **{f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")},
    )
    rows = pq.read_table(manifest.files[0].path)["input_ids"].to_pylist()
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, collate_fn=collator)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    model = build_masked_lm(shape, VOCABULARY, 17).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for step, batch in enumerate(itertools.islice(batches, steps + WARM_UP)):
        if step == WARM_UP:
            begun = time.monotonic()
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return steps * BATCH * LENGTH / (time.monotonic() - begun)


def main() -> None:
    """Print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("--steps", 100), ("--hidden", 128), ("--layers", 2)):
        parser.add_argument(option, type=int, default=default)
    options = parser.parse_args()
    steps, hidden, layers = options.steps, options.hidden, options.layers
    torch.set_num_threads(1)
    shape = EncoderShape(
        hidden=hidden,
        layers=layers,
        heads=hidden // 64,
        intermediate=4 * hidden,
        max_length=LENGTH,
        dropout=0.0,
    )
    with tempfile.TemporaryDirectory() as name:
        manifest = write(Path(name), rows=BATCH * (steps + WARM_UP), length=LENGTH, group=256)
        rates = [
            (ours(manifest, shape, steps, Path(name) / str(turn)), peer(manifest, shape, steps))
            for turn in range(ROUNDS)
        ]
    mine, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    print(f"hidden {hidden}, {layers} layers, batch {BATCH} x {LENGTH}, one thread, median of {ROUNDS}")
    print(f"ours {mine:.0f} tokens/s, transformers' parts {theirs:.0f} tokens/s, ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
