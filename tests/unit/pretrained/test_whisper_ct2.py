"""Whisper from CTranslate2's file: the encoder answers as before, and a file that lies is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, WhisperConfig, WhisperForAudioClassification

from sparkml.errors import InputError
from sparkml.models.heads import build_network
from sparkml.models.media import read_audio_inputs
from sparkml.models.networks import load_network
from sparkml.models.whisper import WhisperForAudioClassification as OwnMean
from sparkml.tasks.classify_audio import AudioOptions, ClassifyAudio
from sparkml.tasks.task import Targets
from sparkml.tasks.waves import as_int16
from tools.pretrained.whisper_ct2 import convert, main

AUDIO = "AutoModelForAudioClassification"
SHAPE: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 8,
    "max_source_positions": 100, "decoder_attention_heads": 2,
}  # fmt: skip
FLOAT32, INT8, INT16, FLOAT16, BFLOAT16 = 0, 1, 2, 4, 5
Variables = dict[str, tuple[int, np.ndarray]]


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def packed(variables: Variables, aliases: dict[str, str], header: bytes | None = None) -> bytes:
    """A model.bin as CTranslate2's specification says it: written here by hand, not by the code under test."""
    parts = [header or struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<I", 3)]
    parts.append(struct.pack("<I", len(variables)))
    for name, (kind, values) in variables.items():
        parts += [text(name), struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)]
        parts += [struct.pack("<BI", kind, values.nbytes), values.tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [text(alias) + text(name) for alias, name in aliases.items()]
    return b"".join(parts)


@pytest.fixture(scope="module")
def whisper() -> WhisperForAudioClassification:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = WhisperForAudioClassification(WhisperConfig(**SHAPE)).eval()
        for parameter in network.encoder.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
    return network


@pytest.fixture
def variables(whisper: WhisperForAudioClassification) -> Variables:
    """What CTranslate2 would write of it: one projection as int8, one layer as bfloat16, one as float16."""
    state = {name: tensor.detach().numpy() for name, tensor in whisper.encoder.state_dict().items()}
    found: dict[str, np.ndarray] = {"position_encodings/encodings": state["embed_positions.weight"]}
    norms = [("layer_norm", "layer_norm")]
    plain = [("conv1", "conv1"), ("conv2", "conv2")]
    for layer in ("0", "1"):
        ours, theirs = f"layers.{layer}", f"layer_{layer}"
        norms += [(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")]
        norms += [(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")]
        plain += [(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")]
        plain += [(f"{ours}.fc1", f"{theirs}/ffn/linear_0"), (f"{ours}.fc2", f"{theirs}/ffn/linear_1")]
        fused = f"{theirs}/self_attention/linear_0"
        parts = [f"{ours}.self_attn.{part}_proj" for part in "qkv"]
        found[f"{fused}/weight"] = np.concatenate([state[f"{part}.weight"] for part in parts])
        zeros = np.zeros(SHAPE["d_model"], np.float32)
        found[f"{fused}/bias"] = np.concatenate([state.get(f"{part}.bias", zeros) for part in parts])
    for ours, theirs in norms:
        found |= {f"{theirs}/gamma": state[f"{ours}.weight"], f"{theirs}/beta": state[f"{ours}.bias"]}
    for ours, theirs in plain:
        found |= {f"{theirs}/weight": state[f"{ours}.weight"], f"{theirs}/bias": state[f"{ours}.bias"]}
    stored: Variables = {f"encoder/{name}": (FLOAT32, values) for name, values in found.items()}
    stored["encoder/num_heads"] = (INT16, np.array(SHAPE["encoder_attention_heads"], np.int16))
    stored["decoder/alignment_heads"] = (INT16, np.ones((2, 2), np.int16))  # no weights, and no scale
    quantised = "encoder/layer_0/ffn/linear_0/weight"
    scale = (127 / np.abs(stored[quantised][1]).max(axis=1)).astype(np.float32)
    stored[f"{quantised}_scale"] = (FLOAT32, scale)
    stored[quantised] = (INT8, np.rint(stored[quantised][1] * scale[:, None]).astype(np.int8))
    half = "encoder/layer_1/ffn/linear_0/weight"
    stored[half] = (FLOAT16, stored[half][1].astype(np.float16))
    upper = "encoder/layer_1/ffn/linear_1/weight"
    stored[upper] = (BFLOAT16, (stored[upper][1].view(np.uint32) >> 16).astype(np.uint16))
    return stored


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def written(content: bytes) -> Path:
        (tmp_path / "model.bin").write_bytes(content)
        return tmp_path

    return written


def test_the_encoder_answers_as_before(
    whisper: WhisperForAudioClassification, variables: Variables, write: Any, tmp_path: Path
) -> None:
    variables["decoder/embeddings/weight"] = (FLOAT32, np.ones((60, 16), np.float32))
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    convert(write(packed(variables, aliases)), tmp_path / "out", seconds=2)
    network: Any = load_network(tmp_path / "out", AUDIO).network.eval()
    given = torch.randn(2, SHAPE["num_mel_bins"], 200, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = whisper.encoder(given).last_hidden_state
        found = network.encoder(given).last_hidden_state
        vectors = network.projector(found)
    assert expected.std() > 0.1
    torch.testing.assert_close(
        found, expected, atol=0.03, rtol=0.03
    )  # 8 bits of one layer, bfloat16 of another
    torch.testing.assert_close(vectors, found)  # the projection changes nothing


def test_a_shorter_window_is_the_beginning_of_the_longer_one(
    whisper: WhisperForAudioClassification, variables: Variables, write: Any, tmp_path: Path
) -> None:
    source, target = write(packed(variables, {})), tmp_path / "out"
    assert main([str(source), str(target), "--seconds", "1"]) == 0
    network: Any = load_network(target, AUDIO).network
    torch.testing.assert_close(
        network.encoder.embed_positions.weight, whisper.encoder.embed_positions.weight[:50]
    )
    wave = np.sin(np.arange(8000) / 5).astype(np.float32)
    extracted = AutoFeatureExtractor.from_pretrained(target)(
        [wave], sampling_rate=16_000, return_tensors="pt"
    )
    assert extracted["input_features"].shape == (1, SHAPE["num_mel_bins"], 100)
    assert network(**extracted).logits.shape == (1, 2)
    with pytest.raises(InputError, match=r"no such window(.|\n)*1 to 2"):
        convert(source, target, seconds=3)


def test_what_is_behind_a_sound_has_no_part_in_the_mean(
    variables: Variables, write: Any, tmp_path: Path
) -> None:
    convert(write(packed(variables, {})), tmp_path / "out", seconds=1)
    targets = Targets(labels=("a", "b"), counts={"a": 1, "b": 1})
    task = ClassifyAudio(AudioOptions(trim=False), targets, read_audio_inputs(tmp_path / "out"))
    network: Any = load_network(tmp_path / "out", AUDIO, seed=1).network.eval()
    waves = [np.sin(np.arange(n) / 5).astype(np.float32) for n in (3200, 16_000, 10)]
    media = [as_int16(wave) for wave in waves]
    rows = {"wave": np.array(media, object), "n_tokens": np.array([51, 51, 51])}
    inputs = task.collate(rows, None).inputs
    with torch.inference_mode():
        vectors = network.encoder(inputs["input_features"]).last_hidden_state
        expected = torch.stack([vectors[0, :10].mean(0), vectors[1].mean(0), vectors[2, 0]])
        torch.testing.assert_close(network(**inputs).logits, network.classifier(expected))


@pytest.mark.parametrize("several", [False, True])
def test_a_sound_that_fills_its_window_is_answered_as_transformers_does(several: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = WhisperConfig(**SHAPE, classifier_proj_size=16, use_weighted_layer_sum=several)
        network = OwnMean(config).eval()
        given = torch.randn(2, SHAPE["num_mel_bins"], 200)
    if several:
        network.layer_weights.data = torch.tensor([0.3, -1.0, 2.0])
    with torch.inference_mode():
        expected = WhisperForAudioClassification.forward(network, given).logits
        found = network(given, attention_mask=torch.ones(2, 32_000)).logits
    torch.testing.assert_close(found, expected)


def test_only_the_last_layer_is_still_to_be_learnt(variables: Variables, write: Any, tmp_path: Path) -> None:
    convert(write(packed(variables, {})), tmp_path / "out", seconds=1)
    targets = Targets(labels=("a", "b", "c"), counts={"a": 1, "b": 1, "c": 1})
    task = ClassifyAudio(AudioOptions(), targets, read_audio_inputs(tmp_path / "out"))
    _, new = build_network(task.network(), tmp_path / "out", seed=1)
    assert new == {"classifier.weight", "classifier.bias"}


def test_a_file_that_is_cut_off_anywhere_is_an_error(
    variables: Variables, write: Any, tmp_path: Path
) -> None:
    small = {name: variables[name] for name in ("encoder/num_heads", "encoder/conv1/bias")}
    whole = packed(small, {"a": "encoder/num_heads"})
    for length in range(len(whole)):
        with pytest.raises(InputError, match=r"the file ends|cannot read a file"):
            convert(write(whole[:length]), tmp_path / "out")
    with pytest.raises(InputError, match="1 bytes more"):
        convert(write(whole + b"\0"), tmp_path / "out")


HEAD = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<I", 3)
MOST = 2**32 - 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<I", 6) + text("TransformerSpec") + struct.pack("<I", 3), "specification and revision"),
        (HEAD + struct.pack("<I", MOST), "the file ends"),
        (HEAD + struct.pack("<I", 1) + text("x") + struct.pack("<BIBI", 1, MOST, 0, MOST), "bytes of x"),
        (HEAD + struct.pack("<I", 1) + text("x") + struct.pack("<BIBI", 1, 1 << 28, 0, 1 << 30), "the file ends"),
        (HEAD + struct.pack("<I", 1) + text("x") + struct.pack("<B2IBI", 2, 0, MOST, 0, 0), "bytes of x"),
        (HEAD + struct.pack("<I", 1) + text("x") + struct.pack("<B", 200), "200 dimensions"),
        (HEAD + struct.pack("<I", 1) + text("x") + struct.pack("<BBI", 0, 9, 4), "type 9"),
        (HEAD + struct.pack("<I", 1) + struct.pack("<H", 2) + b"xy", "letters and a zero byte"),
        (packed({}, {"a": "b"}), "another name for a variable"),
        (HEAD + struct.pack("<I", 2) + 2 * (text("x") + struct.pack("<BBIB", 0, 1, 1, 7)), "x twice"),
        (packed({}, {}), "lacks a variable of Whisper's encoder"),
    ],
)  # fmt: skip
def test_numbers_of_the_file_are_not_believed(
    content: bytes, message: str, write: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        convert(write(content), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main([str(tmp_path), str(tmp_path / "out")]) == 1


@pytest.mark.parametrize(
    ("name", "kind", "values", "message"),
    [
        ("num_heads", INT16, np.array(3, np.int16), "heads that do not fit"),
        ("num_heads", INT16, np.array(0, np.int16), "heads that do not fit"),
        ("layer_0/ffn/linear_0/weight_scale", FLOAT32, np.ones(3, np.float32), "without a scale"),
        ("layer_0/ffn/linear_0/weight_scale", FLOAT32, np.zeros(24, np.float32), "without a scale"),
        ("layer_norm/beta", FLOAT32, np.full(16, np.nan, np.float32), "no numbers"),
        ("layer_norm/beta", FLOAT32, np.zeros((4, 4), np.float32), "one of 2 dimensions"),
        ("layer_norm/beta", FLOAT32, np.zeros(4, np.float32), "another shape: encoder.layer_norm.bias"),
        ("layer_1/self_attention/linear_0/bias", FLOAT32, np.zeros(47, np.float32), "another shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    name: str, kind: int, values: np.ndarray, message: str, variables: Variables, write: Any, tmp_path: Path
) -> None:
    variables[f"encoder/{name}"] = (kind, values)
    with pytest.raises(InputError, match=message):
        convert(write(packed(variables, {})), tmp_path / "out", seconds=1)
