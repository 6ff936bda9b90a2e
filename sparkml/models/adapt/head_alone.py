"""A frozen network does the same for an example at every step: what its head is given can be computed once.

head = single_head(network, new_modules)             # "classifier"; None where the network has no one head
vectors = HeadInputs(network, head)(**inputs)         # float32 [rows, width], once
HeadAlone(network, head)(features=vectors).logits     # at every step
"""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sparkml.models.adapt.heads import head_names


def single_head(network: nn.Module, new_modules: Collection[str]) -> str | None:
    """The one linear layer that a frozen network would learn; None where there are more, or another kind."""
    names = list(head_names(network, new_modules))
    if len(names) == 1 and isinstance(network.get_submodule(names[0]), nn.Linear):
        return names[0]
    return None


class HeadAlone(nn.Module):
    """The head of a network, by itself: it shares its weights with the network."""

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.head = network.get_submodule(head)

    def forward(self, features: Tensor) -> SimpleNamespace:
        """float32 [rows, width] -> `logits` [rows, outputs]."""
        return SimpleNamespace(logits=self.head(features))


class HeadInputs:
    """What the head of a network is given for a batch."""

    def __init__(self, network: nn.Module, head: str) -> None:
        self._network = network.eval()
        self._given: Tensor | None = None
        network.get_submodule(head).register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._given = arguments[0]

    def __call__(self, **inputs: Tensor) -> Tensor:
        """float32 [rows, width]."""
        with torch.inference_mode():
            self._network(**inputs)
        found = self._given
        if found is None or found.dim() != 2:
            raise ValueError(
                f"the head is given {None if found is None else tuple(found.shape)}, not one vector a row"
            )
        return found.float()
