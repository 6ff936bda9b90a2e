"""Dynamic int8: weights in 8 bits on disk and in memory, activations quantised a token at a time.

Weights are symmetric with one scale an output channel, activations symmetric with one scale a token, products
are summed in int32 by oneDNN (AVX512-VNNI where the CPU has it). A token's scale does not depend on the other
documents of its batch, unlike that of `torch.ao.quantization.quantize_dynamic` and of onnxruntime's
`quantize_dynamic`, which take one scale for the whole batch: there a document's scores change with its
neighbours. Embedding tables have one scale a row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparkml.models.bert import BertClassifier, SelfAttention

_LEVELS = 127.0
_SMALLEST = 1e-12


def quantise_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, width] float -> int8 of the same shape and one float scale a row: values = int8 * scale."""
    scale = values.abs().amax(dim=1).div_(_LEVELS).clamp_min_(_SMALLEST)
    return torch.mul(values, scale.reciprocal().unsqueeze(1)).round_().to(torch.int8), scale


class Int8Linear(nn.Module):
    """y = x W' + b with int8 W [out, in] and int8 x."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_out, n_in, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(n_out))
        self.register_buffer("bias", torch.zeros(n_out))

    @classmethod
    def of(cls, *linears: nn.Linear) -> Int8Linear:
        """One layer for one or more float layers that share their input."""
        weight = torch.cat([linear.weight.detach() for linear in linears])
        quantised = cls(weight.shape[1], weight.shape[0])
        quantised.weight, quantised.scale = quantise_rows(weight)
        quantised.bias = torch.cat([linear.bias.detach() for linear in linears]).clone()
        return quantised

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] float -> [..., out] float."""
        rows, scale = quantise_rows(hidden.reshape(-1, hidden.shape[-1]))
        products = torch._int_mm(rows, self.weight.t()).float().mul_(scale.unsqueeze(1))
        return torch.addcmul(self.bias, products, self.scale).reshape(*hidden.shape[:-1], -1)


class Int8Embedding(nn.Module):
    """A table of int8 rows."""

    weight: Tensor
    scale: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(rows, width, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(rows))

    @classmethod
    def of(cls, table: nn.Embedding) -> Int8Embedding:
        """Quantise a float table."""
        quantised = cls(*table.weight.shape)
        quantised.weight, quantised.scale = quantise_rows(table.weight.detach())
        return quantised

    def forward(self, index: Tensor) -> Tensor:
        """[...] row numbers -> [..., width] float."""
        return F.embedding(index, self.weight).float().mul_(self.scale[index].unsqueeze(-1))


class Int8SelfAttention(nn.Module):
    """Self-attention whose three projections are one int8 layer: their common input is quantised once."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.projection = Int8Linear(hidden, 3 * hidden)
        self._heads = heads

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[batch, time, hidden] -> [batch, time, hidden]."""
        projected = self.projection(hidden).unflatten(-1, (3, self._heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


def to_int8(model: BertClassifier) -> BertClassifier:
    """Make the encoder's linear layers and word table int8, in place; the small head stays float."""
    encoder = model.bert
    words = encoder.embeddings.word_embeddings
    if not isinstance(words, nn.Embedding):
        raise TypeError(f"expected a float model, got a word table of type {type(words).__name__}")
    encoder.embeddings.word_embeddings = Int8Embedding.of(words)
    for layer in encoder.layers():
        attention = layer.attention.self
        if not isinstance(attention, SelfAttention):
            raise TypeError(f"expected a float model, got attention of type {type(attention).__name__}")
        quantised = Int8SelfAttention(encoder.shape.hidden, encoder.shape.heads)
        quantised.projection = Int8Linear.of(attention.query, attention.key, attention.value)
        layer.attention.self = quantised
        for part in (layer.attention.output, layer.intermediate, layer.output):
            part.dense = _int8(part.dense)
    return model.eval()


def _int8(module: nn.Module) -> Int8Linear:
    if not isinstance(module, nn.Linear):
        raise TypeError(f"expected a float linear layer, got {type(module).__name__}")
    return Int8Linear.of(module)
