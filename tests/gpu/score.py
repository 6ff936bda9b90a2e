"""Rows a second of our scorer on a GPU beside transformers' pipeline; neither Spark nor a JVM.

    python -m tests.gpu.score MODEL [--rows 20000] [--rounds 5] [--device cuda]

MODEL: a text classifier's directory, float32, as the stage `finetune` leaves it. The texts are those of
`tests.bench.bench_score`. Each way has the model loaded and has seen some texts before it is timed. Prints medians, and
how many predictions differ from the processor's in float32.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import sparkml
from sparkml.models.folder import COMPRESSION_FILE, write_json
from tests.bench.bench_score import LONGEST, skewed_texts

WARM, COMPARED = 64, 500


def ours(folder: Path, device: str) -> Callable[[list[str]], list[str | None]]:
    """Our scorer."""
    scorer = sparkml.load_scorer(str(folder), device=device)
    return lambda texts: [answer.prediction for answer in scorer.answer(texts)]


def pipeline(folder: Path, device: str, kind: torch.dtype) -> Callable[[list[str]], list[str | None]]:
    """transformers' pipeline, in batches of 32."""
    from transformers import pipeline as made

    classify = made("text-classification", str(folder), device=device, dtype=kind)
    return lambda texts: [
        one["label"] for one in classify(texts, batch_size=32, truncation=True, max_length=LONGEST)
    ]


def main() -> None:
    """Print a line a way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    texts = skewed_texts(options.rows)
    with tempfile.TemporaryDirectory() as name:
        half = Path(name) / "bfloat16"
        shutil.copytree(options.model, half)
        write_json(half / COMPRESSION_FILE, {"precision": "bfloat16"})
        ways = {
            "ours, float32": ours(options.model, options.device),
            "ours, bfloat16": ours(half, options.device),
            "pipeline, float32": pipeline(options.model, options.device, torch.float32),
            "pipeline, bfloat16": pipeline(options.model, options.device, torch.bfloat16),
        }
        expected = ours(options.model, "cpu")(texts[:COMPARED])
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for answer in ways.values():
            answer(texts[:WARM])
        for _ in range(options.rounds):
            for way, answer in ways.items():
                started = time.monotonic()
                answer(texts)
                seconds[way].append(time.monotonic() - started)
        for way, answer in ways.items():
            flipped = sum(a != b for a, b in zip(answer(texts[:COMPARED]), expected, strict=True))
            rate = options.rows / statistics.median(seconds[way])
            print(
                f"{way:20} {rate:10,.0f} rows/s  {flipped} of {len(expected)} predictions differ", flush=True
            )


if __name__ == "__main__":
    main()
