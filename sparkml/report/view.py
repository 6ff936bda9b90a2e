"""The steps of a lake in their order, each as its last successful run left it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.frame import storage
from sparkml.frame.ledger import SUCCEEDED, Run
from sparkml.frame.pipeline import MODEL_MARK, is_directory, model_name, model_ref
from sparkml.frame.stage import Role, Stage
from sparkml.report.config import ReportConfig
from sparkml.report.lake import Excerpt, Lake, Model, Place


@dataclass(frozen=True)
class StepView:
    """One step: what a section's `gather` is given.

    A table or model is asked for by the field of the step's configuration that names it.
    """

    lake: Lake = field(repr=False, compare=False)
    run: Run

    @property
    def limits(self) -> ReportConfig:
        """How much the page may show."""
        return self.lake.limits

    @property
    def stage(self) -> Stage | None:
        """The step's stage; None where it is not installed (any more)."""
        return self.lake.stage(self.run.stage)

    @property
    def step(self) -> str:
        """The step's name."""
        return self.run.step

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the run."""
        found = json.loads(self.run.config or "{}")
        return found if isinstance(found, dict) else {}

    @cached_property
    def shared(self) -> frozenset[str]:
        """Tables in which the step owns the rows that name it."""
        return frozenset(self._named("shares"))

    @property
    def takes(self) -> dict[str, int]:
        """What went in, tables and models, except what the step itself adds to."""
        return {ref: version for ref, version in self.run.inputs.items() if ref not in self.run.outputs}

    @property
    def owned(self) -> list[Place]:
        """Tables that the step wrote as a whole, in the order of its configuration where the stage is known."""
        outputs = {ref: version for ref, version in self.run.outputs.items() if ref not in self.shared}
        return self._places(outputs, "writes")

    @property
    def tables_in(self) -> list[Place]:
        """Tables that went in, in the order of the configuration where the stage is known."""
        return self._places(self.takes, "reads")

    def place(self, name: str) -> Place | None:
        """The table that a field names, at the version that the run wrote or read."""
        ref = self.config.get(name)
        version = self.run.outputs.get(ref, self.run.inputs.get(ref)) if isinstance(ref, str) else None
        return None if version is None else Place(str(ref), version)

    def table(self, name: str) -> DataFrame | None:
        """The table that a field names; of a shared one the rows of this step. None where the run did not touch it."""
        place = self.place(name)
        return None if place is None else self.rows_of(place)

    def rows_of(self, place: Place) -> DataFrame:
        """A table at a version; of a shared one the rows of this step."""
        table = self.lake.table(place)
        shared = place.ref in self.shared and "step" in table.columns
        return table.where(F.col("step") == self.step) if shared else table

    def documents(self, name: str, doc_ids: Iterable[str], characters: int) -> dict[str, Excerpt]:
        """The beginnings of a few documents of the table that a field names, by id."""
        place = self.place(name)
        return {} if place is None else self.lake.documents({place: doc_ids}, characters)[place]

    def model(self, name: str) -> Model | None:
        """The model that a field names, at the version that the run made or used."""
        value = self.config.get(name)
        if not isinstance(value, str):
            return None
        ref = model_ref(storage.normalise(value) if is_directory(value) else model_name(value))
        version = self.run.outputs.get(ref, self.run.inputs.get(ref))
        return None if version is None else self.lake.model(ref, version)

    def _places(self, versions: Mapping[str, int], role: Role) -> list[Place]:
        order = list(self._named(role))
        found = [Place(ref, at) for ref, at in versions.items() if not ref.startswith(MODEL_MARK)]
        return sorted(found, key=lambda place: order.index(place.ref) if place.ref in order else len(order))

    def _named(self, *roles: Role) -> Iterator[str]:
        for name in self.stage.fields(*roles) if self.stage is not None else ():
            if isinstance(self.config.get(name), str):
                yield self.config[name]


def last_views(lake: Lake) -> list[StepView]:
    """Every step that has a successful run, in the order of their first ones."""
    last = {run.step: run for run in lake.runs if run.status == SUCCEEDED}
    return [StepView(lake, run) for run in last.values()]


def step_views(lake: Lake) -> tuple[StepView, ...]:
    """Every step that has a successful run: none before those whose outputs it takes.

    Of the steps that may come next, those of the report's own pipeline go first, then the one that succeeded earliest:
    a repeated step keeps its place.
    """
    first: dict[str, datetime] = {}
    for run in lake.runs:
        if run.status == SUCCEEDED:
            first.setdefault(run.step, run.started_at)
    views = last_views(lake)
    views.sort(key=lambda view: (view.run.pipeline != lake.pipeline, first[view.step], view.step))
    before = {view.step: {other.step for other in upstream(view, views)} for view in views}
    by_step = {view.step: view for view in views}
    return tuple(by_step[step] for step in _ordered([view.step for view in views], before))


def upstream(view: StepView, views: Iterable[StepView], *, tables_only: bool = False) -> list[StepView]:
    """The steps that write what a step takes."""
    taken = {ref for ref in view.takes if not (tables_only and ref.startswith(MODEL_MARK))}
    return [other for other in views if other.step != view.step and taken & set(other.run.outputs)]


def _ordered(steps: Sequence[str], before: Mapping[str, set[str]]) -> Iterator[str]:
    """Kahn's algorithm; where steps wait for each other in a circle (a table has a new writer), the first one goes."""
    place = {step: at for at, step in enumerate(steps)}
    left = {step: set(before[step]) for step in steps}
    free = [place[step] for step in steps if not left[step]]
    heapify(free)
    while left:
        step = steps[heappop(free)] if free else min(left, key=place.__getitem__)
        del left[step]
        yield step
        for other, waits in left.items():
            if step in waits:
                waits.discard(step)
                if not waits:
                    heappush(free, place[other])
