"""Where the time of a training goes, on this rank."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from sparkml.training.stragglers import PARTS

# The first steps warm caches and allocators up; they are not measured.
UNMEASURED_STEPS = 5
# A GPU works behind the program's back: to see the parts of a step it has to be waited for, so few steps are looked at.
_LOOKED_AT_ON_GPU = 20
# Dense floating-point operations a second in bfloat16, by a part of the device's name; from the makers' data sheets.
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10G": 70e12, "L4": 121e12}


@dataclass
class StepClock:
    """Seconds of the parts of the steps that were measured.

    `allreduce` is what is waited for the other ranks after the backward pass, not what travels during it.
    """

    device: torch.device
    steps: int = 0
    tokens: float = 0.0
    seconds: float = 0.0
    looked_at: int = 0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    _step: dict[str, float] = field(default_factory=dict)
    _looks: bool = False

    def begin(self, number: int) -> None:
        """A step begins, the `number`th of this run."""
        self._step = {}
        self._looks = self.device.type != "cuda" or number % _LOOKED_AT_ON_GPU == 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs inside is that part of the step."""
        started = self._now()
        yield
        self._step[name] = self._step.get(name, 0.0) + self._now() - started

    def _now(self) -> float:
        if self._looks and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def end(self, number: int, tokens: float, seconds: float) -> None:
        """The step is done; `tokens` are those of all ranks, `seconds` include the feed."""
        if number < UNMEASURED_STEPS:
            return
        self.steps += 1
        self.tokens += tokens
        self.seconds += seconds
        if self._looks:
            self.looked_at += 1
            for name, value in self._step.items():
                self.parts[name] += value

    def summary(self, network: nn.Module, ranks: int) -> dict[str, float]:
        """Rates and means; nothing where no step was measured."""
        if not self.steps or not self.looked_at:
            return {}
        parts = {f"{name}_ms": 1000 * value / self.looked_at for name, value in self.parts.items()}
        found = {
            "tokens_per_second": self.tokens / self.seconds,
            "step_ms": 1000 * self.seconds / self.steps,
            **parts,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        if self.device.type == "cuda":
            found["peak_gpu_mb"] = torch.cuda.max_memory_allocated(self.device) / (1 << 20)
            peak = _peak_of(torch.cuda.get_device_name(self.device))
            if peak:
                rate = self.tokens / self.seconds / ranks
                found["mfu"] = rate * operations_per_token(network) / peak
        return found


def operations_per_token(network: nn.Module) -> float:
    """Floating-point operations of a training step for one token: six for every weight that multiplies.

    Kaplan et al. 2020 (arXiv:2001.08361); attention's products of tokens with tokens are left out, so a share of the
    peak that follows from it is a lower bound. Embeddings are looked up, unless they are the output layer, too.
    """
    looked_up = {module.weight for module in network.modules() if isinstance(module, nn.Embedding)} - {
        module.weight for module in network.modules() if isinstance(module, nn.Linear)
    }
    return 6.0 * sum(p.numel() for p in network.parameters() if p not in looked_up and p.dim() > 1)


def _peak_of(name: str) -> float:
    return next((peak for part, peak in _PEAKS.items() if part in name), 0.0)
