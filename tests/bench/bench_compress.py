"""Float against two ways of dynamic int8, on one thread: `python -m tests.bench.bench_compress [HIDDEN LAYERS]`.

Times are CPU seconds of the thread, so that a busy machine disturbs them little. `company` is the largest change
of a document's probabilities when it is scored alone instead of in a batch.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sparkml.inference.scorer import Scorer
from sparkml.models.inputs import TextInputs
from sparkml.models.int8 import to_int8
from sparkml.tasks.texts import as_bytes
from tests.bench.classifiers import MAX_LENGTH, random_classifier

DOCUMENTS, ROUNDS, VOCABULARY = 128, 5, 8192
# The documents are token ids already: nothing is tokenised, and there is no tokenizer.
INPUTS = TextInputs(
    tokenizer_json="",
    pad_id=0,
    mask_id=4,
    cls_id=2,
    sep_id=3,
    special_ids=(0, 1, 2, 3, 4),
    vocab_size=VOCABULARY,
    longest=MAX_LENGTH,
    segments=False,
)


def scorers(hidden: int, layers: int) -> dict[str, Scorer]:
    """The same random classifier in float, in our int8, and in torch's, which has one scale a batch."""
    with tempfile.TemporaryDirectory() as folder:
        task, exact = random_classifier(
            Path(folder), INPUTS, hidden=hidden, layers=layers, heads=hidden // 32, deviation=0.05
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this module moves to torchao
        per_batch = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(exact), {nn.Linear}, dtype=torch.qint8
        )
    found = {"float32": exact, "int8 a token": to_int8(copy.deepcopy(exact)), "int8 a batch": per_batch}
    return {name: Scorer(task, network) for name, network in found.items()}


def scores(scorer: Scorer, rows: list[list[int]]) -> npt.NDArray[np.float32]:
    """Probabilities as the scorer computes them, float32 [rows, labels]."""
    samples = {
        "input_ids": np.array([as_bytes(row) for row in rows], dtype=object),
        "n_tokens": np.array([len(row) for row in rows]),
    }
    return np.stack(scorer.outputs(samples))


def main() -> None:
    """Print one line a model and a batch size."""
    hidden, layers = (int(word) for word in sys.argv[1:3]) if len(sys.argv) > 2 else (128, 3)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    lengths = np.clip(random.normal(100, 30, DOCUMENTS), 16, MAX_LENGTH).astype(int)
    rows = [random.integers(5, VOCABULARY, length).tolist() for length in lengths]
    found = scorers(hidden, layers)
    exact = scores(found["float32"], rows)
    for size in (1, 32):
        for name, scorer in found.items():
            spent = []
            for _ in range(ROUNDS):
                started = time.thread_time()
                for start in range(0, DOCUMENTS, size):
                    scores(scorer, rows[start : start + size])
                spent.append(time.thread_time() - started)
            together = scores(scorer, rows)
            alone = np.concatenate([scores(scorer, [row]) for row in rows[:8]])
            print(
                f"batch {size:2d}  {name:13s} {DOCUMENTS / np.median(spent):8.0f} documents/s"
                f"  error {np.abs(together - exact).max():.4f}  company {np.abs(together[:8] - alone).max():.1e}"
            )


if __name__ == "__main__":
    main()
