"""`sparkml convert`: weights of torch and GGUF become safetensors; what would run code does not run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sparkml.cli.main import main
from sparkml.errors import InputError
from sparkml.models.convert import convert
from sparkml.models.networks import check_model, load_network
from tests.tiny import copy_of


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


@pytest.fixture
def copy(encoder_folder: Path, tmp_path: Path) -> Path:
    return copy_of(encoder_folder, tmp_path / "a copy")


@pytest.fixture
def pickled(copy: Path) -> Path:
    """The encoder as torch wrote it, in two parts, with what a training leaves beside it."""
    weights = load_file(copy / "model.safetensors")
    names = sorted(weights)
    for part, mine in enumerate((names[:5], names[5:]), 1):
        torch.save({name: weights[name] for name in mine}, copy / f"pytorch_model-0000{part}-of-00002.bin")
    torch.save({"lr": Evil()}, copy / "training_args.bin")
    (copy / "checksums.json").unlink(missing_ok=True)
    (copy / "model.safetensors").rename(copy.parent / "weights")
    return copy


def test_the_error_for_pickled_weights_holds_the_command_that_converts_them(pickled: Path) -> None:
    with pytest.raises(InputError, match="pickle") as caught:
        check_model(pickled)
    command = shlex.split(caught.value.next_action)
    assert (command[0], main(command[1:])) == ("sparkml", 0)
    converted = check_model(Path(command[-1]))
    found, weights = load_file(converted / "model.safetensors"), load_file(pickled.parent / "weights")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert (converted / "tokenizer.json").read_bytes() == (pickled / "tokenizer.json").read_bytes()
    load_network(converted, "AutoModelForMaskedLM")


def test_one_file_with_tied_weights_below_a_name(pickled: Path, tmp_path: Path) -> None:
    weights = load_file(pickled.parent / "weights")
    first = next(iter(weights))
    for file in pickled.glob("*.bin"):
        file.unlink()
    torch.save({"state_dict": {**weights, "tied": weights[first]}, "epoch": 3}, pickled / "last.ckpt")
    convert(pickled, str(tmp_path / "out"))
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == {*weights, "tied"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": Evil()}, r"cannot be read as tensors alone[\s\S]*pytorch_model\.bin"),
        ({"w": torch.zeros(2), "epoch": 3}, "holds more than weights"),
        (torch.zeros(2), "holds more than weights"),
    ],
)
def test_a_pickle_of_anything_but_tensors_is_refused(
    content: object, message: str, copy: Path, tmp_path: Path
) -> None:
    torch.save(content, copy / "pytorch_model.bin")
    with pytest.raises(InputError, match=message):
        convert(copy, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_pickle_that_is_empty_or_none_at_all_is_refused(copy: Path, tmp_path: Path) -> None:
    for content in (b"", b"not a pickle"):
        (copy / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as tensors alone"):
            convert(copy, str(tmp_path / "out"))


def test_the_same_weights_twice_and_none_at_all_are_refused(pickled: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    (pickled / "other.bin").write_bytes((pickled / "pytorch_model-00001-of-00002.bin").read_bytes())
    with pytest.raises(InputError, match="two files hold the same weights"):
        convert(pickled, out)
    for nothing in (tmp_path / "nowhere", pickled.parent):
        with pytest.raises(InputError, match="nothing to convert"):
            convert(nothing, out)


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaMA as llama.cpp writes it: a byte-level vocabulary, one layer, half precision."""
    from gguf import GGUFWriter

    folder = tmp_path_factory.mktemp("gguf")
    random = np.random.default_rng(3)
    writer = GGUFWriter(folder / "tiny.gguf", "llama")
    vocabulary = ["<unk>", "<s>", "</s>", *(chr(33 + number) for number in range(60)), '!"']
    width, hidden, heads = 32, 64, 4
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3, 3, 3] + [1] * 61)
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {
        "token_embd": (len(vocabulary), width),
        "output": (len(vocabulary), width),
        "output_norm": (width,),
        "blk.0.attn_norm": (width,),
        "blk.0.ffn_norm": (width,),
        **{f"blk.0.attn_{name}": (width, width) for name in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (hidden, width),
        "blk.0.ffn_up": (hidden, width),
        "blk.0.ffn_down": (width, hidden),
    }
    for name, shape in shapes.items():
        kind = np.float32 if len(shape) == 1 else np.float16
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.1, shape).astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def test_gguf_becomes_a_directory_to_start_from(gguf_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quantised weights[\s\S]*sparkml convert"):
        check_model(gguf_folder)
    files = convert(gguf_folder / "tiny.gguf", str(tmp_path / "out"))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    network = load_network(tmp_path / "out", "AutoModelForCausalLM").network
    written = np.random.default_rng(3).normal(0, 0.1, (64, 32)).astype(np.float16)
    embedded = network.get_input_embeddings().weight.detach().numpy()
    assert np.array_equal(embedded, written.astype(np.float32))


def test_without_the_package_that_reads_gguf_it_is_named(
    gguf_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.modeling_gguf_pytorch_utils.is_gguf_available", lambda *_: False)
    with pytest.raises(InputError, match="pip install gguf"):
        convert(gguf_folder, str(tmp_path / "out"))
