"""The training loop of the classifier: one process, plain torch, no Spark.

Equal input, budget, seed and number of threads give equal weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from sparkml.errors import TrainingError
from sparkml.inference.scorer import TOKEN_BUDGET, batches_by_length, padded
from sparkml.models.bert import BertClassifier

_GRADIENT_NORM = 1.0
# Batches of one shuffled pool are filled by length: less padding, and the order stays random at large.
_POOL_BATCHES = 16


@dataclass(frozen=True)
class Budget:
    """What a training may use. `warmup_fraction` is of all steps; `learning_rate` the peak."""

    max_steps: int
    max_epochs: int
    batch_size: int
    learning_rate: float
    warmup_fraction: float
    weight_decay: float
    seed: int

    def steps(self, documents: int) -> int:
        """Optimiser steps for so many documents."""
        a_epoch = -(-documents // self.batch_size)
        return min(self.max_steps, self.max_epochs * a_epoch)


@dataclass(frozen=True)
class LabelledTokens:
    """Token ids with [CLS] and [SEP], and the index of the label, document by document."""

    input_ids: Sequence[Sequence[int]]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class CurvePoint:
    """One optimiser step; `held_out_accuracy` where it was measured."""

    step: int
    loss: float
    learning_rate: float
    held_out_accuracy: float | None = None


def train_classifier(
    model: BertClassifier,
    train: LabelledTokens,
    probe: LabelledTokens,
    budget: Budget,
    on_step: Callable[[CurvePoint], None],
) -> list[CurvePoint]:
    """Train in place by cross-entropy with AdamW; `probe` is scored at five points of the way."""
    steps = budget.steps(len(train.labels))
    optimiser = _optimiser(model, budget)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _linear_schedule(steps, budget.warmup_fraction))
    curve: list[CurvePoint] = []
    probed = {steps * part // 5 for part in range(1, 6)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(budget.seed)
        model.train()
        for step, members in enumerate(_epochs(train, steps, budget), start=1):
            rate = float(schedule.get_last_lr()[0])
            loss = _step(model, optimiser, train, members)
            schedule.step()
            accuracy = _accuracy(model, probe) if step in probed and len(probe.labels) else None
            curve.append(CurvePoint(step, loss, rate, accuracy))
            on_step(curve[-1])
    model.eval()
    return curve


def predict(model: BertClassifier, input_ids: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The most likely label index of each document, in the order given."""
    predicted = np.empty(len(input_ids), dtype=np.int64)
    model.eval()
    with torch.inference_mode():
        for members in batches_by_length(input_ids, TOKEN_BUDGET):
            logits = model(*padded([input_ids[index] for index in members]))
            predicted[members] = logits.argmax(dim=1).numpy()
    return predicted


def _step(
    model: BertClassifier, optimiser: torch.optim.Optimizer, train: LabelledTokens, members: NDArray[np.int64]
) -> float:
    logits = model(*padded([train.input_ids[index] for index in members]))
    loss = F.cross_entropy(logits, torch.from_numpy(train.labels[members]))
    value = float(loss.detach())
    if not np.isfinite(value):
        raise TrainingError(
            "the loss of the classifier is no number any more",
            got=str(value),
            next_action="lower finetune.learning_rate",
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), _GRADIENT_NORM)
    optimiser.step()
    return value


def _accuracy(model: BertClassifier, probe: LabelledTokens) -> float:
    accuracy = float((predict(model, probe.input_ids) == probe.labels).mean())
    model.train()
    return accuracy


def _optimiser(model: nn.Module, budget: Budget) -> torch.optim.AdamW:
    # Biases and layer norms are not decayed (Devlin et al. 2019).
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    plain = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": budget.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=budget.learning_rate)


def _linear_schedule(steps: int, warmup_fraction: float) -> Callable[[int], float]:
    warmup = max(1, round(steps * warmup_fraction))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup))

    return factor


def _epochs(train: LabelledTokens, steps: int, budget: Budget) -> Iterator[NDArray[np.int64]]:
    """`steps` batches of document indices; each epoch is another permutation of all documents."""
    lengths = np.array([len(row) for row in train.input_ids])
    done, epoch = 0, 0
    while done < steps:
        random = np.random.default_rng((budget.seed, epoch))
        for batch in _batches(random.permutation(len(lengths)), lengths, budget.batch_size, random):
            if done == steps:
                return
            yield batch
            done += 1
        epoch += 1


def _batches(
    order: NDArray[np.int64], lengths: NDArray[np.int64], size: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    batches = []
    for start in range(0, len(order), size * _POOL_BATCHES):
        pool = order[start : start + size * _POOL_BATCHES]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[first : first + size] for first in range(0, len(pool), size)]
    return [batches[index] for index in random.permutation(len(batches))]
