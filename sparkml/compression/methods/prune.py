"""Fewer blocks, channels and heads, or zeros among the weights; what is left is trained again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from sparkml.compression.learning import ZEROS_STAY, LoopOptions, check_whole, trained_from
from sparkml.compression.methods import Given, Method
from sparkml.models.shaping.settings import Shaping, Sparsity

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparkml.models.structure import Importance, Structure

# Tokens of one backward pass that says what parts are worth.
_TOKENS = 2048


class PruneOptions(LoopOptions):
    """Settings of `prune`: one of the first four at least."""

    layers: int | None = Field(None, ge=1, description="Blocks that stay")
    feed_forward: float | None = Field(
        None, gt=0, lt=1, description="Share of the channels of every feed-forward that stays"
    )
    heads: float | None = Field(None, gt=0, lt=1, description="Share of all attention heads that stays")
    sparsity: float | None = Field(
        None, gt=0, lt=1, description="Share of each matrix that becomes zero, the smallest weights"
    )
    which: Literal["spread", "first"] = Field(
        "spread", description="layers: evenly spread from the first to the last, or the first ones"
    )
    by: Literal["gradient", "norm"] | None = Field(
        None,
        description="feed_forward, heads: what they are worth, by the loss of training examples or by the norms of "
        "their weights; null: gradient where the step has a table to train on",
    )
    examples: int = Field(256, ge=1, description="by gradient: training examples that are looked at")
    until: float = Field(
        0.7, gt=0, le=1, description="sparsity: part of the training in which the share rises, by a cubic"
    )
    retrain: bool = Field(True, description="Train what is left; false: at once, as it is")

    @model_validator(mode="after")
    def _takes_something(self) -> PruneOptions:
        if not (self.layers or self.feed_forward or self.heads or self.sparsity):
            raise ValueError("say what goes: layers, feed_forward, heads or sparsity")
        return self


def _apply(given: Given, target: Path, options: PruneOptions, kept: frozenset[str]) -> None:
    import torch

    from sparkml.models.heads import load_trained, save_trained
    from sparkml.models.shaping.sparse import cut, sparse_matrices

    check_whole(given)
    network = load_trained(given.task.network(), given.folder)
    if options.layers or options.feed_forward or options.heads:
        _take_out(network, given, options)
    if options.sparsity and not options.retrain:
        with torch.no_grad():
            for matrix in sparse_matrices(network):
                cut(matrix, options.sparsity)
    save_trained(network, target)
    if options.retrain:
        share = options.sparsity
        sparsity = Sparsity(share=share, until=options.until) if share else ZEROS_STAY
        trained_from(given, target, options, Shaping(sparsity=sparsity))


def _take_out(network: nn.Module, given: Given, options: PruneOptions) -> None:
    from sparkml.models.structure import Structure, spread_blocks

    structure = Structure(network)
    if options.layers:
        structure.keep_blocks(spread_blocks(options.layers, structure.n_blocks, options.which))
    if options.feed_forward:
        structure.keep_channels(options.feed_forward, _worth(structure, network, given, options))
    if options.heads:
        structure.keep_heads(options.heads, _worth(structure, network, given, options))


def _worth(structure: Structure, network: nn.Module, given: Given, options: PruneOptions) -> Importance:
    by = options.by or ("gradient" if given.learning else "norm")
    if by == "norm" or given.learning is None:
        return structure.worth_by_norm()
    return structure.worth_by_gradient(_losses(network, given, given.learning.examples(options.examples)))


def _losses(network: nn.Module, given: Given, examples: Any) -> Iterator[Tensor]:
    """The task's loss on training examples, pass by pass."""
    from sparkml.feed.batches import parts_of
    from sparkml.inference.scorer import rows_of

    samples = given.task.encode(examples, purpose="train").samples
    for part in parts_of(dict(rows_of(samples)), _TOKENS):
        yield given.task.loss(network, given.task.collate(part, None)).total


METHOD = Method(
    "fewer blocks, channels, heads or weights",
    "pruned",
    _apply,
    PruneOptions,
    trains=lambda options: bool(options.retrain),
)
