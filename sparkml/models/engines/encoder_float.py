"""BERT and its relatives in float32 or bfloat16 on a CPU: few calls, no modules, products by oneDNN with their GELU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn import functional as F

from sparkml.models.engines.layout import EACH, EncoderWeights, Norm

_ROWS_STEP = 16
_BEHIND: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
    "": lambda hidden: hidden,
}


class Encoder:
    """Answers as the network of transformers that the weights are of, called as that is, in the weights' own type."""

    def __init__(self, weights: EncoderWeights) -> None:
        self.weights = replace(weights, blocks=tuple(block.packed() for block in weights.blocks))

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        """`logits` float32 [rows, outputs], or [rows, time, outputs] of a head on each token."""
        rows, time = input_ids.shape
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
        hidden = self.embedded(input_ids, token_type_ids).reshape(rows * time, -1)
        # oneDNN makes code for every number of rows that it meets, which takes as long as several products.
        hidden = F.pad(hidden, (0, 0, 0, -len(hidden) % _ROWS_STEP))
        seen = None if mask is None else mask[:, None, None, :]
        vectors = self.encoded(hidden, rows, time, seen)[: rows * time].view(rows, time, -1)
        return SimpleNamespace(logits=self._head(vectors, mask))

    def embedded(self, ids: Tensor, kinds: Tensor | None) -> Tensor:
        """float32 [rows, time, width]."""
        w = self.weights
        if w.padding is None:
            places = w.positions(torch.arange(ids.shape[1]))
        else:
            real = (ids != w.padding).long()
            places = w.positions(real.cumsum(dim=1) * real + w.padding)
        hidden = w.words(ids).add_(places)
        if w.kinds is not None:
            hidden += w.kinds(torch.zeros(1, dtype=torch.long) if kinds is None else kinds)
        hidden = F.layer_norm(hidden, hidden.shape[-1:], *w.norm, w.epsilon)
        return hidden if w.project is None else w.project.in_floats(hidden)

    def encoded(self, hidden: Tensor, rows: int, time: int, seen: Tensor | None) -> Tensor:
        """float32 of the shape of `hidden`: embedded tokens [rows * time or more, width]; what is more means nothing.

        `seen`: what attention may look at.
        """
        hidden = hidden.to(self.weights.blocks[0].qkv.weight.dtype)
        epsilon = self.weights.epsilon
        for block in self.weights.blocks:
            attended = attention(block.qkv(hidden), rows, time, self.weights.head_size, seen)
            out = block.out(attended).add_(hidden)
            hidden = norm(out, block.norm1, epsilon)
            out = block.down(block.up(hidden, "gelu")).add_(hidden)
            hidden = norm(out, block.norm2, epsilon)
        return hidden.float()

    def _head(self, vectors: Tensor, mask: Tensor | None) -> Tensor:
        """What the task reads of float32 [rows, time, width]."""
        if self.weights.pooling != EACH:
            vectors = vector_of(vectors, mask, self.weights.pooling)
        for layer, then in self.weights.head:
            vectors = _BEHIND[then](layer.in_floats(vectors))
        return vectors


def vector_of(vectors: Tensor, mask: Tensor | None, pooling: str) -> Tensor:
    """[rows, width] of the tokens [rows, time, width], which stand at the beginning of a row where there is a mask.

    `pooling`: `mean`, `max` (of every number), `cls` or `last` (that token).
    """
    if pooling == "cls":
        return vectors[:, 0]
    if pooling == "mean":
        return mean_of(vectors, mask)
    if pooling == "last":
        if mask is None:
            return vectors[:, -1]
        last = mask.long().sum(dim=1).clamp(min=1) - 1
        return vectors[torch.arange(len(vectors), device=vectors.device), last]
    if mask is None:
        return vectors.amax(dim=1)
    return vectors.masked_fill(~mask.bool().unsqueeze(-1), -torch.inf).amax(dim=1)


def mean_of(vectors: Tensor, mask: Tensor | None) -> Tensor:
    """[rows, width]: the mean of [rows, time, width] over the tokens of each row."""
    if mask is None:
        return vectors.mean(dim=1)
    weights = mask.unsqueeze(-1).to(vectors.dtype)
    return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def attention(qkv: Tensor, rows: int, time: int, head_size: int, seen: Tensor | None) -> Tensor:
    """[n, width] of queries, keys and values [n, 3 width], where width is that of all heads and n >= rows * time."""
    tokens, width = rows * time, qkv.shape[1] // 3
    heads = width // head_size
    query, key, value = qkv[:tokens].view(rows, time, 3, heads, head_size).permute(2, 0, 3, 1, 4)
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    out = qkv.new_empty(len(qkv), width)
    out[:tokens].view(rows, time, heads, head_size).copy_(found.transpose(1, 2))
    out[tokens:] = 0
    return out


def norm(hidden: Tensor, by: Norm, epsilon: float) -> Tensor:
    """A layer norm over the last axis."""
    gain, shift = (part.to(hidden.dtype) for part in by)
    return F.layer_norm(hidden, hidden.shape[-1:], gain, shift, epsilon)
