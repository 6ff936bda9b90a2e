"""The training loop: plain torch, one process or many, CPU or GPU.

Equal settings, data and number of ranks give equal weights, bit for bit on one machine: masks and dropout are
drawn from (seed, step, rank), so a run that went on from a checkpoint ends where an undisturbed one does.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparkml.distributed.collective import Collective
from sparkml.distributed.reporter import Reporter
from sparkml.errors import TrainingError
from sparkml.feed.batches import MicroBatch, micro_batches
from sparkml.feed.manifest import Manifest
from sparkml.feed.plan import epoch_plan, steps_per_epoch
from sparkml.feed.reader import Reader, open_reader
from sparkml.log import get_logger
from sparkml.models.encoder import build_masked_lm
from sparkml.training.checkpoint import Checkpoints, Position, fill_moments, load_checkpoint, training_state
from sparkml.training.curves import Curves
from sparkml.training.gradients import FlatGradients
from sparkml.training.masking import mask_tokens
from sparkml.training.objective import held_out_loss, masked_loss_sum
from sparkml.training.schedule import learning_rate
from sparkml.training.settings import LoopSettings, TrainingJob
from sparkml.training.start import start_bias, start_embeddings

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

_log = get_logger(__name__)

_MASKS, _DROPOUT = 11, 12
# The first steps warm caches and allocators up; they are not measured.
_UNMEASURED_STEPS = 5
_SMOOTHED_STEPS = 20
# Tokens that are counted for the weights to start from: seconds of work.
_COUNTED_TOKENS = 1 << 21


@dataclass
class Measured:
    """Sums over the measured steps of this process; tokens are those of all ranks."""

    steps: int = 0
    tokens: float = 0.0
    seconds: float = 0.0
    feed_seconds: float = 0.0

    def add(self, tokens: float, seconds: float, feed_seconds: float) -> None:
        """One more step."""
        self.steps += 1
        self.tokens += tokens
        self.seconds += seconds
        self.feed_seconds += feed_seconds

    def summary(self) -> dict[str, float]:
        """Rates and means; nothing where no step was measured."""
        if not self.steps:
            return {}
        return {
            "tokens_per_second": self.tokens / self.seconds,
            "step_ms": 1000 * self.seconds / self.steps,
            "feed_wait_ms": 1000 * self.feed_seconds / self.steps,
        }


class Trainer:
    """One rank of a training."""

    def __init__(self, job: TrainingJob, vocab_size: int, collective: Collective, reporter: Reporter) -> None:
        self._job = job
        self._settings: LoopSettings = job.settings
        self._vocab_size = vocab_size
        self._collective = collective
        self._reporter = reporter
        self._train: Manifest = job.train_manifest.read()
        self._reader: Reader = open_reader(job.reader, self._train.sequence_length)
        self._device = _device(collective.local_rank)
        self.model: BertForMaskedLM = build_masked_lm(job.settings.shape, vocab_size, job.settings.seed)
        self.model.to(self._device)  # type: ignore[arg-type]  # transformers' wrapper loses the signature
        self._gradients = FlatGradients(self.model, n_sums=3)
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(self.model, self._settings.weight_decay),
            lr=self._settings.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            fused=True,
        )
        fill_moments(self.model, self._optimizer)
        self._checkpoints = Checkpoints(job.run_folder, self._settings.keep_checkpoints)
        self._held_out = self._validation_batches(job.validation_manifest.read())

    def run(self) -> dict[str, float]:
        """Train from the last checkpoint to the last step; returns what was measured."""
        first_step = self._resume()
        measured, recent = Measured(), deque[float](maxlen=_SMOOTHED_STEPS)
        with self._curves(first_step) as curves:
            values = self._validate() if first_step >= self._settings.max_steps else {}
            for step, batch, feed_seconds in self._steps(first_step):
                started = time.monotonic()
                loss, tokens, rate = self._step(step, batch)
                seconds = time.monotonic() - started + feed_seconds
                recent.append(loss)
                if step - first_step >= _UNMEASURED_STEPS:
                    measured.add(tokens, seconds, feed_seconds)
                values = {"train_loss": loss, "learning_rate": rate, "tokens_per_second": tokens / seconds}
                values |= (
                    self._validate() if self._is_due(step, self._settings.validation_every_steps) else {}
                )
                self._tell(curves, step + 1, values)
                if self._is_due(step, self._settings.checkpoint_every_steps):
                    self._checkpoint(curves, step + 1)
        held_out = {name: value for name, value in values.items() if name.startswith("validation_")}
        summary = {"steps": float(self._settings.max_steps), "resumed_from_step": float(first_step)}
        train_loss = {"train_loss": sum(recent) / len(recent)} if recent else {}
        return {**summary, **train_loss, **held_out, **measured.summary()}

    def _steps(self, first_step: int) -> Iterator[tuple[int, MicroBatch, float]]:
        """The steps that are left, each with its batch and the seconds that were waited for it."""
        batches = self._batches(first_step)
        with closing(batches):
            for step in range(first_step, self._settings.max_steps):
                started = time.monotonic()
                batch = next(batches)
                yield step, batch, time.monotonic() - started

    def _batches(self, first_step: int) -> Generator[MicroBatch, None, None]:
        """Micro batches for ever, epoch after epoch, from a step on."""
        size, micro_batch = self._collective.size, self._settings.micro_batch
        epoch, skipped = divmod(first_step, steps_per_epoch(self._train, size, micro_batch))
        while True:
            plan = epoch_plan(
                self._train,
                epoch=epoch,
                seed=self._settings.seed,
                world_size=size,
                micro_batch=micro_batch,
            )
            yield from micro_batches(
                self._reader,
                plan,
                rank=self._collective.rank,
                sequence_length=self._train.sequence_length,
                first_step=skipped,
            )
            epoch, skipped = epoch + 1, 0

    def _step(self, step: int, batch: MicroBatch) -> tuple[float, float, float]:
        """One optimiser step on all ranks; returns mean loss, tokens of all ranks, learning rate."""
        settings = self._settings
        rate = learning_rate(
            step,
            peak=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            max_steps=settings.max_steps,
            decay=settings.decay,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_draw(_DROPOUT, settings.seed, step, self._collective.rank))
        rng = np.random.default_rng([_MASKS, settings.seed, step, self._collective.rank])
        masked = mask_tokens(batch.input_ids, self._vocab_size, settings.mask_fraction, rng)
        self._gradients.zero()
        self.model.train()
        loss = masked_loss_sum(self.model, masked, self._device)
        if len(masked.positions):
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        sums: list[Tensor | float] = [
            loss.detach(),
            float(len(masked.positions)),
            float(batch.input_ids.size),
        ]
        loss_sum, n_masked, tokens = self._gradients.sum_over_ranks(self._collective, sums)
        # The mean over all masked tokens of all ranks, however unevenly a short last batch spread them.
        norm = self._gradients.scale_and_clip(1 / max(n_masked, 1.0), settings.gradient_clip)
        if not math.isfinite(norm):
            raise _diverged(step, loss_sum / max(n_masked, 1.0))
        self._optimizer.step()
        return loss_sum / max(n_masked, 1.0), tokens, rate

    def _validation_batches(self, manifest: Manifest) -> list[MicroBatch]:
        """This rank's part of the held-out rows, at most `validation_rows` of all ranks; kept in memory."""
        size, micro_batch = self._collective.size, self._settings.micro_batch
        if manifest.rows < size:
            return []
        plan = epoch_plan(
            manifest, epoch=0, seed=self._settings.seed, world_size=size, micro_batch=micro_batch
        )
        batches = micro_batches(
            self._reader,
            plan,
            rank=self._collective.rank,
            sequence_length=manifest.sequence_length,
            stop_step=-(-self._settings.validation_rows // (size * micro_batch)),
        )
        return list(batches)

    def _validate(self) -> dict[str, float]:
        if not self._held_out:
            return {}
        return held_out_loss(
            self.model,
            self._held_out,
            vocab_size=self._vocab_size,
            mask_fraction=self._settings.mask_fraction,
            seed=self._settings.seed,
            device=self._device,
            collective=self._collective,
        )

    def _resume(self) -> int:
        """Rank 0 reads the last checkpoint; the others get its state from it. Returns the steps done."""
        step = torch.zeros(1, dtype=torch.int64)
        if self._collective.rank == 0:
            latest = self._checkpoints.latest()
            if latest is not None:
                step[0] = load_checkpoint(latest, self.model, self._optimizer, self._position(0))
                _log.info("going on from %s", latest)
            else:
                self._start()
        self._collective.broadcast_(step, 0)
        for tensor in training_state(self.model, self._optimizer):
            self._collective.broadcast_(tensor, 0)
        return int(step)

    def _start(self) -> None:
        """Weights of a training that begins."""
        rows = self._first_rows(_COUNTED_TOKENS // self._train.sequence_length)
        start_bias(self.model, rows)
        if self._settings.embedding_start == "spectral":
            start_embeddings(self.model, rows, self._settings.seed)

    def _first_rows(self, limit: int) -> NDArray[np.int32]:
        """Shuffled training rows [at most `limit`, time]."""
        n_rows = max(1, min(limit, self._train.rows))
        plan = epoch_plan(self._train, epoch=0, seed=self._settings.seed, world_size=1, micro_batch=n_rows)
        (batch,) = micro_batches(
            self._reader, plan, rank=0, sequence_length=self._train.sequence_length, stop_step=1
        )
        return batch.input_ids

    def _position(self, step: int) -> Position:
        return Position(
            step=step,
            world_size=self._collective.size,
            micro_batch=self._settings.micro_batch,
            seed=self._settings.seed,
            manifest_id=self._train.manifest_id,
        )

    def _checkpoint(self, curves: Curves | None, step: int) -> None:
        if curves is not None:
            curves.flush()
            self._checkpoints.save(self.model, self._optimizer, self._position(step))

    def _curves(self, first_step: int) -> AbstractContextManager[Curves | None]:
        if self._collective.rank != 0:
            return nullcontext()
        return Curves(
            run_folder=self._job.run_folder,
            tensorboard_folder=self._job.tensorboard_folder,
            mlflow_uri=self._job.mlflow_uri,
            mlflow_store=self._job.mlflow_store,
            run_name=self._job.run_name,
            parameters=self._settings.model_dump(mode="json", exclude={"shape"})
            | self._settings.shape.model_dump(mode="json")
            | {"ranks": self._collective.size, "manifest_id": self._train.manifest_id},
            first_step=first_step,
        )

    def _tell(self, curves: Curves | None, step: int, values: dict[str, float]) -> None:
        self._reporter.progress(step, self._settings.max_steps, **values)
        if curves is not None:
            curves.add(step, values)

    def _is_due(self, step: int, every_steps: int) -> bool:
        return (step + 1) % every_steps == 0 or step + 1 == self._settings.max_steps


def _parameter_groups(model: BertForMaskedLM, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices; none for biases and the scales of the normalisations."""
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    plain = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _device(local_rank: int) -> torch.device:
    """The GPU of a rank among those that this process sees, else the CPU.

    Where Spark gave GPUs to the task, it sees those alone; else all of its host, which the host's ranks share out.
    """
    n_gpus = torch.cuda.device_count()
    return torch.device("cuda", local_rank % n_gpus) if n_gpus else torch.device("cpu")


def _draw(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def _diverged(step: int, loss: float) -> TrainingError:
    return TrainingError(
        "the training diverged: gradients are not finite",
        where=f"step {step}",
        got=f"loss {loss:g}",
        next_action="lower train.learning_rate or raise train.warmup_fraction",
    )
