"""The network of a task: transformers' own head, the mean over the tokens with a layer of ours, or a vector alone."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparkml.errors import InputError
from sparkml.frame.artifacts import identity, localise
from sparkml.models.adapt import Adapted, load_adapter, read_base, save_adapter
from sparkml.models.engines.encoder_float import mean_of, vector_of
from sparkml.models.folder import (
    ADAPTER_FILE,
    CONFIG_FILE,
    HEAD_FILE,
    INT8_FOLDER,
    ONNX_FOLDER,
    WEIGHTS_FILE,
    check_folder,
    form_of,
    read_json,
    write_json,
)
from sparkml.models.int8 import load_int8
from sparkml.models.linear import with_fast_products
from sparkml.models.networks import NetworkSpec, check_model, kept_config, load_network, quiet
from sparkml.models.packed import load_packed


class MeanPooled(nn.Module):
    """A linear layer on the mean of an encoder's token vectors: many encoders never learnt a vector for a text.

    `backbone` is what AutoModel loads; the layer lies beside it in `head.safetensors`.
    """

    base_model_prefix = "backbone"

    def __init__(self, backbone: nn.Module, n_outputs: int, seed: int) -> None:
        super().__init__()
        config: Any = backbone.config
        self.backbone = backbone
        self.config = config
        self.dropout = nn.Dropout(float(getattr(config, "hidden_dropout_prob", None) or 0.0))
        self.classifier = nn.Linear(config.hidden_size, n_outputs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._init_weights(self.classifier)

    @property
    def base_model(self) -> nn.Module:
        """The encoder, by transformers' name."""
        return self.backbone

    def _init_weights(self, module: nn.Module) -> None:
        """Draw the weights of the layer, by transformers' name, with the spread that the encoder began with."""
        if module is self.classifier:
            nn.init.normal_(
                self.classifier.weight, 0.0, float(getattr(self.config, "initializer_range", 0.02))
            )
            nn.init.zeros_(self.classifier.bias)

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """As transformers' classifiers: `logits` [rows, outputs] from `input_ids`, `attention_mask` and the rest."""
        hidden: Tensor = self.backbone(**inputs)[0]
        pooled = mean_of(hidden, inputs["attention_mask"])
        return SimpleNamespace(logits=self.classifier(self.dropout(pooled)))


class VectorPooled(nn.Module):
    """One vector of a text from those of its tokens, by `pooling`; `backbone` is what AutoModel loads."""

    base_model_prefix = "backbone"

    def __init__(self, backbone: nn.Module, pooling: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.config: Any = backbone.config
        self.pooling = pooling

    @property
    def base_model(self) -> nn.Module:
        """The encoder, by transformers' name."""
        return self.backbone

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """`logits` [rows, width], of any length, from `input_ids`, `attention_mask` and the rest."""
        return SimpleNamespace(
            logits=vector_of(self.backbone(**inputs)[0], inputs["attention_mask"], self.pooling)
        )


def build_network(
    spec: NetworkSpec, folder: str | Path, *, seed: int, random: bool = False
) -> tuple[nn.Module, frozenset[str]]:
    """The network of a task from a model directory, and the names of the parameters that are new in it."""
    loaded = load_network(
        folder, spec.head, labels=spec.labels, settings=spec.settings, seed=seed, random=random
    )
    if spec.vector:
        pooled = VectorPooled(_without_pooler(loaded.network), spec.pooling)
        return with_fast_products(pooled).train(), _new_within(pooled.backbone, loaded.new_modules)
    if spec.pooling != "mean":
        return with_fast_products(loaded.network), loaded.new_modules
    backbone = _without_pooler(loaded.network)
    network = MeanPooled(backbone, max(len(spec.labels), 1), seed)
    head = Path(folder) / HEAD_FILE
    ours = {f"classifier.{name}" for name in ("weight", "bias")}
    if head.is_file() and not random and _fits(network, state := load_file(head)):
        network.classifier.load_state_dict(state)
        ours = set()
    return with_fast_products(network).train(), _new_within(backbone, loaded.new_modules) | ours


def _new_within(backbone: nn.Module, new: frozenset[str]) -> frozenset[str]:
    """The new parameters of a network that are in it still, by their names in what holds it."""
    there = dict(backbone.named_parameters())
    return frozenset(f"backbone.{name}" for name in new if name in there)


def _without_pooler(backbone: nn.Module) -> nn.Module:
    """A network that can do without the layer on its first token does without: nothing would use or train it."""
    if "add_pooling_layer" in inspect.signature(type(backbone).__init__).parameters:
        backbone.pooler = None  # type: ignore[assignment]  # as transformers itself has it without one
    return backbone


def load_trained(spec: NetworkSpec, folder: str | Path) -> nn.Module:
    """The network of a trained model's directory, in eval mode; InputError where a part is missing."""
    path = Path(folder)
    if (path / ADAPTER_FILE).is_file():
        network, _ = build_network(spec, _base_of(path), seed=0)
        adapted: nn.Module = load_adapter(network, path).eval()
        return adapted
    form = form_of(path)
    if form == ONNX_FOLDER:
        raise InputError(
            "the weights of this model are in ONNX alone",
            where=str(path),
            got=f"{ONNX_FOLDER}/ and no {WEIGHTS_FILE}",
            next_action="run it with the engine onnx; to change it, go back to the model that it was made of",
        )
    if form:
        network, _ = build_network(spec, check_folder(path, CONFIG_FILE), seed=0, random=True)
        return (load_int8 if form == INT8_FOLDER else load_packed)(network, path / form)
    network, new = build_network(spec, check_model(path), seed=0)
    if new:
        raise InputError(
            "the model directory lacks weights of its task's network",
            where=str(path),
            got=f"missing: {', '.join(sorted(new)[:3])} ({len(new)} in all)",
            next_action="write the model again by the step that made it",
        )
    return network.eval()


def save_network(adapted: Adapted, spec: NetworkSpec, folder: Path, *, merge: bool, base: str) -> None:
    """Write config.json and the weights; where they are not merged, the adaptation with the name of its base."""
    if not merge:
        save_adapter(adapted, folder, base=base, base_sha256=identity(base))
        write_json(folder / CONFIG_FILE, kept_config(adapted.network.config.to_dict()))
        return
    save_trained(adapted.merged(), folder)


def save_trained(network: nn.Module, folder: Path) -> None:
    """Write config.json and the weights of a trained network as `load_trained` reads them."""
    base: Any = network
    if isinstance(network, MeanPooled):
        state = network.classifier.state_dict()
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, folder / HEAD_FILE)
    if isinstance(network, MeanPooled | VectorPooled):
        base = network.backbone
    with quiet():
        base.save_pretrained(folder)
    write_json(folder / CONFIG_FILE, kept_config(read_json(folder / CONFIG_FILE)))


def _base_of(path: Path) -> Path:
    """The model directory that an adaptation belongs to; InputError where it is not the same any more."""
    base = read_base(path)
    found = identity(base.name)
    if found != base.sha256:
        raise InputError(
            "the model that an adaptation belongs to has changed or is gone",
            where=base.name,
            got=found,
            expected=base.sha256,
            next_action="restore it, or train the adaptation again (adapt.merge=true keeps no base)",
        )
    return localise(base.name)


def _fits(network: MeanPooled, state: dict[str, Tensor]) -> bool:
    wanted = network.classifier.state_dict()
    return state.keys() == wanted.keys() and all(state[name].shape == wanted[name].shape for name in wanted)
