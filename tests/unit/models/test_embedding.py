"""What a directory says of its vectors, and the networks that make them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sparkml.errors import InputError
from sparkml.models.convert import convert
from sparkml.models.embedding import read_embedding_inputs, read_pooling
from sparkml.models.engines import engine
from sparkml.models.folder import HEAD_FILE, WEIGHTS_FILE
from sparkml.models.heads import VectorPooled, build_network, load_trained, save_trained
from sparkml.models.networks import NetworkSpec
from tests.tiny import SHAPE, copy_of, tiny_model

POOLINGS = ("mean", "cls", "max", "last")
# Rows of three and of five tokens.
IDS = torch.tensor([[2, 9, 10, 11, 3], [2, 12, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def describe(
    folder: Path, pooling: dict[str, Any], kinds: tuple[str, ...] = ("Transformer", "Pooling")
) -> Path:
    """Write the files of sentence-transformers into a folder."""
    modules = [
        {
            "idx": n,
            "name": str(n),
            "path": f"{n}_{kind}" if n else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for n, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder without a head."""
    return tiny_model(tmp_path_factory.mktemp("embedding") / "base", "AutoModel", config=SHAPE)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "word_embedding_dimension": 32}, "mean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken", "embedding_dimension": 32}, "last"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_the_pooling_is_that_of_the_directory(tmp_path: Path, config: dict[str, Any], pooling: str) -> None:
    assert read_pooling(describe(tmp_path, config)) == pooling


def test_without_such_files_the_mean_is_taken(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) == "mean"


@pytest.mark.parametrize(
    ("config", "kinds", "message"),
    [
        ({"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "Dense"), r"models\.Dense"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            ("Transformer", "Pooling"),
            "mean_tokens and",
        ),
        ({"pooling_mode_weightedmean_tokens": True}, ("Transformer", "Pooling"), "weightedmean"),
        ({}, ("Transformer", "Pooling"), "got: nothing"),
    ],
)
def test_what_is_not_followed_is_refused(
    tmp_path: Path, config: dict[str, Any], kinds: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_pooling(describe(tmp_path, config, kinds))


def test_what_lies_outside_of_the_directory_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    describe(tmp_path, {"pooling_mode_cls_token": True})
    modules = describe(folder, {"pooling_mode_max_tokens": True}) / "modules.json"
    modules.write_text(modules.read_text().replace("1_Pooling", "../1_Pooling"))
    with pytest.raises(InputError, match=r"Pooling in `\.\./1_Pooling`"):
        read_pooling(folder)


def test_prefixes_and_the_longest_text_come_from_the_directory(base: Path, tmp_path: Path) -> None:
    folder = describe(copy_of(base, tmp_path / "model"), {"pooling_mode_cls_token": True})
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "q: ", "document": "p: "}}'
    )
    found = read_embedding_inputs(folder)
    assert (found.pooling, found.made_for, found.query_prefix, found.passage_prefix) == (
        "cls",
        16,
        "q: ",
        "p: ",
    )
    plain = read_embedding_inputs(base)
    assert (plain.pooling, plain.made_for, plain.query_prefix, plain.passage_prefix) == ("mean", None, "", "")
    assert plain.longest == 32


@pytest.mark.parametrize("pooling", POOLINGS)
def test_engines_give_the_vector_that_the_pooling_makes_of_the_tokens(base: Path, pooling: str) -> None:
    spec = NetworkSpec("AutoModel", pooling=pooling, vector=True)
    theirs, ours = (engine(name).load(spec, base) for name in ("torch", "encoder"))
    with torch.inference_mode():
        tokens = [
            theirs.backbone(input_ids=ids[None, :n], attention_mask=torch.ones(1, n, dtype=torch.long))[0][0]
            for ids, n in zip(IDS, MASK.sum(dim=1).tolist(), strict=True)
        ]
        of_row = {
            "mean": lambda row: row.mean(dim=0),
            "cls": lambda row: row[0],
            "max": lambda row: row.amax(dim=0),
            "last": lambda row: row[-1],
        }
        expected = torch.stack([of_row[pooling](row) for row in tokens])
        for network in (theirs, ours):
            found = network(input_ids=IDS, attention_mask=MASK).logits
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            full = network(input_ids=IDS[:1], attention_mask=MASK[:1]).logits
            torch.testing.assert_close(full, expected[:1], rtol=1e-4, atol=1e-5)


def test_a_network_of_vectors_has_no_head_and_comes_back_as_it_was(base: Path, tmp_path: Path) -> None:
    spec = NetworkSpec("AutoModel", pooling="mean", vector=True)
    network, new = build_network(spec, base, seed=1)
    assert isinstance(network, VectorPooled)
    assert new == frozenset()
    assert not any("pooler" in name for name, _ in network.named_parameters())
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    tmp_path.joinpath("saved").mkdir()
    save_trained(network, tmp_path / "saved")
    assert (tmp_path / "saved" / WEIGHTS_FILE).is_file()
    assert not (tmp_path / "saved" / HEAD_FILE).exists()
    again = load_trained(spec, tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_a_converted_directory_keeps_what_is_said_of_its_vectors(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source = describe(copy_of(base, tmp_path / "pickled"), {"pooling_mode_max_tokens": True})
    torch.save(load_file(source / WEIGHTS_FILE), source / "pytorch_model.bin")
    (source / WEIGHTS_FILE).unlink()
    shutil.rmtree(source / "onnx", ignore_errors=True)
    convert(source, str(tmp_path / "out"))
    assert read_pooling(tmp_path / "out") == "max"
