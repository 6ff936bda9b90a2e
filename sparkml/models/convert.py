"""Weights in other forms -> a model directory with safetensors: `sparkml convert DIR OUT`.

Two forms are read: pickles that hold nothing but tensors (`pytorch_model.bin`, whole or in parts), and GGUF, whose
quantised weights become float32. Nothing else of sparkml opens either.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkml.errors import InputError
from sparkml.frame import artifacts
from sparkml.models.directory import copy_inputs
from sparkml.models.embedding import EMBEDDING_FILES
from sparkml.models.folder import CONFIG_FILE, GGUF, WEIGHTS_FILE, is_pickle, read_json, write_json
from sparkml.models.networks import check_model, kept_config, quiet, untied_state

if TYPE_CHECKING:
    import torch

# What a training leaves beside its weights.
_NO_WEIGHTS = frozenset(
    {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth"}
)
_FURTHER_FILES = ("generation_config.json", *EMBEDDING_FILES)


def convert(source: str | Path, out: str) -> list[str]:
    """Write the model of `source` (a folder, or a .gguf file) as the directory `out`; returns the names of its files.

    InputError where there is no such weights, or where a pickle holds anything but tensors.
    """
    path = Path(source)
    gguf = [path] if path.suffix == GGUF else sorted(path.glob(f"*{GGUF}"))
    pickles = [file for file in _files(path) if is_pickle(file.name) and file.name not in _NO_WEIGHTS]
    if len(gguf) != 1 and not pickles:
        raise InputError(
            "there is nothing to convert",
            where=str(path),
            got=", ".join(file.name for file in gguf or _files(path)) or "no file",
            expected="one file of GGUF, or weights of torch",
        )
    with artifacts.new_artifact(out) as staging:
        if pickles:
            _convert_pickles(path, pickles, staging)
        else:
            _convert_gguf(gguf[0], staging)
        check_model(staging)
        return sorted(file.name for file in staging.iterdir())


def _files(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else []


def _convert_pickles(folder: Path, pickles: list[Path], staging: Path) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for file in pickles:
        for name, tensor in read_tensors(file).items():
            if name in tensors:
                raise InputError("two files hold the same weights", where=str(folder), got=f"{name} twice")
            # A copy: tied weights have one storage, which the format refuses.
            tensors[name] = tensor.clone().contiguous()
    save_file(tensors, staging / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(staging / CONFIG_FILE, read_json(folder / CONFIG_FILE))
    copy_inputs(folder, staging, *_FURTHER_FILES)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """What a pickle holds by name, below `state_dict` where there is one; InputError for anything but tensors.

    torch's reader of tensors reads it, which runs nothing.
    """
    import torch

    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes lead to
        raise InputError(
            "the file cannot be read as tensors alone", where=str(file), got=_first_line(error)
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError("the file holds more than weights", where=str(file), expected="tensors by name")
    return dict(found)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _convert_gguf(file: Path, staging: Path) -> None:
    import transformers
    from safetensors.torch import save_file

    named = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(file.parent, **named)
            causal = transformers.AutoModelForCausalLM
            auto = causal if type(config) in causal._model_mapping else transformers.AutoModel
            network = auto.from_pretrained(file.parent, **named)
            transformers.AutoTokenizer.from_pretrained(file.parent, **named).save_pretrained(staging)
    except ImportError as error:
        raise InputError(
            "a package that reads GGUF is missing", got=str(error), next_action="pip install gguf"
        ) from error
    except Exception as error:  # transformers and its tokenizers raise whatever the bytes lead to
        raise InputError(
            "transformers cannot read this file", where=str(file), got=_first_line(error)
        ) from error
    # Not save_pretrained: it refuses what was quantised, although the weights are float32 now.
    save_file(untied_state(network), staging / WEIGHTS_FILE, metadata={"format": "pt"})
    network.config.architectures = [type(network).__name__]
    described = kept_config(network.config.to_dict())
    described.pop("quantization_config", None)
    write_json(staging / CONFIG_FILE, described)
