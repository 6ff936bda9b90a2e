"""The model of the rule set `quality`: read from a model directory, wherever that lies."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from sparkml.errors import InputError
from sparkml.frame import storage

_KIND = "sparkml_linear"


@dataclass(frozen=True)
class LinearModel:
    """Weights by slot, the bias, and how many words of a document it looks at."""

    weights: NDArray[np.float32]
    bias: float
    most_words: int

    @classmethod
    def of(cls, location: str) -> LinearModel:
        """InputError for a directory that is none of these models."""
        try:
            config = json.loads(storage.read_bytes(storage.join(location, "config.json")))
            tensors = load(storage.read_bytes(storage.join(location, "model.safetensors")))
            weights = np.ascontiguousarray(tensors["weights"], np.float32)
            if config["model_type"] != _KIND or weights.ndim != 1 or len(weights) & (len(weights) - 1):
                raise ValueError(f"a model of type {config['model_type']}, {weights.shape} weights")
            return cls(weights, float(tensors["bias"][0]), int(config["most_words"]))
        except (OSError, ValueError, KeyError, IndexError, TypeError, SafetensorError) as error:
            raise InputError(
                "this is no model of the stage learn_quality",
                where=storage.redacted(location),
                got=f"{type(error).__name__}: {error}",
                next_action="name one in clean.quality_model",
            ) from error
