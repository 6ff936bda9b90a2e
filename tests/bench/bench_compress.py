"""What methods of compression make of a classifier, each form beside the float one, under every engine that runs it.

    python -m tests.bench.bench_compress --model DIR [--recipes "int8_dynamic;bf16;int8_static;onnx"] [--rounds 5]

`--model`: a directory that the stage `finetune` made, with its held-out examples. Recipes are separated by `;`, methods
of one by `>`. All forms take turns on one thread; medians count. `quality` is the task's main figure on all held-out
examples, `flips` the answers that differ from the float model's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from sparkml.compression.candidates import Candidate, Measuring, candidates_of
from sparkml.compression.gate import GateSettings
from sparkml.compression.measure import TimingPlan
from sparkml.compression.methods import MethodChoice
from sparkml.models.held_out import read_held_out
from tests.forms import given_of

RECIPES = "int8_dynamic;int8_static;bf16;weight_only;onnx"


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512, help="examples that are timed in batches")
    return parser.parse_args()


def line(one: Candidate, first: Candidate) -> str:
    """Figures, and how they compare with the float form's."""
    flips = f"{one.verdict.flips:8.2%}" if one.verdict else f"{'':8}"
    quality = one.quality.judged.value
    memory = (one.memory_bytes or 0) / 1e6
    rates = ", ".join(f"{name} {speed.documents_per_second:,.0f}" for name, speed in one.engines.items())
    speed, before = one.speed, first.speed
    smaller = first.size_bytes / one.size_bytes
    faster = speed.documents_per_second / before.documents_per_second
    return (
        f"{one.form.name:32}{quality:9.4f}{flips}{one.size_bytes / 1e6:9.1f}{smaller:6.1f}x{memory:9.0f}"
        f"{speed.latency_p50_ms:8.2f}{speed.latency_p95_ms:8.2f}{speed.documents_per_second:9.0f}{faster:6.2f}x"
        f"{speed.core_seconds_per_1000:8.2f}  {rates}"
    )


def main() -> None:
    """Print a line a form."""
    options = parse()
    examples = read_held_out(options.model)
    recipes = [
        [MethodChoice(name=name.strip()) for name in recipe.split(">")]
        for recipe in options.recipes.split(";")
    ]
    plan = TimingPlan(latency_documents=100, throughput_documents=options.rows, rounds=options.rounds)
    with tempfile.TemporaryDirectory() as name:
        measuring = Measuring(examples, GateSettings(), plan, 17)
        found = candidates_of(given_of(options.model, examples), "finetuned", recipes, measuring, Path(name))
    print(f"{len(examples)} held-out examples, one thread, median of {options.rounds}")
    heads = ("quality", "flips", "MB", "", "peak MB", "p50 ms", "p95 ms", "rows/s", "", "s/1000")
    widths = (9, 8, 9, 7, 9, 8, 8, 9, 7, 8)
    print(
        f"{'':32}"
        + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
        + "  rows/s by engine"
    )
    for one in found:
        print(line(one, found[0]))


if __name__ == "__main__":
    main()
