"""Models that were not trained here are asked for a task that needs no training; others say why they cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparkml
from sparkml.errors import ConfigError, InputError
from sparkml.inference.batches import ModelSource, answering_task, worker_scorer
from sparkml.models.directory import TASK_FILE
from sparkml.models.folder import write_json
from sparkml.tasks.asked import asked_spec
from sparkml.tasks.retrieve import Retrieve
from sparkml.tasks.task import TaskChoice
from tests.tiny import SHAPE, copy_of, tiny_classifier, tiny_encoder, tiny_model
from tests.writers import GPT2


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder as transformers writes it."""
    return tiny_model(tmp_path_factory.mktemp("asked") / "raw", "AutoModel", config=SHAPE)


def test_a_pretrained_encoder_gives_unit_vectors(raw: Path) -> None:
    scorer = sparkml.load_scorer(str(raw), task="retrieve")
    long, short, missing = scorer.answer(["win the prize " * 30, "lunch", None])
    assert scorer.engine == "encoder"
    assert np.linalg.norm(long.embedding or []) == pytest.approx(1.0, abs=1e-5)
    assert (len(short.embedding or []), short.prediction, short.scores) == (32, None, None)
    assert missing.error == "text_missing null"
    other = sparkml.load_scorer(str(raw), task={"name": "retrieve", "pooling": "cls"}).answer(["lunch"])[0]
    assert other.embedding != short.embedding
    same = sparkml.load_scorer(str(raw), task="retrieve", engine="torch").answer(["lunch"])[0]
    assert same.embedding == pytest.approx(short.embedding, abs=1e-5)


def test_a_pretrained_decoder_goes_on_with_a_text(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "decoder", "AutoModelForCausalLM", config=GPT2)
    (answer,) = sparkml.load_scorer(str(folder), task={"name": "causal_lm", "max_new_tokens": 4}).answer(
        ["win"]
    )
    assert answer.error is None
    assert answer.output


def test_without_a_task_the_error_says_how_to_ask(raw: Path) -> None:
    with pytest.raises(InputError, match=r"the model has no task[\s\S]*task\.name=retrieve"):
        sparkml.load_scorer(str(raw))


def test_what_has_to_be_learnt_says_so(raw: Path) -> None:
    with pytest.raises(InputError, match=r"task classify has to be learnt[\s\S]*retrieve[\s\S]*finetune"):
        sparkml.load_scorer(str(raw), task="classify")
    with pytest.raises(ConfigError, match=r"task\.poling"):
        sparkml.load_scorer(str(raw), task={"name": "retrieve", "poling": "cls"})


def test_a_masked_language_model_of_ours_answers_nothing_and_can_be_asked(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "encoder")
    write_json(folder / TASK_FILE, {"name": "masked_lm", "options": {}, "targets": {}})
    with pytest.raises(InputError, match="no answers"):
        answering_task(folder)
    assert answering_task(folder, TaskChoice(name="retrieve")) is Retrieve
    assert sparkml.load_scorer(str(folder), task="retrieve").answer(["lunch"])[0].error is None


def test_a_trained_model_answers_its_own_task_with_other_settings(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "trained")
    options = {"max_length": 16, "pooling": "mean", "query_prefix": "win ", "passage_prefix": "late "}
    write_json(folder / TASK_FILE, {"name": "retrieve", "options": options, "targets": {}})
    passages = sparkml.load_scorer(str(folder), task={"name": "retrieve", "side": "passage"})
    assert passages.task.options.max_length == 16
    plain = sparkml.load_scorer(str(raw), task="retrieve")
    expected = plain.answer(["late train", "win train"])
    assert passages.answer(["train"])[0].embedding == pytest.approx(expected[0].embedding, abs=1e-6)
    queries = sparkml.load_scorer(str(folder))
    assert queries.answer(["train"])[0].embedding == pytest.approx(expected[1].embedding, abs=1e-6)


def test_a_trained_model_is_not_asked_for_another_task(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "classifier")
    with pytest.raises(
        InputError, match=r"answers another task[\s\S]*task classify, which it was trained for"
    ):
        asked_spec(folder, TaskChoice(name="retrieve"))
    (folder / TASK_FILE).unlink()
    # What its architecture says stays to be had, and its encoder without the head.
    assert asked_spec(folder, TaskChoice(name="classify", max_length=8))["targets"]["labels"] == [
        "a",
        "b",
        "c",
    ]
    assert asked_spec(folder, TaskChoice(name="retrieve"))["name"] == "retrieve"


def test_a_worker_keeps_apart_what_is_asked_of_one_model(raw: Path) -> None:
    def asked(**settings: str) -> ModelSource:
        choice = TaskChoice(name="retrieve", **settings)
        return ModelSource(
            str(raw), "same", 1, "auto", Retrieve.read_inputs(str(raw)), choice.model_dump_json()
        )

    mean, first = worker_scorer(asked()), worker_scorer(asked(pooling="cls"))
    assert mean is not first
    assert worker_scorer(asked()) is mean


def test_the_example_of_the_readme_runs() -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    (example,) = (one for one in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "Neighbours" in one)
    names: dict[str, Any] = {"sparkml": sparkml}
    exec(compile(example, "README.md", "exec"), names)
    assert names["ids"].tolist() == [["a"]]
    assert 0.1 < names["similarities"][0, 0] < 1
