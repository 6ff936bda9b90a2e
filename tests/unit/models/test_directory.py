"""What lies beside the weights: task, lineage, card, held-out examples."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from sparkml.errors import InputError
from sparkml.inference.scorer import load_scorer
from sparkml.models.directory import card, copy_inputs, publish, read_task
from sparkml.models.held_out import MOST_KEPT, read_held_out, write_held_out
from tests.tiny import copy_of, tiny_model

TASK = {"name": "classify", "options": {"max_length": 32}, "targets": {"labels": ["a", "b", "c"]}}
LINEAGE = {"model": "topics/v3", "step": "topics", "parent": "encoder/v1", "table": "kept", "version": 7}


def test_a_published_model_is_whole(classifier_folder: Path, encoder_folder: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.mkdir()
    for name in ("config.json", "model.safetensors"):
        (result / name).write_bytes((classifier_folder / name).read_bytes())
    (result / "checksums.json").write_text("{}")
    folder = tmp_path / "model"
    folder.mkdir()
    publish(
        folder, result=result, inputs=encoder_folder, task=TASK, lineage=LINEAGE, metrics={"accuracy": 0.875}
    )
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "README.md",
        "config.json",
        "inputs.json",
        "lineage.json",
        "model.safetensors",
        "task.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert read_task(folder) == TASK
    assert json.loads((folder / "lineage.json").read_text()) == LINEAGE
    assert load_scorer(folder).labels == ("a", "b", "c")


def test_the_card_says_what_the_model_does_and_where_it_comes_from() -> None:
    lines = card(TASK, LINEAGE, {"accuracy": 0.875, "macro_f1": 1 / 3}).splitlines()
    assert lines[0] == "# topics/v3"
    assert "Task `classify`, 3 labels." in lines
    assert "Made by step `topics` from `encoder/v1`, trained on `kept` version 7." in lines
    assert lines[lines.index("| --- | --- |") + 1 :][:2] == ["| accuracy | 0.875 |", "| macro_f1 | 0.3333 |"]
    assert "Labels: `a`, `b`, `c`" in lines


def test_the_card_of_a_model_without_labels() -> None:
    text = card({"name": "masked_lm", "targets": {}}, {**LINEAGE, "parent": ""}, {})
    assert "Task `masked_lm`." in text
    assert "from `random weights`" in text
    assert "Labels" not in text


@pytest.mark.parametrize("several", [False, True])
def test_a_plain_classifier_of_transformers_answers(tmp_path: Path, several: bool) -> None:
    labels = tuple(f"label-{n}" for n in range(11))  # their order is that of numbers, not of texts
    folder = tiny_model(tmp_path / "plain", "AutoModelForSequenceClassification", labels=labels)
    if several:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps({**config, "problem_type": "multi_label_classification"})
        )
    spec = read_task(folder)
    assert spec["name"] == "classify"
    assert spec["options"] == ({"several": True} if several else {})
    assert tuple(spec["targets"]["labels"]) == labels
    (answer,) = load_scorer(folder).answer(["win a prize"])
    assert {label for label, _ in answer.scores} == set(labels)
    total = sum(score for _, score in answer.scores)
    assert (abs(total - 1) < 1e-5) is not several


def test_a_model_without_a_task_and_a_task_that_is_none_are_refused(
    encoder_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no task[\s\S]*BertForMaskedLM"):
        read_task(encoder_folder)
    with pytest.raises(InputError, match="no task"):
        load_scorer(encoder_folder)
    folder = copy_of(encoder_folder, tmp_path / "copy")
    (folder / "task.json").write_text('{"name": "classify"}')
    with pytest.raises(InputError, match="no options, targets"):
        read_task(folder)


def test_only_files_of_inputs_are_copied(classifier_folder: Path, tmp_path: Path) -> None:
    copy_inputs(classifier_folder, tmp_path)
    names = ["tokenizer.json", "tokenizer_config.json"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == names


def test_held_out_examples_come_back_the_first_ones_of_many(tmp_path: Path) -> None:
    examples = pa.table({"doc_id": [str(n) for n in range(MOST_KEPT + 5)], "label": ["a"] * (MOST_KEPT + 5)})
    write_held_out(tmp_path, examples)
    assert read_held_out(tmp_path).equals(examples.slice(0, MOST_KEPT))


def test_a_model_without_held_out_examples_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"held_out\.parquet"):
        read_held_out(tmp_path)
