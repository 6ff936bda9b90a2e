"""How an image or a sound becomes what a network takes: as the processor files of a model directory say.

Plain data that travels to Spark tasks; neither torch nor transformers is imported here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sparkml.errors import InputError
from sparkml.models.folder import CONFIG_FILE, check_folder, read_json, write_json

# Where transformers keeps the settings of a processor; in the second file they stand below the key of their kind.
PREPROCESSOR_FILE, PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"
LOG_MEL = "SparkmlLogMel"
_MEL = ("n_mels", "n_fft", "hop")
_BICUBIC, _BILINEAR = 3, 2
_HALF = (0.5, 0.5, 0.5)


class _Identified:
    """Gives plain data its identity."""

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the settings, lower-case hex."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ImageInputs(_Identified):
    """Images of `height` x `width` and `channels` (1 or 3), from which `mean` is taken, divided by `deviation`.

    `shortest` > 0: the shorter side is scaled to it and the middle is cut out; 0: both sides are scaled. `resample` is
    Pillow's number of a filter.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    shortest: int = 0
    resample: int = _BICUBIC


@dataclass(frozen=True)
class AudioInputs(_Identified):
    """Mono sound of `rate` samples a second. `extractor` is the class that makes the network's inputs of it.

    `SparkmlLogMel`: log-mel energies, `n_mels` of a window of `n_fft` samples every `hop`; any other name is one of
    transformers', with its `settings`.
    """

    rate: int
    extractor: str = LOG_MEL
    n_mels: int = 40
    n_fft: int = 256
    hop: int = 80
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_image_inputs(folder: str | Path) -> ImageInputs:
    """What a model directory says of its images; sizes that no processor names come from its configuration."""
    path = check_folder(folder, CONFIG_FILE)
    config = read_json(path / CONFIG_FILE)
    settings = _settings(path, "image_processor")
    height, width, shortest = _size(settings, config, path)
    channels = int(config.get("num_channels", 3))
    if channels not in (1, 3):
        raise InputError(
            "images have one channel or three", where=str(path / CONFIG_FILE), got=f"num_channels {channels}"
        )
    normalise = settings.get("do_normalize", True)
    mean = _numbers(settings.get("image_mean") if normalise else 0.0, channels, _HALF)
    deviation = _numbers(settings.get("image_std") if normalise else 1.0, channels, _HALF)
    resample = settings.get("resample")
    return ImageInputs(
        height, width, channels, mean, deviation, shortest, _BILINEAR if resample is None else int(resample)
    )


def read_audio_inputs(folder: str | Path) -> AudioInputs:
    """What a model directory says of its sounds; InputError where it has no feature extractor."""
    path = check_folder(folder, CONFIG_FILE)
    settings = dict(_settings(path, "feature_extractor"))
    extractor = settings.get("feature_extractor_type")
    if not extractor or "sampling_rate" not in settings:
        raise InputError(
            "the model directory does not say how sound becomes its input",
            where=str(path),
            got=f"{PREPROCESSOR_FILE} with {', '.join(sorted(settings)) or 'nothing'}",
            expected="feature_extractor_type and sampling_rate",
            next_action="save the feature extractor into the directory: extractor.save_pretrained(DIR)",
        )
    rate = int(settings["sampling_rate"])
    if extractor == LOG_MEL:
        own: dict[str, Any] = {name: int(settings[name]) for name in _MEL if name in settings}
        return AudioInputs(rate, **own)
    return AudioInputs(rate, str(extractor), settings=settings)


def write_image_inputs(inputs: ImageInputs, folder: Path) -> None:
    """Write the settings of a new network as transformers has them."""
    size = (
        {"shortest_edge": inputs.shortest}
        if inputs.shortest
        else {"height": inputs.height, "width": inputs.width}
    )
    settings = {
        "do_resize": True,
        "size": size,
        "do_center_crop": bool(inputs.shortest),
        "crop_size": {"height": inputs.height, "width": inputs.width},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(inputs.mean),
        "image_std": list(inputs.deviation),
        "resample": inputs.resample,
    }
    write_json(folder / PREPROCESSOR_FILE, settings)


def write_audio_inputs(inputs: AudioInputs, folder: Path) -> None:
    """Write the settings of a new network that takes log-mel energies."""
    settings = {"feature_extractor_type": inputs.extractor, "sampling_rate": inputs.rate}
    own = {name: getattr(inputs, name) for name in _MEL}
    write_json(folder / PREPROCESSOR_FILE, {**settings, **own})


def _settings(path: Path, kind: str) -> dict[str, Any]:
    if (path / PREPROCESSOR_FILE).is_file():
        return read_json(path / PREPROCESSOR_FILE)
    if (path / PROCESSOR_FILE).is_file():
        found = read_json(path / PROCESSOR_FILE)
        inner = found.get(kind)
        return inner if isinstance(inner, dict) else found
    return {}


def _size(settings: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> tuple[int, int, int]:
    """Height, width, and the shortest side to scale to."""
    size = settings.get("size") or config.get("image_size")
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    if isinstance(size, Mapping) and "shortest_edge" in size:
        shortest = int(size["shortest_edge"])
        if crop is None and settings.get("crop_pct"):  # ConvNeXt: scaled to more than what is cut out
            return shortest, shortest, round(shortest / float(settings["crop_pct"]))
        height, width = _sides(crop if crop is not None else shortest, path)
        return height, width, shortest
    height, width = _sides(crop if crop is not None else size, path)
    return height, width, 0


def _sides(size: Any, path: Path) -> tuple[int, int]:
    try:
        if isinstance(size, Mapping):
            return int(size["height"]), int(size["width"])
        if isinstance(size, (list, tuple)):
            return int(size[0]), int(size[1])
        return int(size), int(size)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            "the model directory does not say how large its images are",
            where=str(path),
            got=repr(size),
            expected=f"size in {PREPROCESSOR_FILE}, or image_size in {CONFIG_FILE}",
        ) from error


def _numbers(value: Any, channels: int, default: tuple[float, ...]) -> tuple[float, ...]:
    found = default if value is None else value
    numbers = tuple(map(float, found)) if isinstance(found, (list, tuple)) else (float(found),)
    return (numbers * channels)[:channels] if len(numbers) < channels else numbers[:channels]
