"""The BERT encoder in plain torch, and a document classifier on it.

Weight names and arithmetic are those of transformers' `BertModel`, so folders can be exchanged with it; the
tests compare the two. Importing transformers' modelling code takes a process 8 s, torch alone 3 s: a scorer
that starts in every worker uses this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparkml.errors import InputError

_ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
POOLINGS = ("mean", "cls")


@dataclass(frozen=True)
class BertShape:
    """What the forward pass needs to know of a config.json."""

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    max_length: int
    segments: int
    dropout: float
    epsilon: float
    activation: str

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> BertShape:
        """Read a transformers BERT configuration; `InputError` for variants that are not implemented here."""
        activation = str(config.get("hidden_act", "gelu"))
        position = str(config.get("position_embedding_type", "absolute"))
        if activation not in _ACTIVATIONS or position != "absolute":
            raise InputError(
                "this kind of BERT is not supported",
                where=where,
                got=f"hidden_act {activation}, position_embedding_type {position}",
                expected=f"hidden_act one of {', '.join(_ACTIVATIONS)}, absolute positions",
            )
        return cls(
            vocab_size=config["vocab_size"],
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            intermediate=config["intermediate_size"],
            max_length=config["max_position_embeddings"],
            segments=config.get("type_vocab_size", 2),
            dropout=config.get("hidden_dropout_prob", 0.1),
            epsilon=config.get("layer_norm_eps", 1e-12),
            activation=activation,
        )


class BertEmbeddings(nn.Module):
    """Word, position and segment vectors, added and normalised."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.word_embeddings: nn.Module = nn.Embedding(shape.vocab_size, shape.hidden)
        self.position_embeddings = nn.Embedding(shape.max_length, shape.hidden)
        self.token_type_embeddings = nn.Embedding(shape.segments, shape.hidden)
        self.LayerNorm = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """[batch, time] token ids -> [batch, time, hidden]."""
        words: Tensor = self.word_embeddings(input_ids)
        places = self.position_embeddings.weight[: input_ids.shape[1]] + self.token_type_embeddings.weight[0]
        normalised: Tensor = self.dropout(self.LayerNorm(words + places))
        return normalised


class SelfAttention(nn.Module):
    """Names of the projections as transformers has them."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.query = nn.Linear(shape.hidden, shape.hidden)
        self.key = nn.Linear(shape.hidden, shape.hidden)
        self.value = nn.Linear(shape.hidden, shape.hidden)
        self._heads = shape.heads
        self._dropout = shape.dropout

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            projection(hidden).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        dropped = self._dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropped)
        return mixed.transpose(1, 2).flatten(2)


class _AddAndNorm(nn.Module):
    """Project, drop, add the residual, normalise."""

    def __init__(self, width: int, shape: BertShape) -> None:
        super().__init__()
        self.dense: nn.Module = nn.Linear(width, shape.hidden)
        self.LayerNorm = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        normalised: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return normalised


class _Attention(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.self: nn.Module = SelfAttention(shape)
        self.output = _AddAndNorm(shape.hidden, shape)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        added: Tensor = self.output(self.self(hidden, mask), hidden)
        return added


class _Intermediate(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.dense: nn.Module = nn.Linear(shape.hidden, shape.intermediate)
        self._approximate = _ACTIVATIONS[shape.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden), approximate=self._approximate)


class BertLayer(nn.Module):
    """One block: attention and feed-forward, each followed by a residual and a layer norm."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.attention = _Attention(shape)
        self.intermediate = _Intermediate(shape)
        self.output = _AddAndNorm(shape.intermediate, shape)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[batch, time, hidden] -> the same; `mask` is [batch, 1, 1, time], true where a token is."""
        attended = self.attention(hidden, mask)
        added: Tensor = self.output(self.intermediate(attended), attended)
        return added


class _Stack(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(shape) for _ in range(shape.layers))


class BertEncoder(nn.Module):
    """The encoder without a head."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = BertEmbeddings(shape)
        self.encoder = _Stack(shape)

    def layers(self) -> list[BertLayer]:
        """The blocks in order."""
        return [layer for layer in self.encoder.layer if isinstance(layer, BertLayer)]

    def forward(self, input_ids: Tensor, token_mask: Tensor) -> Tensor:
        """[batch, time] ids and a boolean mask of real tokens -> [batch, time, hidden]."""
        hidden: Tensor = self.embeddings(input_ids)
        mask = token_mask[:, None, None, :]
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask)
        return hidden


class BertClassifier(nn.Module):
    """A linear head on the pooled encoder: the mean over the real tokens, or the [CLS] vector.

    A document longer than the encoder reads at once is cut into windows; the mean is over the tokens of all of them,
    the [CLS] vector that of the first.
    """

    def __init__(self, shape: BertShape, n_labels: int, pooling: str) -> None:
        super().__init__()
        self.bert = BertEncoder(shape)
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.hidden, n_labels)
        self._mean = pooling == "mean"

    def forward(self, input_ids: Tensor, token_mask: Tensor) -> Tensor:
        """[batch, time] ids and a boolean mask of real tokens -> [batch, n_labels] logits."""
        if self._mean:
            pooled = self._summed(input_ids, token_mask) / token_mask.sum(dim=1, keepdim=True)
        else:
            window = self.bert.shape.max_length
            pooled = self.bert(input_ids[:, :window], token_mask[:, :window])[:, 0]
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits

    def _summed(self, input_ids: Tensor, token_mask: Tensor) -> Tensor:
        """The sum of the vectors of the real tokens: [batch, time] -> [batch, hidden]."""
        rows, time = input_ids.shape
        window = self.bert.shape.max_length
        if time <= window:
            return _sum_of_tokens(self.bert(input_ids, token_mask), token_mask)
        windows = -(-time // window)
        missing = (0, windows * window - time)
        ids = F.pad(input_ids, missing).reshape(-1, window)
        mask = F.pad(token_mask, missing).reshape(-1, window)
        used = mask.any(dim=1).nonzero().squeeze(1)  # short documents leave windows of padding alone
        sums = _sum_of_tokens(self.bert(ids[used], mask[used]), mask[used])
        return sums.new_zeros(rows, sums.shape[1]).index_add(0, used // windows, sums)


def _sum_of_tokens(hidden: Tensor, token_mask: Tensor) -> Tensor:
    return (hidden * token_mask.unsqueeze(-1).to(hidden.dtype)).sum(dim=1)


def initialise(module: nn.Module, seed: int, deviation: float = 0.02) -> None:
    """BERT's random weights: normal with the given deviation, biases 0, layer norms 1.

    The global random state is left as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, (nn.Linear, nn.Embedding)):
                part.weight.normal_(0.0, deviation, generator=generator)
            if isinstance(part, nn.Linear) and part.bias is not None:
                part.bias.zero_()
            if isinstance(part, nn.LayerNorm):
                part.reset_parameters()
