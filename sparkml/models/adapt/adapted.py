"""A network that is being adapted: what is trained of it, at which rate, from when, and what a checkpoint must hold."""

from __future__ import annotations

import copy
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparkml.errors import ConfigError
from sparkml.models.adapt.anatomy import Anatomy
from sparkml.models.adapt.budget import RankBudget, fill
from sparkml.models.adapt.low_rank import BASE_PREFIX
from sparkml.models.adapt.settings import LOW_RANK, MERGEABLE, AdaptSettings

_COPY_OF_HEAD = ".original_module."


class Companion(Protocol):
    """What goes on beside the steps of a training. It keeps nothing that a checkpoint would have to hold."""

    def before_step(self, step: int) -> None:
        """Before the forward pass of a step (from 0)."""
        ...

    def after_step(self, step: int) -> None:
        """After the optimiser's step."""
        ...

    def finish(self) -> None:
        """When the weights are chosen that the training gives."""
        ...


class Adapted:
    """What `adapt` gives: the network to train, and what the training must know of it.

    Parameters form groups by level (distance from the head) and by whether weight decay applies; without layer decay
    and gradual unfreezing there is one level.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: AdaptSettings,
        anatomy: Anatomy,
        *,
        epoch_steps: int,
        budget: RankBudget | None = None,
    ) -> None:
        self.network = network
        self.settings = settings
        self.anatomy = anatomy
        self._epoch_steps = epoch_steps
        self._budget = budget
        self._trained = {
            name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad
        }
        self._n_trained = sum(parameter.numel() for parameter in self._trained.values())
        self._groups = self._grouped()
        self._companions: list[Companion] = []
        norms = [] if settings.method == "full" else _frozen_norms(network)
        self._as_they_are = [*norms, *self._below_the_last_layers()]

    @property
    def heads(self) -> tuple[str, ...]:
        """Modules that are trained in full beside the adaptation, by their names in the base network."""
        return self.anatomy.heads

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained at some time, by name, in model order."""
        return dict(self._trained)

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, from the first to the last."""
        prefix = BASE_PREFIX if self.settings.method in LOW_RANK else ""
        names = (name for block in self.anatomy.blocks for name in block)
        return [self.network.get_submodule(f"{prefix}{name}") for name in names]

    def accompany(self, companion: Companion) -> None:
        """Something more is to go on beside the steps."""
        self._companions.append(companion)

    def hold(self, parameters: dict[str, nn.Parameter]) -> None:
        """What is trained is in these from now on: of each parameter the part that this rank has."""
        self._trained = {name: parameters[name] for name in self._trained}

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimiser; the scheduled rate of a group is to be multiplied with its `scale`.

        Every group has `params`, `names` (in model order), `lr`, `weight_decay` (0 for biases and norms), `scale`.
        """
        groups = []
        for (level, decayed), names in self._groups.items():
            scale = self.settings.layer_decay ** (self.anatomy.top - level)
            groups.append(
                {
                    "params": [self._trained[name] for name in names],
                    "names": list(names),
                    "lr": learning_rate * scale,
                    "weight_decay": weight_decay if decayed else 0.0,
                    "scale": scale,
                }
            )
        return groups

    def frozen_at(self, epoch: float) -> set[int]:
        """Indices of the groups that gradual unfreezing has not reached at a time in epochs (from 0)."""
        lowest = self._lowest_level(epoch)
        return {index for index, (level, _) in enumerate(self._groups) if level < lowest}

    def train(self) -> None:
        """Training mode, but for frozen batch norms, which keep their means, and blocks that are never adapted."""
        self.network.train()
        for module in self._as_they_are:
            module.eval()

    def before_step(self, step: int) -> None:
        """To be called before the forward pass of a step (from 0): what is still frozen costs no gradients."""
        for companion in self._companions:
            companion.before_step(step)
        if self.settings.unfreeze_epochs is None:
            return
        lowest = self._lowest_level(step / self._epoch_steps)
        for (level, _), names in self._groups.items():
            for name in names:
                self._trained[name].requires_grad_(level >= lowest)

    def after_step(self, step: int) -> None:
        """To be called after the optimiser's step (from 0), while the gradients, equal on all ranks, are there."""
        if self._budget is not None:
            self._budget.after_step(step)
        for companion in self._companions:
            companion.after_step(step)

    def finish(self) -> None:
        """To be called when the network has the weights that the training gives."""
        for companion in self._companions:
            companion.finish()

    def extra_loss(self) -> Tensor | None:
        """A term to add to the mean loss of a batch: AdaLoRA's, which keeps singular vectors orthogonal."""
        if self._budget is None or self.settings.orthogonal_weight == 0:
            return None
        return self._budget.orthogonality() * self.settings.orthogonal_weight

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside trained parameters and optimiser: live tensors, always the same names."""
        saved = self.network.state_dict()
        buffers = {f"buffer.{name}": buffer for name, buffer in self.network.named_buffers() if name in saved}
        return buffers | (self._budget.state() if self._budget is not None else {})

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave; InputError when it is another network's."""
        fill(self.state(), state, "the state of the checkpoint")

    def ranks(self) -> dict[str, int]:
        """AdaLoRA: the rank of every adapted module, by its name in the base network; else nothing."""
        return self._budget.ranks() if self._budget is not None else {}

    def rank_pattern(self) -> dict[str, list[bool]]:
        """AdaLoRA: which singular values stay, as peft names them; else nothing."""
        return self._budget.pattern() if self._budget is not None else {}

    def facts(self) -> dict[str, float]:
        """Trained and all parameters; AdaLoRA's smallest, mean and largest rank (`ranks` has all)."""
        every = (
            parameter.numel()
            for name, parameter in self.network.named_parameters()
            if _COPY_OF_HEAD not in name
        )
        facts = {
            "trainable_parameters": float(self._n_trained),
            "total_parameters": float(sum(every)),
        }
        if ranks := list(self.ranks().values()):
            facts |= {
                "rank_min": float(min(ranks)),
                "rank_mean": sum(ranks) / len(ranks),
                "rank_max": float(max(ranks)),
            }
        return facts

    def merged(self) -> nn.Module:
        """The network with the adaptation folded in: for low ranks a copy, for full and frozen the network itself."""
        if self.settings.method not in MERGEABLE:
            raise ConfigError(
                f"the method {self.settings.method} cannot be folded into the weights of its base",
                expected=f"one of the methods {', '.join(sorted(MERGEABLE))}",
                next_action="set merge to false: the adaptation is then written beside a reference to its base",
            )
        if self.settings.method not in LOW_RANK:
            return self.network
        network: nn.Module = copy.deepcopy(self.network).merge_and_unload()  # type: ignore[operator]  # a PeftModel
        return network

    def _lowest_level(self, epoch: float) -> int:
        """The lowest level that is trained at a time in epochs."""
        if self.settings.unfreeze_epochs is None:
            return 0
        return self.anatomy.top - int(epoch / self.settings.unfreeze_epochs)

    def _below_the_last_layers(self) -> list[nn.Module]:
        """The largest modules that lie below the adapted blocks with all that they hold."""
        wanted = self.settings.last_layers
        if wanted is None or self.settings.method not in LOW_RANK:
            return []
        lowest = len(self.anatomy.blocks) - wanted + 1
        levels: dict[str, int] = {}
        for name, _ in self.network.named_parameters():
            level = self.anatomy.level(self._base_name(name))
            while name := name.rpartition(".")[0]:
                levels[name] = max(levels.get(name, 0), level)
        below = {name for name, level in levels.items() if level < lowest}
        return [
            self.network.get_submodule(name)
            for name in levels
            if name in below and name.rpartition(".")[0] not in below
        ]

    def _grouped(self) -> dict[tuple[int, bool], list[str]]:
        by_level = self.settings.layer_decay != 1 or self.settings.unfreeze_epochs is not None
        groups: dict[tuple[int, bool], list[str]] = {}
        for name, parameter in self._trained.items():
            level = self.anatomy.level(self._base_name(name)) if by_level else self.anatomy.top
            decayed = parameter.dim() > 1 and not name.endswith("bias")
            groups.setdefault((level, decayed), []).append(name)
        return dict(sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1])))

    def _base_name(self, name: str) -> str:
        return name.removeprefix(BASE_PREFIX) if self.settings.method in LOW_RANK else name


def _frozen_norms(network: nn.Module) -> list[nn.Module]:
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and not any(part.requires_grad for part in module.parameters())
    ]
