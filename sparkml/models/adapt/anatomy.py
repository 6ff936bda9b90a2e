"""The parts of a network, for any architecture: embeddings, repeated blocks, head; how far each is from the head."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from transformers.pytorch_utils import Conv1D

LINEAR = (nn.Linear, Conv1D)
_ATTENTION = ("attn", "attention")


class Anatomy:
    """Levels of a network: 0 what comes before the blocks, 1 to n its n blocks, n + 1 what comes after, and the head.

    Blocks are the items of the outermost `ModuleList`s; lists side by side of one length (XLM's
    attentions and feed-forwards) are one stack, lists of different parents (encoder, decoder) follow each other.
    """

    def __init__(self, network: nn.Module, heads: Collection[str]) -> None:
        self.heads = tuple(heads)
        self.blocks = _find_blocks(network, self.heads)
        self.top = len(self.blocks) + 1
        self._levels: dict[str, int] = {}
        done = 0
        for name, _ in network.named_parameters():
            level = self._of_base(name, done)
            done = max(done, level) if level < self.top else done
            for part in _ancestors(name):
                self._levels.setdefault(part, level)

    def level(self, name: str) -> int:
        """Level of a parameter of the base, or of one that was added; what lies nowhere in the base is on top."""
        return next((self._levels[part] for part in _ancestors(name) if part in self._levels), self.top)

    def in_block(self, name: str) -> bool:
        """Is a module or parameter part of a repeated block?"""
        return any(is_under(name, part) for block in self.blocks for part in block)

    def _of_base(self, name: str, done: int) -> int:
        if any(is_under(name, head) for head in self.heads):
            return self.top
        for index, block in enumerate(self.blocks):
            if any(is_under(name, part) for part in block):
                return index + 1
        # Between two stacks: the level of the block before. Behind the last block: beside the head.
        return self.top if done == len(self.blocks) else done


def is_under(name: str, module: str) -> bool:
    """Is a dotted name that of a module, or of something inside it?"""
    return name == module or name.startswith(f"{module}.")


def is_attention(name: str) -> bool:
    """Does a dotted name lead through an attention module?"""
    return any(word in part.lower() for part in name.split(".") for word in _ATTENTION)


def linears(network: nn.Module, anatomy: Anatomy) -> dict[str, nn.Module]:
    """The linear layers of the blocks, in model order, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, LINEAR) and anatomy.in_block(name)
    }


def output_width(module: nn.Module) -> int:
    """Features that a linear layer gives out."""
    return int(module.nf) if isinstance(module, Conv1D) else int(module.out_features)  # type: ignore[arg-type]


def output_layers(network: nn.Module, block: Sequence[str]) -> tuple[list[str], str | None]:
    """The linear layers that end the attentions of a block, and the one that ends its feed-forward.

    An attention ends with its last linear layer; the feed-forward with the last one outside attention that gives
    out as many features. None where a block has no such layer (mixtures of experts, convolutions).
    """
    names = [
        f"{part}.{name}".rstrip(".")
        for part in block
        for name, module in network.get_submodule(part).named_modules()
        if isinstance(module, LINEAR)
    ]
    attentions: dict[str, str] = {}
    for name in names:
        if is_attention(_inside(name, block)):
            attentions[_attention_of(name, block)] = name
    widths = {output_width(network.get_submodule(name)) for name in attentions.values()}
    behind = [
        name
        for name in names
        if not is_attention(_inside(name, block))
        and "expert" not in name
        and output_width(network.get_submodule(name)) in widths
    ]
    return list(attentions.values()), behind[-1] if behind else None


def _inside(name: str, block: Sequence[str]) -> str:
    """The part of a name within its block; a block that is itself an attention counts with its own name."""
    part = next(part for part in block if is_under(name, part))
    if len(block) > 1:
        return name.removeprefix(part.rpartition(".")[0].rpartition(".")[0] + ".")
    return name.removeprefix(f"{part}.")


def _attention_of(name: str, block: Sequence[str]) -> str:
    """The outermost attention module that a linear layer belongs to."""
    parts = _inside(name, block).split(".")
    depth = next(index for index, part in enumerate(parts) if is_attention(part))
    return name[: len(name) - len(".".join(parts[depth + 1 :]))]


def _find_blocks(network: nn.Module, heads: Collection[str]) -> tuple[tuple[str, ...], ...]:
    stacks: dict[tuple[str, int], list[str]] = defaultdict(list)
    taken: list[str] = list(heads)
    for name, module in network.named_modules():
        if any(is_under(name, outer) for outer in taken) or not _is_stack(module):
            continue
        stacks[name.rpartition(".")[0], len(list(module.children()))].append(name)
        taken.append(name)
    return tuple(
        tuple(f"{name}.{index}" for name in names)
        for (_, length), names in stacks.items()
        for index in range(length)
    )


def _is_stack(module: nn.Module) -> bool:
    """A list of modules with parameters; not always of one class (a first layer that differs, mixed layers)."""
    if isinstance(module, ParametrizationList):
        return False
    return isinstance(module, nn.ModuleList) and any(True for _ in module.parameters())


def _ancestors(name: str) -> Iterator[str]:
    """A dotted name and the names of the modules around it, inner ones first."""
    while name:
        yield name
        name = name.rpartition(".")[0]
