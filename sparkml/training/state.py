"""Every tensor that a training goes on with: the same on all ranks, whole in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparkml.distributed.collective import Collective
from sparkml.models.adapt import Adapted
from sparkml.training.pieces import Piece

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
# What a checkpoint has of every parameter, in the parameter's shape.
_SHAPED = ("exp_avg", "exp_avg_sq", "ema", "best")


class TrainingState:
    """The trained parameters with their AdamW moments, the state of the adaptation, averages and best weights.

    `ema` and `best` are copies of the parameters, where a training keeps them; `best_value` is the best metric so far
    and `since_best` the validations since then.
    """

    def __init__(
        self, adapted: Adapted, optimizer: torch.optim.Optimizer, *, with_ema: bool, with_best: bool
    ) -> None:
        self._adapted = adapted
        self._optimizer = optimizer
        self.parameters = adapted.trained_parameters()
        # Running means of batch norms: no gradient moves them, and each rank has seen other rows.
        self.buffers = {
            name: buffer
            for name, buffer in adapted.network.named_buffers()
            if buffer.is_floating_point() and name in adapted.network.state_dict()
        }
        for parameter in self.parameters.values():
            # What the first step would make, so that there is something to load or broadcast into.
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self.ema = self._copy() if with_ema else {}
        self.best = self._copy() if with_best else {}
        self.best_buffers = (
            {name: buffer.clone() for name, buffer in self.buffers.items()} if with_best else {}
        )
        self._adapted_state: dict[str, Tensor] = {}
        self.numbers = torch.tensor([float("nan"), 0.0], dtype=torch.float64)

    @property
    def best_value(self) -> float | None:
        """The best metric so far; None before the first validation."""
        value = float(self.numbers[0])
        return None if value != value else value

    @property
    def since_best(self) -> int:
        """Validations since the best one."""
        return int(self.numbers[1])

    def weights(self) -> dict[str, Tensor]:
        """The trained parameters by name."""
        return {name: parameter.data for name, parameter in self.parameters.items()}

    def others(self) -> dict[str, Tensor]:
        """Everything else by name. What is copied into these tensors counts once `restored` is called."""
        moments = {
            f"{moment}.{name}": self._optimizer.state[parameter][moment]
            for name, parameter in self.parameters.items()
            for moment in _MOMENTS
        }
        kept = {f"ema.{name}": tensor for name, tensor in self.ema.items()}
        kept |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        kept |= {f"best_buffer.{name}": tensor for name, tensor in self.best_buffers.items()}
        self._adapted_state = self._adapted.state()
        adapted = {f"adapted.{name}": tensor for name, tensor in self._adapted_state.items()}
        return {**moments, **kept, **adapted, "numbers": self.numbers}

    def pieces(self, of_parameters: Mapping[str, Piece]) -> dict[str, Piece]:
        """By the names of `weights` and `others`, from those of the parameters."""
        shaped = {f"{kind}.{name}": piece for name, piece in of_parameters.items() for kind in _SHAPED}
        return {**of_parameters, **shaped}

    def restored(self) -> None:
        """The adaptation takes over its part of what was copied into `others`."""
        self._adapted.load_state(self._adapted_state)

    def receive(self, collective: Collective) -> None:
        """Take every tensor from rank 0."""
        for tensor in [*self.weights().values(), *self.others().values()]:
            collective.broadcast_(tensor, 0)
        self.restored()

    def agree(self, collective: Collective) -> None:
        """Buffers become their means over the ranks: after every step, so that a resumed run has the same."""
        if not self.buffers or collective.size == 1:
            return
        parts = list(self.buffers.values())
        together = torch.cat([part.detach().cpu().double().flatten() for part in parts])
        collective.allreduce_(together)
        start = 0
        for part in parts:
            part.copy_(together[start : start + part.numel()].view_as(part) / collective.size)
            start += part.numel()

    def average(self, decay: float) -> None:
        """One step of the exponential moving average."""
        with torch.no_grad():
            for name, tensor in self.ema.items():
                tensor.lerp_(self.parameters[name].data, 1 - decay)

    def swap(self, tensors: dict[str, Tensor]) -> None:
        """Exchange the trained parameters with a copy of them; a second call exchanges them back."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                held = self.parameters[name].data.clone()
                self.parameters[name].data.copy_(tensor)
                tensor.copy_(held)

    def judge(self, value: float, *, higher_is_better: bool) -> bool:
        """Note a validation's metric; True, and the weights are kept, where it is the best so far."""
        best = self.best_value
        better = best is None or (value > best if higher_is_better else value < best)
        if not better:
            self.numbers[1] += 1
            return False
        self.numbers.copy_(torch.tensor([value, 0.0], dtype=torch.float64))
        source = self.ema or self.weights()
        with torch.no_grad():
            for name, tensor in self.best.items():
                tensor.copy_(source[name])
            for name, tensor in self.best_buffers.items():
                tensor.copy_(self.buffers[name])
        return True

    def take_best(self) -> None:
        """Set the trained parameters, and the buffers, to the best ones."""
        self.take(self.best)
        for name, tensor in self.best_buffers.items():
            self.buffers[name].copy_(tensor)

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Set the trained parameters to a copy of them."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                self.parameters[name].data.copy_(tensor)

    def _copy(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
