"""An adaptation as a folder beside a reference to its base: safetensors and JSON.

adapter_model.safetensors   what was trained
adapter_config.json         peft's configuration (lora, adalora, prefix, prompt: peft loads the folder), or ours
base.json                   name or path of the base, and the checksum of its weights
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparkml.errors import InputError
from sparkml.models.adapt.adapted import Adapted
from sparkml.models.adapt.anatomy import Anatomy
from sparkml.models.adapt.bottleneck import insert_adapters, is_adapter
from sparkml.models.adapt.budget import ADAPTER, fill
from sparkml.models.adapt.prompts import hide_virtual_tokens
from sparkml.models.folder import ADAPTER_FILE, check_folder, read_json, write_json

ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_FILE = "base.json"


@dataclass(frozen=True)
class Base:
    """What an adaptation belongs to: a name in the registry or a path, and the SHA-256 of the weights."""

    name: str
    sha256: str


def save_adapter(adapted: Adapted, folder: Path, base: str, base_sha256: str) -> None:
    """Write what was trained into a folder that exists."""
    if isinstance(adapted.network, PeftModel):
        weights, config = _of_peft(adapted, adapted.network, base)
    else:
        weights = {name: parameter.detach() for name, parameter in adapted.trained_parameters().items()}
        config = {
            "method": adapted.settings.method,
            "bottleneck": adapted.settings.bottleneck,
            "after": adapted.settings.after,
            "heads": list(adapted.heads),
        }
    saved = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(saved, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    write_json(folder / ADAPTER_FILE, config)
    write_json(folder / BASE_FILE, {"name": base, "sha256": base_sha256})


def read_base(folder: Path) -> Base:
    """Which network a saved adaptation belongs to; InputError for a folder that is none."""
    path = check_folder(folder, ADAPTER_WEIGHTS, ADAPTER_FILE, BASE_FILE)
    value = read_json(path / BASE_FILE)
    name, sha256 = value.get("name"), value.get("sha256")
    if not isinstance(name, str) or not isinstance(sha256, str):
        raise InputError(
            "the base of an adapter is not named",
            where=str(path / BASE_FILE),
            got=str(value),
            expected="name and sha256",
            next_action="run the stage that writes it again",
        )
    return Base(name, sha256)


def load_adapter(network: nn.Module, folder: Path) -> nn.Module:
    """The base network (with a head of the right shape) with a saved adaptation, to score with; changes it in place.

    InputError for a folder that is none, holds a pickle format, or was saved from another network.
    """
    read_base(folder)
    config = read_json(folder / ADAPTER_FILE)
    weights = load_file(folder / ADAPTER_WEIGHTS)
    if "peft_type" in config:
        network = _with_peft(network, config, weights, folder)
    else:
        _with_ours(network, config, weights, folder)
    return network.requires_grad_(False).eval()


def _of_peft(adapted: Adapted, network: PeftModel, base: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration as peft's own `save_pretrained` writes them, and equal bytes for equal content."""
    config: Any = network.peft_config[ADAPTER]
    pattern = adapted.rank_pattern()
    if pattern:
        config.rank_pattern = pattern
    weights = _weights(network)
    saved = copy.copy(config)
    saved.base_model_name_or_path, saved.inference_mode = base, True
    if saved.task_type is None:
        model = network.get_base_model()
        saved.auto_mapping = {
            "base_model_class": type(model).__name__,
            "parent_library": type(model).__module__,
        }
    values = {
        name: sorted(value) if isinstance(value, set) else value for name, value in saved.to_dict().items()
    }
    values.pop("runtime_config", None)
    return weights, values


def _weights(network: PeftModel) -> dict[str, Tensor]:
    """What peft saves of a network, without its looks at a hub for the base and at ranks of 0, which are meant."""
    weights: dict[str, Tensor] = get_peft_model_state_dict(
        network, state_dict=network.state_dict(), save_embedding_layers=False
    )
    return weights


def _with_peft(
    network: nn.Module, values: dict[str, Any], weights: dict[str, Tensor], folder: Path
) -> PeftModel:
    kind = PEFT_TYPE_TO_CONFIG_MAPPING.get(values["peft_type"])
    if kind is None:
        raise InputError(
            "an adapter of a kind that peft does not know",
            where=str(folder / ADAPTER_FILE),
            got=str(values["peft_type"]),
        )
    try:
        # The network is there already: peft need not compare the name of its base.
        known = {**values, "inference_mode": True, "base_model_name_or_path": None}
        pattern = known.pop("rank_pattern", None)
        config: Any = kind(**known)
        adapted: PeftModel = get_peft_model(network, config)
        if pattern:
            config.rank_pattern = pattern
        expected = set(_weights(adapted))
        missing = expected ^ set(weights)
        if missing:
            raise KeyError(", ".join(sorted(missing)[:3]))
        set_peft_model_state_dict(adapted, weights)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise InputError(
            "the adapter does not fit the network",
            where=str(folder),
            got=str(error),
            expected="the base that base.json names, with a head of the same shape",
            next_action="load that base, or train the adapter again",
        ) from error
    if values.get("task_type") is not None:
        hide_virtual_tokens(adapted)
    return adapted


def _with_ours(network: nn.Module, config: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> None:
    if config.get("method") not in ("adapters", "frozen"):
        raise InputError(
            "an adapter of an unknown kind",
            where=str(folder / ADAPTER_FILE),
            got=str(config.get("method")),
            expected="adapters, frozen, or a configuration of peft",
        )
    if config["method"] == "adapters":
        insert_adapters(
            network,
            Anatomy(network, config["heads"]),
            bottleneck=int(config["bottleneck"]),
            after_attention=config["after"] == "both",
            seed=0,
        )
    live = dict(network.named_parameters())
    wanted: dict[str, Tensor] = {name: live[name] for name in live if name in weights or is_adapter(name)}
    fill(wanted, weights, f"the adapter in {folder}")
