"""The weights of BERT's relatives under one set of names, read without transformers, whose import takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sparkml.errors import InputError
from sparkml.models.engines.layers import Linear, Table
from sparkml.models.folder import (
    CONFIG_FILE,
    HEAD_FILE,
    INT8_FOLDER,
    PACKED_FOLDER,
    WEIGHTS_FILE,
    check_folder,
    read_json,
)
from sparkml.models.networks import NetworkSpec, check_model
from sparkml.models.onednn import packed
from sparkml.models.packed import read_packed

Norm = tuple[Tensor, Tensor]  # gain and shift
EACH = "each"  # of the tokens has an answer of its own


@dataclass(frozen=True)
class Family:
    """How an architecture calls its layers. `head`: the layers behind the first token, and what follows each."""

    prefix: str
    head: tuple[tuple[str, str], ...]
    block: str = "encoder.layer.{}."
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    norm1: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm2: str = "output.LayerNorm"
    n_heads: str = "num_attention_heads"
    n_blocks: str = "num_hidden_layers"
    activation: str = "hidden_act"
    channels: str = "intermediate_size"
    positions_from_padding: bool = False


_roberta = partial(
    Family, head=(("classifier.dense", "tanh"), ("classifier.out_proj", "")), positions_from_padding=True
)
FAMILIES = {
    "bert": Family("bert.", (("bert.pooler.dense", "tanh"), ("classifier", ""))),
    "roberta": _roberta("roberta."),
    "xlm-roberta": _roberta("roberta."),
    "camembert": _roberta("roberta."),
    "electra": Family("electra.", (("classifier.dense", "gelu"), ("classifier.out_proj", ""))),
    "distilbert": Family(
        "distilbert.",
        (("pre_classifier", "relu"), ("classifier", "")),
        "transformer.layer.{}.",
        "attention.q_lin",
        "attention.k_lin",
        "attention.v_lin",
        "attention.out_lin",
        "sa_layer_norm",
        "ffn.lin1",
        "ffn.lin2",
        "output_layer_norm",
        "n_heads",
        "n_layers",
        "activation",
        "hidden_dim",
    ),
}


@dataclass(frozen=True)
class Block:
    """One block: attention (query, key and value in one matrix), feed-forward, and two norms.

    That matrix is [3 heads x head_size, width]: heads that pruning has made zeros are left out.
    """

    qkv: Linear
    out: Linear
    norm1: Norm
    up: Linear
    down: Linear
    norm2: Norm

    @property
    def layers(self) -> tuple[Linear, Linear, Linear, Linear]:
        """Those that multiply."""
        return self.qkv, self.out, self.up, self.down

    def packed(self) -> Block:
        """The same with weights that lie as products want them."""
        qkv, out, up, down = (replace(layer, weight=packed(layer.weight)) for layer in self.layers)
        return replace(self, qkv=qkv, out=out, up=up, down=down)

    def in_float32(self) -> Block:
        """The same in float32."""
        qkv, out, up, down = (layer.in_float32() for layer in self.layers)
        return replace(self, qkv=qkv, out=out, up=up, down=down)


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder with the head of a task."""

    words: Table
    positions: Table
    kinds: Table | None
    norm: Norm
    project: Linear | None
    blocks: tuple[Block, ...]
    # As `vector_of` has it, or `each`; then layers, each with what follows it: none where the vector is the answer.
    pooling: str
    head: tuple[tuple[Linear, str], ...]
    head_size: int
    epsilon: float
    # The id of padding where positions are counted from it on, as RoBERTa does.
    padding: int | None

    def in_float32(self) -> EncoderWeights:
        """The same with all layers of the blocks in float32."""
        return replace(self, blocks=tuple(block.in_float32() for block in self.blocks))


def why_not(spec: NetworkSpec, config: dict[str, Any]) -> str:
    """Why a network is none that `read_encoder` reads; empty where it is one."""
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        return f"model_type {config.get('model_type')!r} is none of {', '.join(FAMILIES)}"
    if config.get(family.activation, "gelu") != "gelu":
        return f"{family.activation} {config[family.activation]!r} is not gelu"
    if config.get("position_embedding_type", "absolute") != "absolute":
        return f"position_embedding_type {config['position_embedding_type']!r} is not absolute"
    if config.get("is_decoder") or config.get("add_cross_attention"):
        return "it is a decoder"
    if _pooling(spec) is None:
        return f"{spec.head} is no head of it"
    return ""


def _pooling(spec: NetworkSpec) -> str | None:
    if spec.head == "AutoModel" and (spec.vector or spec.pooling == "mean"):
        return spec.pooling
    return {"AutoModelForSequenceClassification": "cls", "AutoModelForTokenClassification": EACH}.get(
        spec.head
    )


def _head_of(spec: NetworkSpec, family: Family) -> tuple[tuple[str, str], ...]:
    """The layers behind what is pooled, by name, each with what follows it."""
    if spec.vector:
        return ()
    return family.head if spec.head == "AutoModelForSequenceClassification" else (("classifier", ""),)


def read_encoder(spec: NetworkSpec, folder: str | Path) -> EncoderWeights:
    """The weights of a trained model directory, mapped into memory: float32, bfloat16 or int8, as they lie there.

    InputError where some are missing.
    """
    path = Path(folder)
    config = read_json(path / CONFIG_FILE)
    reason = why_not(spec, config)
    if reason:
        raise InputError("not a network of this engine", where=str(path), got=reason)
    family = FAMILIES[config["model_type"]]
    read = _Reader(_state(path), family.prefix, str(path))
    width = read.linear(family.block.format(0) + family.out).weight.shape[1]
    head_size = width // config[family.n_heads]
    return EncoderWeights(
        words=read.table("word_embeddings"),
        positions=read.table("position_embeddings"),
        kinds=read.table("token_type_embeddings") if read.has("embeddings.token_type_embeddings") else None,
        norm=read.norm("embeddings.LayerNorm"),
        project=read.linear("embeddings_project").in_float32() if read.has("embeddings_project") else None,
        blocks=tuple(_block(read, family, number, head_size) for number in range(config[family.n_blocks])),
        pooling=_pooling(spec) or "",
        head=tuple((read.head(name), then) for name, then in _head_of(spec, family)),
        head_size=head_size,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        padding=int(config.get("pad_token_id") or 0) if family.positions_from_padding else None,
    )


def _state(path: Path) -> dict[str, Tensor]:
    """All weights by name, wherever they lie in the directory; those of our head as `classifier`."""
    if (path / INT8_FOLDER).is_dir():
        return load_file(check_folder(path / INT8_FOLDER, WEIGHTS_FILE) / WEIGHTS_FILE)
    if (path / PACKED_FOLDER).is_dir():
        return read_packed(check_folder(path / PACKED_FOLDER, WEIGHTS_FILE))
    files = [file for file in sorted(check_model(path).glob("*.safetensors")) if file.name != HEAD_FILE]
    state = {name: tensor for file in files for name, tensor in load_file(file).items()}
    head = load_file(path / HEAD_FILE) if (path / HEAD_FILE).is_file() else {}
    return state | {f"classifier.{name}": tensor for name, tensor in head.items()}


def _block(read: _Reader, family: Family, number: int, head_size: int) -> Block:
    within = family.block.format(number)
    query, key, value = (read.linear(within + name) for name in (family.query, family.key, family.value))
    if len({query.input_scale, key.input_scale, value.input_scale}) > 1:
        raise InputError(
            "query, key and value have one input and different scales of it",
            where=within,
            next_action="compress the model again",
        )
    out = read.linear(within + family.out)
    stay = _living(value, out, head_size)
    if not stay.all():
        query, key, value = (layer.rows(stay) for layer in (query, key, value))
        out = replace(out, weight=out.weight[:, stay].contiguous())
    together = Linear(
        torch.cat([query.weight, key.weight, value.weight]),
        torch.cat([query.bias, key.bias, value.bias]),
        None
        if query.scale is None or key.scale is None or value.scale is None
        else torch.cat([query.scale, key.scale, value.scale]),
        query.input_scale,
    )
    return Block(
        qkv=together,
        out=out,
        norm1=read.norm(within + family.norm1),
        up=read.linear(within + family.up),
        down=read.linear(within + family.down),
        norm2=read.norm(within + family.norm2),
    )


def _living(value: Linear, out: Linear, head_size: int) -> Tensor:
    """bool [width]: all but heads that add nothing, as pruning leaves them: zeros in, zeros out. At least one stays."""
    silent = (value.bias == 0) & (value.weight == 0).all(dim=1) & (out.weight == 0).all(dim=0)
    heads = ~silent.view(-1, head_size).all(dim=1)
    heads[0] |= ~heads.any()
    return heads.repeat_interleave(head_size)


class _Reader:
    """Layers by the names that a family has for them, behind whatever the directory calls the encoder."""

    def __init__(self, state: dict[str, Tensor], prefix: str, where: str) -> None:
        self._state, self._where = state, where
        known = (prefix, "backbone.")
        self._prefix = next((one for one in known if f"{one}embeddings.LayerNorm.weight" in state), "")
        self._own_prefix = prefix

    def has(self, name: str) -> bool:
        """Whether the encoder has such a layer."""
        return f"{self._prefix}{name}.weight" in self._state

    def table(self, name: str) -> Table:
        """An embedding table."""
        name = f"{self._prefix}embeddings.{name}"
        return Table(self._tensor(f"{name}.weight"), self._state.get(f"{name}.scale"))

    def norm(self, name: str) -> Norm:
        """A layer norm, in float32."""
        name = self._prefix + name
        return self._tensor(f"{name}.weight").float(), self._tensor(f"{name}.bias").float()

    def linear(self, name: str) -> Linear:
        """A layer of the encoder."""
        return self._linear(self._prefix + name)

    def _linear(self, name: str) -> Linear:
        fixed = self._state.get(f"{name}.input_scale")
        return Linear(
            self._tensor(f"{name}.weight"),
            self._tensor(f"{name}.bias"),
            self._state.get(f"{name}.scale"),
            0.0 if fixed is None else float(fixed),
        )

    def head(self, name: str) -> Linear:
        """A layer of the head, in float32; BERT's first one lies in the encoder."""
        within = self._prefix if name.startswith(self._own_prefix) else ""
        return self._linear(within + name.removeprefix(self._own_prefix)).in_float32()

    def _tensor(self, name: str) -> Tensor:
        if name not in self._state:
            raise InputError(
                "the model directory lacks weights of its task's network",
                where=self._where,
                got=f"no {name}",
                next_action="write the model again by the step that made it",
            )
        found = self._state[name]
        return found.float() if found.dtype in (torch.float16, torch.float64) else found
