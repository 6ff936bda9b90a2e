"""Methods: what each writes, that every engine reads it, and what of it may stay float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from sparkml.compression.forms import Form, make
from sparkml.compression.methods import MethodChoice, method, method_names
from sparkml.errors import ConfigError, InputError
from sparkml.inference.scorer import load_scorer
from sparkml.models.folder import COMPRESSION_FILE, PACKED_FOLDER, WEIGHTS_FILE, read_json
from sparkml.models.packed import read_packed
from tests.forms import compressed, given_of
from tests.tiny import tiny_classifier

TEXTS = ["win a prize now", "lunch tomorrow", "free cash " * 9, "train late home"]
WAYS: list[tuple[str, dict[str, object]]] = [
    ("int8_dynamic", {}),
    ("bf16", {}),
    ("weight_only", {}),
    ("weight_only", {"bits": 4, "group": 8}),
]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("methods") / "float", ("ham", "spam"))


def scores(folder: Path, engine: str = "auto") -> np.ndarray:
    answers = load_scorer(folder, engine_name=engine).answer(TEXTS)
    return np.array([[dict(answer.scores or ())[label] for label in ("ham", "spam")] for answer in answers])


@pytest.mark.parametrize(("name", "settings"), WAYS)
def test_every_engine_answers_nearly_as_before(
    exact: Path, tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    folder = compressed(exact, tmp_path / "made", name, **settings)
    wanted = scores(exact)
    by_engine = [scores(folder, engine) for engine in ("encoder", "torch")]
    for found in by_engine:
        assert 0 < np.abs(found - wanted).max() < 0.05
    assert np.abs(by_engine[0] - by_engine[1]).max() < 0.005
    small = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert small < 0.7 * (exact / WEIGHTS_FILE).stat().st_size
    said = read_json(folder / COMPRESSION_FILE)
    assert said["recipe"] == [{"name": name, **settings, "stayed_float": []}]


def test_a_bfloat16_directory_is_one_of_transformers(exact: Path, tmp_path: Path) -> None:
    folder = compressed(exact, tmp_path / "made", "bf16")
    state = load_file(folder / WEIGHTS_FILE)
    kinds = {name: tensor.dtype for name, tensor in state.items()}
    assert kinds["bert.encoder.layer.0.output.dense.weight"] == torch.bfloat16
    assert kinds["bert.encoder.layer.0.output.LayerNorm.weight"] == torch.float32
    assert kinds["classifier.weight"] == torch.float32
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 2


@pytest.mark.parametrize(
    ("bits", "group", "most"), [(8, 64, 0.006), (8, 8, 0.005), (4, 64, 0.12), (4, 8, 0.08)]
)
def test_packed_weights_are_off_by_half_a_level_at_most(
    exact: Path, tmp_path: Path, bits: int, group: int, most: float
) -> None:
    folder = compressed(exact, tmp_path / "made", "weight_only", bits=bits, group=group)
    before, after = load_file(exact / WEIGHTS_FILE), read_packed(folder / PACKED_FOLDER)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if "dense.weight" in name and "pooler" not in name:
            assert 0 < float((after[name] - weight).norm() / weight.norm()) < 1.5 * most
    assert torch.equal(after["classifier.weight"], before["classifier.weight"])
    stored = (folder / PACKED_FOLDER / WEIGHTS_FILE).stat().st_size
    assert stored < (0.6 if bits == 8 else 0.5) * (exact / WEIGHTS_FILE).stat().st_size


def test_packed_weights_that_were_cut_off_are_refused(exact: Path, tmp_path: Path) -> None:
    folder = compressed(exact, tmp_path / "made", "weight_only")
    file = folder / PACKED_FOLDER / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:-9])
    for engine in ("encoder", "torch"):
        with pytest.raises(InputError, match="not weights of a few bits"):
            load_scorer(folder, engine_name=engine)


@pytest.mark.parametrize("name", ["int8_dynamic", "weight_only"])
def test_groups_that_stay_float_are_as_they_were(exact: Path, tmp_path: Path, name: str) -> None:
    given, choice = given_of(exact), MethodChoice(name=name)
    groups: Sequence[str] = method(name).groups(given)  # type: ignore[misc]  # it has some
    assert "bert.encoder.layer.0.attention.self" in groups
    assert len(groups) == 2 * 4 + 2  # four a block, the words, the pooler
    whole, off = scores(exact), []
    for kept in ((), groups[:4], groups):
        form = make(Form(exact, "finetuned"), choice, given, tmp_path / f"{len(kept)}", frozenset(kept))
        assert form.kept == frozenset(kept)
        by_engine = [np.abs(scores(form.folder, engine) - whole).max() for engine in ("encoder", "torch")]
        off.append(max(by_engine))
    assert off[0] > 0
    assert off[2] < 1e-6


def test_what_is_not_a_method_or_not_its_setting_is_named() -> None:
    assert {"int8_dynamic", "bf16", "weight_only"} <= set(method_names())
    with pytest.raises(ConfigError, match=r"no such method[\s\S]*int8_dynamic"):
        MethodChoice(name="int8_dinamic")
    with pytest.raises(ConfigError, match=r"method weight_only[\s\S]*bits, group"):
        MethodChoice.model_validate({"name": "weight_only", "bit": 4})
    assert str(MethodChoice.model_validate("bf16")) == "bf16"
    assert str(MethodChoice.model_validate({"name": "weight_only", "bits": 4})) == "weight_only (bits 4)"
