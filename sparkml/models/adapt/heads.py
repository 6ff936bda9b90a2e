"""Modules that a pretrained folder lacked: which they are, and their first weights, drawn from a seed alone."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization

from sparkml.errors import ConfigError
from sparkml.models.adapt.anatomy import is_under

# transformers' mark of a tensor that has its weights already.
_LOADED = "_is_hf_initialized"


@contextmanager
def drawn_from(seed: int, purpose: str) -> Iterator[None]:
    """Random numbers of the CPU follow `seed` and `purpose` inside, and go on afterwards as if nothing had been."""
    before = torch.get_rng_state()
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
    # Not `torch.manual_seed`: it would set the generators of all accelerators too.
    torch.default_generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
    try:
        yield
    finally:
        torch.set_rng_state(before)


def head_names(network: nn.Module, names: Collection[str]) -> tuple[str, ...]:
    """Modules by name, in model order, without those that lie inside another one; parameters stand for their module.

    ConfigError for a name that the network does not have.
    """
    first = _first_names(network)
    # A parameter that is tied to another one (the bias of BERT's output layer) goes by the first of its names.
    names = {first.get(name, name) for name in names}
    wanted = {_module_of(network, name, names) for name in names}
    outer = {name for name in wanted if not any(name != one and is_under(name, one) for one in wanted)}
    return tuple(name for name, _ in network.named_modules() if name in outer)


def start_heads(network: nn.Module, new: Collection[str], seed: int) -> None:
    """Draw the first weights of new modules anew, as the architecture does it, from the seed and their names."""
    for name in new:
        head = network.get_submodule(name)
        # An output layer that is tied to the embeddings is not the head's own: it has its weights.
        own = [parameter for given, parameter in network.named_parameters() if is_under(given, name)]
        with drawn_from(seed, name), torch.no_grad(), _only_new(network, [*own, *head.buffers()]):
            for parameter in own:
                parameter.fill_(math.nan)
            _draw(network, name)
            _draw_rest(head, type(network).__name__)


def _first_names(network: nn.Module) -> dict[str, str]:
    """By every name of a parameter the first one that it has."""
    first = {id(parameter): name for name, parameter in network.named_parameters()}
    every = network.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every}


@contextmanager
def _only_new(network: nn.Module, own: Sequence[Tensor]) -> Iterator[None]:
    """Mark all tensors but a head's own as loaded: transformers draws no weights that bear the mark."""
    new = {id(tensor) for tensor in own}
    tensors = [*network.parameters(), *network.buffers()]
    before = [getattr(tensor, _LOADED, None) for tensor in tensors]
    for tensor in tensors:
        setattr(tensor, _LOADED, id(tensor) not in new)
    try:
        with initialization.guard_torch_init_functions():
            yield
    finally:
        for tensor, mark in zip(tensors, before, strict=True):
            setattr(tensor, _LOADED, bool(mark) or id(tensor) in new)


def _draw(network: nn.Module, name: str) -> None:
    """What the architecture says of the module and its parts, then of the modules around it (ModernBERT's way)."""
    draw: Callable[[nn.Module], None] | None = getattr(network, "_init_weights", None)
    if draw is None:
        return
    for part in network.get_submodule(name).modules():
        draw(part)
    while name:
        name = name.rpartition(".")[0]
        draw(network.get_submodule(name))


def _draw_rest(head: nn.Module, architecture: str) -> None:
    """What the architecture left is drawn as torch does it."""
    for part in head.modules():
        own = list(part.parameters(recurse=False))
        if not any(bool(parameter.isnan().any()) for parameter in own):
            continue
        reset: Callable[[], None] | None = getattr(part, "reset_parameters", None)
        if reset is None:
            raise ConfigError(
                "nothing says what the first weights of a new module are",
                where=architecture,
                got=type(part).__name__,
                expected="a network of transformers, or modules with reset_parameters()",
            )
        reset()


def _module_of(network: nn.Module, name: str, names: Collection[str]) -> str:
    modules = dict(network.named_modules())
    if name in modules and name:
        return name
    owner, _, last = name.rpartition(".")
    own = dict(modules[owner].named_parameters(recurse=False)) if owner in modules else {}
    if last in own and owner and all(f"{owner}.{other}" in names for other in own):
        return owner
    children = ", ".join(child for child, _ in network.named_children())
    if last in own:
        raise ConfigError(
            "a module is new in part only",
            where=type(network).__name__,
            got=name,
            expected=f"all parameters of {owner or 'the network'}: {', '.join(own)}",
            next_action="load the pretrained folder into the network that fits it",
        )
    raise ConfigError(
        "the network has no such module",
        where=type(network).__name__,
        got=name,
        expected=f"a module by its full name; the outer ones are {children}",
        next_action="correct train_head",
    )
