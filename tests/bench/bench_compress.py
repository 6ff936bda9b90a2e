"""Float against two ways of dynamic int8, on one thread: `python -m tests.bench.bench_compress [HIDDEN LAYERS]`.

Times are CPU seconds of the thread, so that a busy machine disturbs them little. `company` is the largest change
of a document's probabilities when it is scored alone instead of in a batch.
"""

from __future__ import annotations

import copy
import sys
import time
import warnings

import numpy as np
import torch
from sparkml.models.bert import BertClassifier, BertShape, initialise
from torch import nn

from sparkml.inference.scorer import batches_by_length, padded
from sparkml.models.int8 import to_int8

DOCUMENTS, ROUNDS, LABELS = 128, 5, 10


def networks(hidden: int, layers: int) -> dict[str, nn.Module]:
    """The same random classifier in float, in our int8, and in torch's, which has one scale a batch."""
    shape = BertShape(8192, hidden, layers, hidden // 32, 4 * hidden, 128, 1, 0.1, 1e-12, "gelu")
    exact = BertClassifier(shape, LABELS, "mean").eval()
    initialise(exact, seed=0, deviation=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this module moves to torchao
        per_batch = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(exact), {nn.Linear}, dtype=torch.qint8
        )
    return {"float32": exact, "int8 a token": to_int8(copy.deepcopy(exact)), "int8 a batch": per_batch}


def scores(model: nn.Module, rows: list[list[int]]) -> np.ndarray:
    """Probabilities as the scorer computes them."""
    out = np.empty((len(rows), LABELS), dtype=np.float32)
    with torch.inference_mode():
        for members in batches_by_length(rows, 2048):
            out[members] = torch.softmax(model(*padded([rows[index] for index in members])), dim=1).numpy()
    return out


def main() -> None:
    """Print one line a model and a batch size."""
    hidden, layers = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (128, 3)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    lengths = np.clip(random.normal(100, 30, DOCUMENTS), 16, 128).astype(int)
    rows = [random.integers(5, 8192, length).tolist() for length in lengths]
    found = networks(hidden, layers)
    exact = scores(found["float32"], rows)
    for size in (1, 32):
        for name, model in found.items():
            spent = []
            for _ in range(ROUNDS):
                started = time.thread_time()
                for start in range(0, DOCUMENTS, size):
                    scores(model, rows[start : start + size])
                spent.append(time.thread_time() - started)
            together = scores(model, rows)
            alone = np.concatenate([scores(model, [row]) for row in rows[:8]])
            print(
                f"batch {size:2d}  {name:13s} {DOCUMENTS / np.median(spent):8.0f} documents/s"
                f"  error {np.abs(together - exact).max():.4f}  company {np.abs(together[:8] - alone).max():.1e}"
            )


if __name__ == "__main__":
    main()
