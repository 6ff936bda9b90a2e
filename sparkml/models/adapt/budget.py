"""AdaLoRA's budget of ranks (Zhang et al. 2023, https://arxiv.org/abs/2303.10512).

Every update is B diag(E) A. A triplet of it (one singular value with its vectors) is as important as its entries'
smoothed sensitivity |w * gradient| times the smoothed uncertainty of that. The budget, the number of triplets that
stay, falls from the initial rank of every module to the mean target rank along a cubic; what does not fit is zero.

The formulas are those of peft's RankAllocator. It differs in what a training needs beside them: the state is made of
tensors of fixed shapes, so that it can be saved, sent to other ranks and restored; the budget is met exactly where
scores are equal; the last step counts even where no steps follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparkml.errors import ConfigError, InputError

_SMOOTHING = 0.85
ADAPTER = "default"


@dataclass(frozen=True)
class BudgetSchedule:
    """When ranks fall, in steps that are done, and how far."""

    total_steps: int
    first_steps: int
    last_steps: int
    every_steps: int
    target_rank: int

    @classmethod
    def of(
        cls, total_steps: int, *, first: float, last: float, every_steps: int, target_rank: int
    ) -> BudgetSchedule:
        """From shares of the steps; ConfigError when no step is left in which ranks can fall."""
        first_steps, last_steps = round(first * total_steps), round(last * total_steps)
        if total_steps - first_steps - last_steps < 1:
            raise ConfigError(
                "the training is too short for AdaLoRA's shares of its steps",
                got=f"{total_steps} steps, {first_steps} before ranks fall, {last_steps} after",
                expected="at least one step in which ranks fall",
                next_action="train longer, or lower tinit_fraction and tfinal_fraction",
            )
        return cls(total_steps, first_steps, last_steps, every_steps, target_rank)

    @property
    def final_step(self) -> int:
        """Steps after which the ranks do not change any more."""
        return self.total_steps - self.last_steps

    def budget(self, done: int, start: int, target: int) -> int:
        """Triplets that stay after `done` steps."""
        share = (done - self.first_steps) / (self.final_step - self.first_steps)
        return int(target + (start - target) * (1 - min(max(share, 0.0), 1.0)) ** 3)

    def is_due(self, done: int) -> bool:
        """Are ranks allotted anew after `done` steps?"""
        falling = self.first_steps < done < self.final_step
        return done == self.final_step or (falling and done % self.every_steps == 0)


class RankBudget:
    """The triplets of all adapted modules, which of them stay, and what the choice rests on."""

    def __init__(self, layers: dict[str, nn.Module], schedule: BudgetSchedule) -> None:
        self._schedule = schedule
        self._names = list(layers)
        self._a, self._b, self._e = (
            [getattr(layer, part)[ADAPTER] for layer in layers.values()]
            for part in ("lora_A", "lora_B", "lora_E")
        )
        self._tensors: list[nn.Parameter] = [*self._a, *self._b, *self._e]
        self._importance = [torch.zeros_like(tensor) for tensor in self._tensors]
        self._uncertainty = [torch.zeros_like(tensor) for tensor in self._tensors]
        self._masks = [torch.ones_like(tensor) for tensor in self._e]

    def after_step(self, step: int) -> None:
        """Account for a step (from 0) whose gradients are still there; masks what the budget has no room for."""
        done = step + 1
        if done <= self._schedule.final_step:
            self._observe()
        if self._schedule.is_due(done):
            self._allot(done)
        if self._schedule.is_due(done) or done > self._schedule.final_step:
            with torch.no_grad():
                for values, mask in zip(self._e, self._masks, strict=True):
                    values.mul_(mask)

    def orthogonality(self) -> Tensor:
        """Mean distance of A A' and B' B from the identity (Frobenius), over all modules; a scalar."""
        grams = torch.stack([a @ a.T for a in self._a] + [b.T @ b for b in self._b])
        identity = torch.eye(grams.shape[-1], device=grams.device, dtype=grams.dtype)
        distances: Tensor = torch.linalg.matrix_norm(grams - identity)
        return distances.mean()

    def ranks(self) -> dict[str, int]:
        """Triplets that stay, by module."""
        return {name: int(mask.sum()) for name, mask in zip(self._names, self._masks, strict=True)}

    def pattern(self) -> dict[str, list[bool]]:
        """Which triplets stay, in the form of peft's `rank_pattern`."""
        return {
            f"{name}.lora_E": mask.flatten().bool().tolist()
            for name, mask in zip(self._names, self._masks, strict=True)
        }

    def state(self) -> dict[str, Tensor]:
        """The tensors that a training must find again: live ones, of shapes that never change."""
        parts = [f"{name}.{part}" for part in ("A", "B", "E") for name in self._names]
        named = {"importance": self._importance, "uncertainty": self._uncertainty}
        averages = {
            f"{kind}.{part}": tensor
            for kind, tensors in named.items()
            for part, tensor in zip(parts, tensors, strict=True)
        }
        masks = {f"mask.{name}": mask for name, mask in zip(self._names, self._masks, strict=True)}
        return averages | masks

    @torch.no_grad()
    def _observe(self) -> None:
        averages = zip(self._tensors, self._importance, self._uncertainty, strict=True)
        for tensor, importance, uncertainty in averages:
            if tensor.grad is None:
                continue
            sensitivity = (tensor * tensor.grad).abs_()
            importance.mul_(_SMOOTHING).add_(sensitivity, alpha=1 - _SMOOTHING)
            uncertainty.mul_(_SMOOTHING).add_(sensitivity.sub_(importance).abs_(), alpha=1 - _SMOOTHING)

    @torch.no_grad()
    def _allot(self, done: int) -> None:
        scores = torch.cat(self._scores())
        budget = self._schedule.budget(done, len(scores), self._schedule.target_rank * len(self._names))
        # Stable: of triplets that are equally important the first ones stay, on every rank the same.
        kept = torch.argsort(scores, descending=True, stable=True)[:budget]
        stays = torch.zeros_like(scores).index_fill_(0, kept, 1.0)
        for mask, part in zip(
            self._masks, torch.split(stays, [len(mask) for mask in self._masks]), strict=True
        ):
            mask.copy_(part.view_as(mask))

    def _scores(self) -> list[Tensor]:
        """Importance of every triplet, a vector a module: that of E and the means of A's row and B's column."""
        n = len(self._names)
        entries = [
            importance * uncertainty
            for importance, uncertainty in zip(self._importance, self._uncertainty, strict=True)
        ]
        a, b, e = entries[:n], entries[n : 2 * n], entries[2 * n :]
        return [
            e_score.flatten() + a_score.mean(dim=1) + b_score.mean(dim=0)
            for a_score, b_score, e_score in zip(a, b, e, strict=True)
        ]


def fill(state: dict[str, Tensor], values: dict[str, Tensor], what: str) -> None:
    """Copy saved tensors into live ones; InputError unless names and shapes are the same."""
    wrong = sorted(
        name
        for name in state.keys() | values.keys()
        if name not in state or name not in values or state[name].shape != values[name].shape
    )
    if wrong:
        raise InputError(
            f"{what} does not fit the network",
            got=f"missing, unknown or of another shape: {', '.join(wrong[:3])} ({len(wrong)} in all)",
            expected="what a training with the same settings and network has saved",
            next_action="go on with the settings that the training began with, or begin a new one",
        )
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(values[name])
