"""Which linear layers of a block are cut, and how, for ranks that compute it together.

What an attention and a feed-forward begin with is cut by its outputs, so that each rank has whole heads; what they end
with by its inputs, and the ranks add up what it gives (Shoeybi et al. 2019, arXiv:1909.08053). Two sums a block in the
forward pass, two in the backward pass. transformers says it for many decoders; for encoders built like BERT it follows
from the shape of the block. What lies outside the blocks stays whole.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from sparkml.errors import ConfigError
from sparkml.models.adapt import Adapted
from sparkml.models.adapt.anatomy import Anatomy, is_under, output_layers

# Built like BERT, with one layer each for queries, keys and values, and heads counted from what the layers give.
_LIKE_BERT = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "vit")
_STYLES = {"colwise": ColwiseParallel, "rowwise": RowwiseParallel}


def split_blocks(adapted: Adapted, mesh: DeviceMesh) -> None:
    """Cut the blocks of a network over the ranks of a mesh; ConfigError where it is not known how."""
    network: Any = adapted.network
    if adapted.settings.method not in ("full", "frozen"):
        raise _refusal(f"adapt.method {adapted.settings.method}", "full or frozen")
    _check_heads(network.config, mesh.size())
    plan = _said_by_transformers(network) or _like_bert(network, adapted.anatomy)
    parallelize_module(network, mesh, plan)


def _said_by_transformers(network: Any) -> dict[str, ParallelStyle]:
    base = network.base_model
    said: dict[str, str] = getattr(base.config, "base_model_tp_plan", None) or {}
    unknown = sorted(set(said.values()) - _STYLES.keys())
    if unknown:
        raise _refusal(
            f"{network.config.model_type}: {', '.join(unknown)}", "layers that are cut by rows or columns"
        )
    prefix = next(name for name, module in network.named_modules() if module is base)
    return {f"{prefix}.{name}".lstrip("."): _STYLES[kind]() for name, kind in said.items()}


def _like_bert(network: Any, anatomy: Anatomy) -> dict[str, ParallelStyle]:
    kind = network.config.model_type
    if kind not in _LIKE_BERT:
        raise _refusal(kind, f"one of {', '.join(_LIKE_BERT)}, or one for which transformers has a plan")
    plan: dict[str, ParallelStyle] = {}
    for block in anatomy.blocks:
        attentions, feed_forward = output_layers(network, block)
        ends = [*attentions, *([feed_forward] if feed_forward else [])]
        for name in _linears(network, block):
            plan[name] = RowwiseParallel() if name in ends else ColwiseParallel()
    return plan


def _linears(network: nn.Module, block: tuple[str, ...]) -> list[str]:
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(is_under(name, part) for part in block)
    ]


def _check_heads(config: Any, ranks: int) -> None:
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        number = getattr(config, name, None)
        if number is not None and number % ranks:
            raise _refusal(f"{name} {number} over {ranks} ranks", "a multiple of tensor_ranks")


def _refusal(got: str, expected: str) -> ConfigError:
    return ConfigError(
        "the blocks of this network cannot be computed by several ranks together",
        got=got,
        expected=expected,
        next_action="set tensor_ranks=1: parallel=fsdp alone splits any network",
    )
