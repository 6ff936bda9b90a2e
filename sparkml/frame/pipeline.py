"""A pipeline: named steps, each a use of a stage. Their order follows from what they read and write.

    steps:
      ingest: {}
      clean: {rules: []}
      sentiment: {stage: finetune, source: clean, model: encoder}
      by_sentiment: {stage: score, source: clean, model: sentiment}

What no step makes (here `encoder` and the table `duplicates`) must already be in the lake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import pairwise

from sparkml.errors import ConfigError, UsageError
from sparkml.frame import storage
from sparkml.frame.config_layers import did_you_mean
from sparkml.frame.stage import Role, Stage, StageConfig

PACKAGE = "package:"  # a model that an installed Python package carries
MODEL_MARK = "models:"


@dataclass(frozen=True)
class Step:
    """A named use of a stage: what the ledger, rejects, models and re-runs belong to."""

    name: str
    stage: Stage
    config: StageConfig

    def refs(self, *roles: Role) -> dict[str, str]:
        """Field -> the table or model that it names; of a field that names several `field.name`."""
        found: dict[str, str] = {}
        for field in self.stage.fields(*roles):
            value = getattr(self.config, field)
            if isinstance(value, Mapping):
                found |= {f"{field}.{name}": str(ref) for name, ref in value.items()}
            elif value is not None:
                found[field] = str(value)
        return found

    @property
    def reads(self) -> list[str]:
        """Tables that go in."""
        return list(self.refs("reads").values())

    @property
    def writes(self) -> list[str]:
        """Tables that come out, those shared with other steps included."""
        return list(self.refs("writes", "shares").values())

    @property
    def uses(self) -> list[str]:
        """Models that go in, by the names that the configuration gives them."""
        return list(self.refs("uses").values())

    @property
    def makes(self) -> str | None:
        """The model that comes out."""
        return next(iter(self.refs("makes").values()), None)

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Every field that names an input, and what it names; models are marked."""
        yield from self.refs("reads").items()
        for field, model in self.refs("uses").items():
            yield field, model_ref(model_name(model))

    def outputs(self) -> Iterator[tuple[str, str]]:
        """Every field that names an output, and what it names; models are marked."""
        yield from self.refs("writes", "shares").items()
        for field, model in self.refs("makes").items():
            yield field, model_ref(model)


@dataclass(frozen=True)
class Pipeline:
    """Steps in an order in which each comes after those that make what it reads."""

    name: str
    steps: tuple[Step, ...]

    @classmethod
    def of(
        cls, name: str, steps: Sequence[Step], known: Callable[[str], bool] = lambda ref: False
    ) -> Pipeline:
        """Order the steps; ConfigError for a cycle, two writers of a table, or an input that nothing makes.

        `known(ref)` says whether a table or model (`models:NAME`) is already in the lake, made by another pipeline.
        """
        writers = _writers(name, steps)
        needs = {step.name: set[str]() for step in steps}
        for step in steps:
            for field, ref in step.inputs():
                makers = {maker for maker in writers.get(ref, ()) if maker != step.name}
                if not makers and not _is_outside(ref) and not known(ref):
                    raise _unknown_reference(name, step, field, ref, sorted(writers))
                needs[step.name] |= makers
            if step.stage.last:
                needs[step.name] |= {other.name for other in steps if not other.stage.last}
        return cls(name, _ordered(name, steps, needs))

    @cached_property
    def by_name(self) -> Mapping[str, Step]:
        """The steps by their names."""
        return {step.name: step for step in self.steps}

    def step(self, name: str) -> Step:
        """The step of that name; UsageError lists those there are."""
        if name not in self.by_name:
            known = list(self.by_name)
            raise UsageError(
                f"pipeline `{self.name}` has no step `{name}`",
                expected=", ".join(known),
                next_action=did_you_mean(name, known),
            )
        return self.by_name[name]

    def chosen(self, names: Sequence[str]) -> tuple[Step, ...]:
        """The named steps in the order of the pipeline."""
        wanted = {self.step(name).name for name in names}
        return tuple(step for step in self.steps if step.name in wanted)

    def until(self, name: str | None) -> tuple[Step, ...]:
        """The steps up to and including `name`; all for None."""
        if name is None:
            return self.steps
        return self.steps[: self.steps.index(self.step(name)) + 1]

    def upstream(self, step: Step) -> tuple[str, ...]:
        """The steps whose outputs `step` takes; for one that runs last, all others."""
        if step.stage.last:
            return tuple(other.name for other in self.steps if not other.stage.last)
        wanted = {ref for _, ref in step.inputs()}
        return tuple(
            other.name
            for other in self.steps
            if other.name != step.name and wanted & {ref for _, ref in other.outputs()}
        )


def model_ref(model_id: str) -> str:
    """How the ledger names a model among the tables that a run reads and writes."""
    return f"{MODEL_MARK}{model_id}"


def model_name(model: str) -> str:
    """The registry's name in `name` or `name/v3`; a directory or URI stays what it is."""
    name, slash, version = model.rpartition("/v")
    return name if slash and version.isdigit() and "/" not in name else model


def is_directory(model: str) -> bool:
    """True where a model field names a directory, URI or package, not a model of the registry."""
    return model.startswith(PACKAGE) or "/" in model_name(model) or "://" in model


def _is_outside(ref: str) -> bool:
    """A path, URI or catalog name: no step of a pipeline makes it."""
    name = ref.removeprefix(MODEL_MARK)
    return is_directory(name) or (not ref.startswith(MODEL_MARK) and "." in name) or storage.is_catalog(ref)


def _writers(pipeline: str, steps: Sequence[Step]) -> dict[str, list[str]]:
    writers: dict[str, list[str]] = {}
    owners: dict[str, tuple[str, str]] = {}
    for step in steps:
        own = {*step.refs("writes").values(), *(model_ref(model) for model in step.refs("makes").values())}
        for field, ref in step.outputs():
            writers.setdefault(ref, []).append(step.name)
            first = owners.get(ref)
            if first is not None and (ref in own or first[1] == "own"):
                raise ConfigError(
                    f"two steps write `{ref}`",
                    where=f"pipeline `{pipeline}`, steps `{first[0]}` and `{step.name}`",
                    next_action=f"give one of them another name: {step.name}.{field}=NAME",
                )
            owners[ref] = (step.name, "own" if ref in own else "shared")
    return writers


def _unknown_reference(pipeline: str, step: Step, field: str, ref: str, made: list[str]) -> ConfigError:
    kind = "model" if ref.startswith(MODEL_MARK) else "table"
    name = ref.removeprefix(MODEL_MARK)
    same = [
        other.removeprefix(MODEL_MARK) for other in made if other.startswith(MODEL_MARK) == (kind == "model")
    ]
    return ConfigError(
        f"step `{step.name}` takes {kind} `{name}`, which no step makes and which is not in the lake",
        where=f"pipeline `{pipeline}`, {step.name}.{field}",
        got=name,
        expected=", ".join(same) or f"a {kind} that a step makes",
        next_action=did_you_mean(name, same) if same else "",
    )


def _ordered(pipeline: str, steps: Sequence[Step], needs: Mapping[str, set[str]]) -> tuple[Step, ...]:
    """Kahn's algorithm; of the steps that are free, the one that the file names first."""
    place = {step.name: number for number, step in enumerate(steps)}
    left = {name: set(before) for name, before in needs.items()}
    free = [place[name] for name, before in left.items() if not before]
    heapify(free)
    order: list[Step] = []
    while free:
        step = steps[heappop(free)]
        order.append(step)
        del left[step.name]
        for name, before in left.items():
            if step.name in before:
                before.remove(step.name)
                if not before:
                    heappush(free, place[name])
    if left:
        raise _cycle(pipeline, steps, left)
    return tuple(order)


def _cycle(pipeline: str, steps: Sequence[Step], left: Mapping[str, set[str]]) -> ConfigError:
    name = min(left)
    path = [name]
    while path[-1] not in path[:-1]:
        path.append(min(left[path[-1]]))
    path = path[path.index(path[-1]) :]
    by_name = {step.name: step for step in steps}
    ends = []
    for reader, maker in pairwise(path):
        made = {ref for _, ref in by_name[maker].outputs()}
        field, ref = next((field, ref) for field, ref in by_name[reader].inputs() if ref in made)
        ends.append(f"{reader}.{field} = {ref.removeprefix(MODEL_MARK)}, made by {maker}")
    return ConfigError(
        "the steps wait for each other in a circle",
        where=f"pipeline `{pipeline}`",
        got="; ".join(ends),
        next_action="let one of them read another table",
    )
