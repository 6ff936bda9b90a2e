"""Which task a model directory is asked to answer: its own, or one that a pretrained network answers as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparkml.errors import InputError
from sparkml.models.directory import TASK_FILE, read_task
from sparkml.models.folder import CONFIG_FILE, check_folder
from sparkml.tasks.task import Targets, TaskChoice, task_class, task_names


def asked_spec(folder: str | Path, asked: TaskChoice | None = None) -> dict[str, Any]:
    """The task of a model directory as plain data, as `make_task` takes it.

    asked: settings that differ from those that its own task was trained with; or, for a directory that answers nothing
    by itself, a task that needs no training. InputError where the directory answers another task, or the one that is
    asked for has to be learnt first.
    """
    path = Path(folder)
    if asked is None:
        return read_task(path)
    own = _own_task(path)
    if own is not None and own["name"] == asked.name:
        # Read again, so that a setting which is wrong is named.
        choice = TaskChoice(name=asked.name, **{**own["options"], **(asked.model_extra or {})})
        return {**own, "options": choice.options.model_dump(mode="json", exclude_unset=True)}
    if own is not None and (path / TASK_FILE).is_file():
        raise InputError(
            "the model answers another task",
            where=str(path / TASK_FILE),
            got=f"task {asked.name}",
            expected=f"task {own['name']}, which it was trained for",
            next_action="ask it without naming a task",
        )
    if asked.task.needs_training:
        able = [name for name in task_names() if not task_class(name).needs_training]
        raise InputError(
            f"task {asked.name} has to be learnt: nothing in the model's directory answers it",
            where=str(path),
            got=f"no {TASK_FILE} of task {asked.name}",
            expected=f"a model that was trained for it, or a task that needs no training: {', '.join(able)}",
            next_action="make a model of it that answers: the stage finetune",
        )
    # What is not given stays so: the directory may have a word about it.
    options = asked.options.model_dump(mode="json", exclude_unset=True)
    return {"name": asked.name, "options": options, "targets": Targets().model_dump(mode="json")}


def _own_task(path: Path) -> dict[str, Any] | None:
    """What the directory answers by itself; None where it answers nothing."""
    check_folder(path, CONFIG_FILE)
    try:
        spec = read_task(path)
    except InputError:
        return None
    return spec if task_class(spec["name"]).has_answers else None
