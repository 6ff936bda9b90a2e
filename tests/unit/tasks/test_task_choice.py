"""Tasks by name: what there is, what a step may set, and what travels with a model."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from sparkml.errors import ConfigError
from sparkml.models.inputs import TextInputs
from sparkml.tasks.classify import Classify, ClassifyOptions
from sparkml.tasks.task import Targets, TaskChoice, make_task, task_class, task_names, task_spec


def test_tasks_by_name() -> None:
    names = task_names()
    assert {"causal_lm", "classify", "masked_lm", "pairs", "regress", "seq2seq"} <= set(names)
    for name in names:
        task = task_class(name)
        assert task.name == name
        assert task.summary
        assert {"text"} & set(task.reads) or task.reads
        assert set(task.target_columns) <= set(task.reads)


@pytest.mark.parametrize("name", ["clasify", "task", "texts", "os.path", "../classify"])
def test_a_task_that_there_is_not_is_an_error_that_lists_them(name: str) -> None:
    with pytest.raises(ConfigError, match="no such task") as caught:
        task_class(name)
    assert caught.value.got == name
    assert "classify, " in caught.value.expected
    if name == "clasify":
        assert "did you mean `classify`" in caught.value.next_action


def test_a_choice_has_the_settings_of_its_task() -> None:
    choice = TaskChoice(name="classify", max_length=64, several=True)
    assert choice.task is Classify
    assert choice.options == ClassifyOptions(max_length=64, several=True)
    assert TaskChoice(name="masked_lm").options.mask_fraction == 0.15


@pytest.mark.parametrize(
    ("settings", "where", "got"),
    [
        ({"max_lenght": 64}, "task.max_lenght", "64"),
        ({"max_length": 3}, "task.max_length", "3"),
        ({"pooling": "max"}, "task.pooling", "'max'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], where: str, got: str) -> None:
    with pytest.raises(ConfigError, match="task classify: ") as caught:
        TaskChoice(name="classify", **settings)
    assert (caught.value.where, caught.value.got) == (where, got)
    assert "max_length" in caught.value.expected
    if where == "task.max_lenght":
        assert "did you mean `max_length`" in caught.value.next_action


def test_settings_and_targets_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ClassifyOptions().max_length = 9  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        Targets(labels=(), weights=1)  # type: ignore[arg-type]


def test_a_task_travels_as_json(inputs: TextInputs) -> None:
    targets = Targets(labels=("a", "b"), counts={"a": 3, "b": 2}, numbers={"train:a": 0.5})
    task = Classify(ClassifyOptions(max_length=16), targets, inputs)
    again = make_task(task_spec(task), inputs)
    assert (type(again), again.options, again.targets) == (Classify, task.options, targets)


@pytest.mark.parametrize("name", task_names())
def test_labels_are_counted_from_the_columns_that_the_task_names(name: str) -> None:
    """A stage gives `count` these columns alone."""
    task = task_class(name)
    every = {
        "label": pa.array(["1", "2"]),
        "text_b": pa.array(["one", None]),
        "tokens": pa.array([["a", "b"], ["c"]]),
        "tags": pa.array([["B-X", "O"], ["O"]]),
    }
    names = task.counted_columns or task.target_columns
    rows = {"split": pa.array(["train", "train"]), **{column: every[column] for column in names}}
    counts = task.count(task.Options(), pa.RecordBatch.from_pydict(rows))
    assert bool(counts) == task.has_figures
