"""Forms of a model: directories that methods make one of the other, and layers that go back to float."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sparkml.compression.gate import Verdict
from sparkml.compression.methods import NOTHING, Given, MethodChoice
from sparkml.errors import InputError
from sparkml.inference.scorer import load_scorer
from sparkml.log import get_logger
from sparkml.models.directory import TASK_FILE, copy_inputs, keep_text_inputs, read_task
from sparkml.models.folder import COMPRESSION_FILE, CONFIG_FILE, GENERATION_FILE, form_of, write_json
from sparkml.tasks.task import task_of

_log = get_logger(__name__)
# Of so many examples the outputs say how much the rounding of a group of layers disturbs.
_SENSITIVITY_ROWS = 256

Judge = Callable[[Path], Verdict]


@dataclass(frozen=True)
class Form:
    """A model directory, and what was done to get there: methods, and the groups of layers that each left alone."""

    folder: Path
    kind: str
    done: tuple[tuple[MethodChoice, frozenset[str]], ...] = ()

    @property
    def name(self) -> str:
        """The methods in their order."""
        return " > ".join(str(choice) for choice, _ in self.done) or "as it is"

    @property
    def kept(self) -> frozenset[str]:
        """The groups that the last method left alone."""
        return self.done[-1][1] if self.done else NOTHING


def make(
    form: Form, choice: MethodChoice, given: Given, folder: Path, kept: frozenset[str] = NOTHING
) -> Form:
    """Apply one method of a recipe; InputError where the form is one that methods cannot start from."""
    written = form_of(form.folder)
    if written:
        raise InputError(
            "the model's weights are in a form already that only engines read",
            where=str(form.folder),
            got=f"{form.name}, {written}/",
            next_action=f"put {choice.name} before the method that wrote them",
        )
    folder.mkdir(parents=True)
    made = Form(folder, choice.method.kind, (*form.done, (choice, kept)))
    choice.method.apply(replace(_of(given, form), making=made.name), folder, choice.options, kept)
    copy_inputs(form.folder, folder, GENERATION_FILE)
    for name in (CONFIG_FILE, TASK_FILE):
        if not (folder / name).is_file():
            shutil.copyfile(form.folder / name, folder / name)
    keep_text_inputs(folder)
    write_json(folder / COMPRESSION_FILE, _facts(made))
    return made


def _facts(form: Form) -> dict[str, object]:
    recipe = [{**choice.model_dump(mode="json"), "stayed_float": sorted(kept)} for choice, kept in form.done]
    is_lower = any(choice.method.kind == "bfloat16" for choice, _ in form.done)
    return {"recipe": recipe, **({"precision": "bfloat16"} if is_lower else {})}


def back_to_float(
    before: Form, failed: tuple[Form, Verdict], given: Given, work: Path, judge: Judge, most: float
) -> tuple[Form, Verdict]:
    """Of a form that failed the one with the fewest groups of layers left alone that holds, the most sensitive first.

    `before`: what the last method started from; `most`: share of the groups that may be left alone. Where none holds
    the last one tried comes back, with its verdict. That more groups left alone are no worse is taken for granted.
    """
    choice = failed[0].done[-1][0]
    order = _by_sensitivity(before, choice, given, work)
    limit = int(most * len(order))
    made: dict[int, tuple[Form, Verdict]] = {0: failed}

    def at(n: int) -> tuple[Form, Verdict]:
        if n not in made:
            kept = frozenset(order[:n])
            one = make(before, choice, given, work / f"float-{n}", kept)
            made[n] = (one, judge(one.folder))
            said = made[n][1].reason or "holds"
            _log.info("%s, %d of %d groups of layers float: %s", one.name, n, len(order), said)
        return made[n]

    low, high = 0, min(1, limit)
    while not at(high)[1].holds and high < limit:
        low, high = high, min(2 * high, limit)
    if not at(high)[1].holds:
        return at(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle)[1].holds else (middle, high)
    return at(high)


def _of(given: Given, form: Form) -> Given:
    return replace(given, folder=form.folder, task=task_of(read_task(form.folder), form.folder))


def _by_sensitivity(before: Form, choice: MethodChoice, given: Given, work: Path) -> Sequence[str]:
    """The groups of layers, those first whose rounding alone moves the outputs most."""
    groups = choice.method.groups(_of(given, before)) if choice.method.groups else ()
    sample = given.examples.slice(0, _SENSITIVITY_ROWS)
    exact = _outputs(before.folder, sample)
    moved: dict[str, float] = {}
    for number, group in enumerate(groups):
        folder = work / f"alone-{number}"
        make(before, choice, given, folder, frozenset(groups) - {group})
        found = _outputs(folder, sample)
        shutil.rmtree(folder)
        moved[group] = float(np.mean([given.task.moved(a, b) for a, b in zip(exact, found, strict=True)]))
    return sorted(groups, key=lambda group: -moved[group])


def _outputs(folder: Path, sample: object) -> list[np.ndarray]:
    outputs, _, _ = load_scorer(folder).outputs_of(sample)
    return [output for output in outputs if output is not None]
