"""The training loop of every task: plain torch, one process or many, CPU or GPU.

Equal settings, data and number of ranks give equal weights, bit for bit on one machine: what is drawn follows from the
seed, the step and the sample (dropout: the rank), so a run that went on from a checkpoint ends where an undisturbed one
does. On another number of ranks a step has the same samples, masked alike; dropout and the rounding of sums differ.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparkml.distributed.collective import Collective
from sparkml.distributed.reporter import Reporter
from sparkml.errors import TrainingError
from sparkml.log import get_logger
from sparkml.models.adapt import Adapted
from sparkml.models.adapt.head_alone import HeadAlone
from sparkml.tasks.task import Batch, Task
from sparkml.training.curves import Curves
from sparkml.training.diverged import diverged
from sparkml.training.feeding import FedStep, TrainingFeed, data_rank
from sparkml.training.measured import StepClock
from sparkml.training.resumption import Resumption
from sparkml.training.schedule import learning_rate
from sparkml.training.settings import TrainingJob
from sparkml.training.spread import Spread, Whole, recompute_blocks
from sparkml.training.state import TrainingState
from sparkml.training.validation import HeldOut

_log = get_logger(__name__)

_DROPOUT = 12
_SMOOTHED_STEPS = 20
# Metrics of which less is better; of all others more is.
_LOWER_IS_BETTER = ("loss", "perplexity", "rmse", "mae")


class Trainer:
    """One rank of a training."""

    def __init__(
        self, job: TrainingJob, task: Task[Any], adapted: Adapted, collective: Collective, reporter: Reporter
    ) -> None:
        self._job, self._settings = job, job.loop
        self._task = task
        self._adapted = adapted
        self._collective = collective
        self._reporter = reporter
        self._device = device_of(collective.local_rank)
        self._feed = TrainingFeed(job, task, data_rank(collective, job.spread), self._device)
        self.total_steps = job.loop.steps(self._feed.epoch_steps)
        self.network: nn.Module = adapted.network
        self.spread = self._spread()
        groups = adapted.parameter_groups(job.loop.learning_rate, job.loop.weight_decay)
        self._optimizer = torch.optim.AdamW(
            groups, lr=job.loop.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True
        )
        self._gradients = self.spread.gradients
        self._clock = StepClock(self._device)
        self.state = TrainingState(
            adapted,
            self._optimizer,
            with_ema=job.loop.ema_decay > 0,
            with_best=bool(job.loop.best_metric),
        )
        self._resumption = Resumption(
            job, self.state, self.spread, collective, self._feed.manifest.manifest_id
        )
        self._held_out = HeldOut(job, task, collective)

    def _spread(self) -> Spread:
        job, network = self._job, self.network
        if job.spread.activation_checkpointing:
            recompute_blocks(network)
        if job.spread.parallel == "data":
            network.to(self._device)
            called = HeadAlone(network, self._adapted.heads[0]) if job.on_features else network
            forward = torch.compile(called) if job.loop.compile else called
            return Whole(network, forward, self._collective, job.loop.gradient_type)
        from sparkml.training.in_parts import InParts  # a second of imports that few trainings need

        return InParts(
            self._adapted,
            job.spread,
            self._collective,
            self._reporter,
            self._device,
            self._feed.one_sample().to(self._device),
            lower=self._is_lower,
        )

    def run(self) -> dict[str, float]:
        """Train from the last checkpoint to the end; returns what was measured. The network is then in eval mode."""
        first_step = self._resumption.resume()
        recent = deque[float](maxlen=_SMOOTHED_STEPS)
        done = first_step
        values: dict[str, float] = {}
        with self._resumption, self._curves(first_step) as curves:
            last_step = first_step if self._is_patience_out() else self.total_steps
            if first_step >= last_step:
                values = self._validate()
            for fed, started in self._steps(first_step, last_step):
                step = fed.number
                loss, tokens, rate = self._step(fed)
                seconds = time.monotonic() - started
                recent.append(loss)
                self._clock.end(step - first_step, tokens, seconds)
                done = step + 1
                values = {"train_loss": loss, "learning_rate": rate, "tokens_per_second": tokens / seconds}
                ends = False
                if self._is_due(step, self._settings.validation_every_steps):
                    values |= self._validate()
                    ends = self._judged(values)
                self._tell(curves, done, values)
                if ends or self._is_due(step, self._job.checkpoint_every_steps):
                    if curves is not None:
                        curves.flush()
                    self._resumption.save(done)
                if ends:
                    _log.info("step %d: no better %s since long; ends", done, self._settings.best_metric)
                    break
        if self._finish():
            values |= self._validate(averaged=False)
        held_out = {name: value for name, value in values.items() if name.startswith("validation_")}
        train_loss = {"train_loss": sum(recent) / len(recent)} if recent else {}
        speed = self._clock.summary(self.network, self._collective.size)
        summary = {"steps": float(done), "resumed_from_step": float(first_step)}
        if self._resumption.failures:
            summary["failed_checkpoints"] = float(self._resumption.failures)
        return {**summary, **train_loss, **held_out, **speed, **self._adapted.facts()}

    def _finish(self) -> bool:
        """Take the weights that are kept: the best, else the averaged, else the last; True where these are others."""
        best = self.state.best_value is not None
        if best:
            self.state.take_best()
        else:
            self.state.take(self.state.ema)
        self._adapted.finish()
        self.network.eval()
        return best

    def _steps(self, first_step: int, last_step: int) -> Iterator[tuple[FedStep, float]]:
        """The steps that are left, each with the time at which it began to wait for its samples."""
        with closing(self._feed.steps(first_step, last_step)) as steps:
            for step in range(first_step, last_step):
                started = time.monotonic()
                self._clock.begin(step - first_step)
                with self._clock.part("feed"):
                    fed = next(steps)
                yield fed, started

    def _step(self, fed: FedStep) -> tuple[float, float, float]:
        """One optimiser step on all ranks; returns mean loss, tokens of all ranks, learning rate."""
        step = fed.number
        rate = self._set_rates(step)
        torch.manual_seed(_draw(_DROPOUT, self._job.seed, step, self._collective.rank))
        self._gradients.zero()
        self._adapted.train()
        self._adapted.before_step(step)
        sums = torch.zeros(3, dtype=torch.float64)
        passes = list(self.spread.even(len(fed.parts), fed.parts))
        for number, (part, counts) in enumerate(passes, start=1):
            if number == len(passes):
                self._gradients.last_pass()
            sums += self._backward(part, counts=counts)
        own_loss = float(sums[0])
        with self._clock.part("allreduce"):
            loss_sum, units, tokens = self._gradients.sum_over_ranks(sums.tolist())
        with self._clock.part("optimizer"):
            # The mean over all units of all ranks, however unevenly a short last batch spread them.
            self._freeze(step)
            norm = self._gradients.scale_and_clip(1 / max(units, 1.0), self._settings.gradient_clip)
            if not math.isfinite(norm):
                raise diverged(
                    self._job,
                    self._feed.manifest,
                    fed,
                    self._collective.rank,
                    own_loss,
                    loss_sum / max(units, 1.0),
                )
            self._optimizer.step()
            self._adapted.after_step(step)
            self.state.agree(self._collective)
            self.state.average(self._settings.ema_decay)
        return loss_sum / max(units, 1.0), tokens, rate

    def _backward(self, part: Batch, *, counts: bool) -> Tensor:
        """Gradients of one forward pass; returns loss, units and tokens: nothing of one that does not count."""
        with self._clock.part("forward"):
            batch = part.to(self._device)
            total, loss, units = self.spread.call(self._loss, batch)
        if not counts:
            total = total * 0
        if units or not self.spread.is_whole:
            with self._clock.part("backward"):
                self.spread.backward(total)
        found = torch.tensor([float(loss), units, batch.tokens], dtype=torch.float64)
        return found if counts else found * 0

    def _loss(self, network: Any, batch: Batch) -> tuple[Tensor, Tensor, float]:
        """What is descended, the task's part of it, and its units."""
        with self._autocast():
            loss = self._task.loss(network, batch)
            extra = self._adapted.extra_loss()
        total = loss.total if extra is None else loss.total + extra * loss.units
        return total, loss.total.detach(), loss.units

    def _set_rates(self, step: int) -> float:
        settings = self._settings
        rate = learning_rate(
            step,
            peak=settings.learning_rate,
            warmup_steps=round(settings.warmup_fraction * self.total_steps),
            max_steps=self.total_steps,
            decay=settings.decay,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        return rate

    def _freeze(self, step: int) -> None:
        """Gradual unfreezing: blocks that are still frozen learn nothing from the step."""
        epoch = step / self._feed.epoch_steps
        for number in self._adapted.frozen_at(epoch):
            group = self._optimizer.param_groups[number]
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad.zero_()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_lower)

    @property
    def _is_lower(self) -> bool:
        wanted = self._settings.precision
        return wanted == "bfloat16" or (wanted == "auto" and self._device.type == "cuda")

    def _validate(self, *, averaged: bool = True) -> dict[str, float]:
        """Means over the held-out rows of all ranks, of the averaged weights where there are some."""
        if averaged:
            self.state.swap(self.state.ema)
        self.network.eval()
        with torch.no_grad(), self._autocast():
            values = self._held_out.values(self.spread, self._device)
        if averaged:
            self.state.swap(self.state.ema)
        return values

    def _judged(self, values: dict[str, float]) -> bool:
        """Keep the best weights; True where it is time to end."""
        metric = self._settings.best_metric
        if not metric or not self._held_out.batches:
            return False
        value = values.get(f"validation_{metric}")
        if value is None:
            names = sorted(
                name.removeprefix("validation_") for name in values if name.startswith("validation_")
            )
            raise TrainingError(
                "there is no such metric", got=f"best_metric {metric}", expected=", ".join(names)
            )
        self.state.judge(value, higher_is_better=metric not in _LOWER_IS_BETTER)
        return self._is_patience_out()

    def _is_patience_out(self) -> bool:
        """True also of a training that goes on from the checkpoint with which it ended."""
        return 0 < self._settings.patience <= self.state.since_best

    def _curves(self, first_step: int) -> AbstractContextManager[Curves | None]:
        if self._collective.rank != 0:
            return nullcontext()
        return Curves(
            run_folder=self._job.run_folder,
            tensorboard_folder=self._job.tensorboard_folder,
            mlflow_uri=self._job.mlflow_uri,
            mlflow_store=self._job.mlflow_store,
            run_name=self._job.run_name,
            parameters=self._settings.model_dump(mode="json")
            | {"task": self._task.name, "adapt": self._job.adapt.method}
            | {"ranks": self._collective.size, "manifest_id": self._feed.manifest.manifest_id},
            first_step=first_step,
        )

    def _tell(self, curves: Curves | None, step: int, values: dict[str, float]) -> None:
        self._reporter.progress(step, self.total_steps, **values)
        if curves is not None:
            curves.add(step, values)

    def _is_due(self, step: int, every_steps: int) -> bool:
        return (step + 1) % every_steps == 0 or step + 1 == self.total_steps


def device_of(local_rank: int) -> torch.device:
    """The GPU of a rank among those that this process sees, else the CPU.

    Where Spark gave GPUs to the task, it sees those alone; else all of its host, which the host's ranks share out.
    """
    n_gpus = torch.cuda.device_count()
    return torch.device("cuda", local_rank % n_gpus) if n_gpus else torch.device("cpu")


def _draw(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
