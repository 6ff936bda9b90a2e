"""Methods that can train, where there is nothing to train on: what they do at once, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from sparkml.compression.forms import Form, make
from sparkml.compression.methods import Given, MethodChoice, method, method_names
from sparkml.errors import ConfigError, InputError
from sparkml.inference.scorer import load_scorer
from sparkml.models.directory import read_task
from sparkml.models.folder import ADAPTER_FILE, CONFIG_FILE, WEIGHTS_FILE, read_json
from sparkml.tasks.task import task_of
from tests.tiny import tiny_classifier


@pytest.fixture
def given(tmp_path: Path) -> Given:
    folder = tiny_classifier(tmp_path / "model")
    examples = pa.RecordBatch.from_pydict({"doc_id": ["0"], "text": ["win money"], "label": ["a"]})
    return Given(folder, task_of(read_task(folder), folder), examples)


def made(given: Given, target: Path, **choice: Any) -> Path:
    return make(Form(given.folder, "finetuned"), MethodChoice(**choice), given, target).folder


def test_layers_and_channels_go_at_once(given: Given, tmp_path: Path) -> None:
    folder = made(
        given, tmp_path / "small", name="prune", layers=1, feed_forward=0.5, heads=0.5, retrain=False
    )
    config = read_json(folder / CONFIG_FILE)
    assert (config["num_hidden_layers"], config["intermediate_size"]) == (1, 32)
    (answer,) = load_scorer(folder).answer(["win money"])
    assert answer.prediction in "abc"
    (same,) = load_scorer(folder, engine_name="torch").answer(["win money"])
    assert dict(answer.scores or ()) == pytest.approx(dict(same.scores or ()), abs=1e-5)
    (choice,) = read_json(folder / "compression.json")["recipe"]
    assert (choice["name"], choice["layers"]) == ("prune", 1)


def test_the_smallest_weights_become_zero_at_once(given: Given, tmp_path: Path) -> None:
    folder = made(given, tmp_path / "sparse", name="prune", sparsity=0.75, retrain=False)
    state = load_file(folder / WEIGHTS_FILE)
    share = {name: float((tensor == 0).float().mean()) for name, tensor in state.items() if ".layer." in name}
    matrices = [name for name in share if name.endswith("weight") and "LayerNorm" not in name]
    assert len(matrices) == 12
    assert [share[name] for name in matrices] == [0.75] * 12
    exact = load_file(given.folder / WEIGHTS_FILE)
    name = matrices[0]
    stays = state[name] != 0
    assert exact[name][stays].abs().min() >= exact[name][~stays].abs().max()
    assert (state[name] == exact[name])[stays].all()


@pytest.mark.parametrize("choice", [{"name": "distil"}, {"name": "qat"}, {"name": "prune", "layers": 1}])
def test_what_has_to_train_asks_for_a_table(given: Given, tmp_path: Path, choice: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"nothing to train on[\s\S]*source=TABLE"):
        made(given, tmp_path / "none", **choice)
    assert MethodChoice(**choice).trains


def test_settings_that_say_nothing_or_too_much_are_refused(given: Given, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ValidationError), match="say what goes"):
        MethodChoice(name="prune")
    with pytest.raises(InputError, match="fewer blocks"):
        made(given, tmp_path / "deep", name="prune", layers=3, retrain=False)
    with pytest.raises(ConfigError, match=r"no such field[\s\S]*num_hidden_layers"):
        made(given, tmp_path / "typo", name="distil", student={"num_hiden_layers": 1})


def test_a_model_in_two_parts_is_refused(given: Given, tmp_path: Path) -> None:
    (given.folder / ADAPTER_FILE).write_text("{}")
    with pytest.raises(InputError, match="kept apart"):
        made(given, tmp_path / "apart", name="prune", layers=1, retrain=False)


def test_every_method_says_whether_it_trains_and_is_taught() -> None:
    options = {"prune": {"layers": 1}}
    trains = {name for name in method_names() if MethodChoice(name=name, **options.get(name, {})).trains}
    assert trains == {"prune", "distil", "qat"}
    assert {name for name in method_names() if method(name).taught} == {"distil"}
