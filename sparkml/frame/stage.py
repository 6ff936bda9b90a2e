"""A stage declares itself: a configuration whose fields say what is read, written, used and made, and a function `run`.

    class CleanConfig(StageConfig):
        source: Reads = "bronze"            # a table that another step or program wrote
        target: Writes = "clean"            # a table of this step's own: replaced as a whole
        rejects: Shares = "rejects"         # a table of many steps: this one owns the rows that name it

    STAGE = Stage(CleanConfig, run, "normalise and filter documents")

The order of steps, re-runs, lineage, the report and the Databricks job follow from these declarations. A stage is
found by its name: the module or package `sparkml.stages.<name>` (or an entry point of the group `sparkml.stages`), and
`STAGE` in it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from sparkml.errors import AccountingError, ConfigError
from sparkml.frame.config_layers import did_you_mean

if TYPE_CHECKING:
    from sparkml.frame.run import StageRun

Role = Literal["reads", "writes", "shares", "uses", "makes"]
_PACKAGE = "sparkml.stages"


@dataclass(frozen=True)
class Port:
    """What a field of a configuration names: a table or a model that goes into a step or comes out of it."""

    role: Role


_TABLE = Field(
    min_length=1, description="A table of the lake by its bare name, or a path, URI or catalog.schema.table"
)
_MODEL = Field(
    min_length=1,
    description="A model of the registry (`name`, `name/v3`), a model directory by its path or URI, or `package:NAME`",
)
MODEL_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

Reads = Annotated[str, _TABLE, Port("reads")]
# What is looked up in this table follows from another input, so its version does not count.
LooksUp = Annotated[str, _TABLE]
Writes = Annotated[str, _TABLE, Port("writes")]
# A table of the step's own whose name follows from the step's, where it is not given: `<step>_<field>`.
WritesOwn = Annotated[str, Port("writes")]
Shares = Annotated[str, _TABLE, Port("shares")]
Uses = Annotated[str, _MODEL, Port("uses")]
# The name of the model that a step makes; empty or null: the step's own name.
Makes = Annotated[str, Field(pattern=MODEL_ID, description="The model to make"), Port("makes")]


class StageConfig(BaseModel):
    """Base of every stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def semantic(self) -> dict[str, Any]:
        """The fields that decide the result; where work runs or logs is left out of the fingerprint."""
        dumped = self.model_dump(mode="json")
        return {name: value for name, value in dumped.items() if _is_semantic(type(self), name)}


def _is_semantic(model: type[BaseModel], name: str) -> bool:
    extra = model.model_fields[name].json_schema_extra
    return not (isinstance(extra, dict) and extra.get("semantic") is False)


@dataclass(frozen=True)
class RunReport:
    """What a run did. A stage that decides about rows counts them: in = kept + rejected, or the run fails.

    A stage that makes a model or a page has no such account: its `rows_in` stays None, and `metrics` say what it
    trained and measured on.
    """

    rows_in: int | None = None
    rows_kept: int | None = None
    rows_rejected: int | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def check(self, step: str) -> None:
        """Raise AccountingError where a row was lost or counted twice."""
        if self.rows_in is None:
            return
        if self.rows_in != (self.rows_kept or 0) + (self.rows_rejected or 0):
            raise AccountingError(
                f"step `{step}` lost rows or counted some twice",
                got=f"{self.rows_in} in, {self.rows_kept} kept, {self.rows_rejected} rejected",
                expected="rows in = rows kept + rows rejected",
            )


# Begins the names of metrics that say what a run has used.
USED = "used_"


@dataclass(frozen=True)
class Cluster:
    """For what an estimate is: so many times the rows of the last run, so many task slots (0: as it had them).

    `gigabits`: what a rank's host sends in a second.
    """

    times: float = 1.0
    slots: int = 0
    gigabits: float = 10.0


@dataclass(frozen=True)
class Estimate:
    """What a step would take. `runs`: sizes of sample that it follows from; `memory_mb`: of an executor or rank."""

    step: str
    runs: int
    rows: float
    slots: int
    seconds: float
    memory_mb: float
    shuffle_bytes: float = 0.0
    written_bytes: float = 0.0
    note: str = ""

    def with_storage(self, written_bytes: float) -> Estimate:
        """The same with the bytes that its tables get."""
        return replace(self, written_bytes=written_bytes)


@dataclass(frozen=True)
class Stage:
    """What a stage declares.

    `source_state`: for a stage that reads files, a hash that changes when they do. `lookups`: what stands in lists that
    decide about rows, so that another list is other work for all of them. `again`: why a run that succeeded should be
    repeated, such as rows to try again (else empty). `last`: it runs after all other steps, whenever asked (the
    report). `trace`: what it says about a document (`frame.lineage`), else every row of the document in its tables.
    `explain`: why one of its runs decided so about a document. `verify`: reads again what a run has written, raises
    where it is damaged, and counts. `sections`: the parts of the report about one of its steps, loaded for a report.
    `estimate`: what a step would take, from earlier runs with their sizes, where that does not grow with its rows in a
    straight line. `whole_commits`: every commit of a run is whole by itself and counts whatever becomes of the run, as
    the micro-batches of a stream do; of other stages only what a run has left that succeeded.
    """

    config: type[StageConfig]
    run: Callable[[StageRun, Any], RunReport]
    summary: str
    source_state: Callable[[Any], str] | None = None
    lookups: Callable[[Any], Sequence[str]] | None = None
    again: Callable[[RunReport], str] | None = None
    last: bool = False
    whole_commits: bool = False
    trace: Callable[[Any], Sequence[Any]] | None = None
    explain: Callable[[Any], Sequence[Any]] | None = None
    verify: Callable[[StageRun, Any, Any], Mapping[str, float]] | None = None
    estimate: Callable[[Sequence[Any], Sequence[float], Any, Cluster], Estimate] | None = None
    sections: Callable[[], Sequence[Any]] = tuple
    name: str = ""
    module: str = ""

    @cached_property
    def ports(self) -> Mapping[str, Port]:
        """The fields of the configuration that name tables and models."""
        return dict(_ports(self.config))

    def fields(self, *roles: Role) -> tuple[str, ...]:
        """The fields of these roles, in the order of the configuration."""
        return tuple(name for name, port in self.ports.items() if port.role in roles)


def _ports(config: type[StageConfig]) -> Iterator[tuple[str, Port]]:
    hints = get_type_hints(config, include_extras=True)
    for name in config.model_fields:
        found = next(_marks(hints[name]), None)
        if found is not None:
            yield name, found


def _marks(annotation: Any) -> Iterator[Port]:
    for argument in get_args(annotation):
        if isinstance(argument, Port):
            yield argument
        else:
            yield from _marks(argument)


def stage_names() -> list[str]:
    """Every stage that is installed."""
    package = importlib.import_module(_PACKAGE)
    found = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(found | {entry.name for entry in importlib.metadata.entry_points(group=_PACKAGE)})


def load_stage(name: str) -> Stage:
    """The stage of that name; ConfigError lists those there are."""
    module = _module_of(name)
    if module is None:
        known = stage_names()
        raise ConfigError(
            f"there is no stage `{name}`", expected=", ".join(known), next_action=did_you_mean(name, known)
        )
    found = getattr(importlib.import_module(module), "STAGE", None)
    if not isinstance(found, Stage):
        raise ConfigError(
            "a stage's module has no `STAGE`", where=module, expected="STAGE = Stage(Config, run, ...)"
        )
    return replace(found, name=name, module=module)


def _module_of(name: str) -> str | None:
    if name.isidentifier() and (spec := importlib.util.find_spec(f"{_PACKAGE}.{name}")) is not None:
        return spec.name if spec.submodule_search_locations is None else f"{spec.name}.stage"
    for entry in importlib.metadata.entry_points(group=_PACKAGE, name=name):
        return entry.module
    return None
