"""What the report reads: tables at the versions that the ledger names, and the files of models that may lack one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import ConfigError, InputError, SparkmlError
from sparkml.frame import artifacts, storage
from sparkml.frame.ledger import Run
from sparkml.frame.pipeline import MODEL_MARK
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Stage, load_stage
from sparkml.log import get_logger
from sparkml.report.config import ReportConfig

_log = get_logger(__name__)
_MAX_JSON_BYTES = 16_000_000  # a larger curve or report is not one of ours
_NAMES = ("title", "url", "source", "label")
# What a version that was dropped or vacuumed raises, at once or when Spark opens its files.
UNREADABLE = (SparkmlError, PySparkException)


@dataclass(frozen=True, order=True)
class Place:
    """A table at a version."""

    ref: str
    version: int


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a document, and its name."""

    name: str
    source: str
    label: str | None
    text: str


@dataclass(frozen=True)
class Model:
    """A version of a model: its row in the registry, and what its files say."""

    record: ModelRecord

    @property
    def name(self) -> str:
        """`model_id/vN`, or the place of a directory of the user's own."""
        return storage.redacted(self.record.name)

    @property
    def path(self) -> str:
        """Where its files lie."""
        return storage.redacted(self.record.path)

    @property
    def trained_on(self) -> str:
        """The manifest, or the table at a version, that it was trained on."""
        on = self.record.trained_on
        return on.manifest_id or (f"{storage.redacted(on.table)}@{on.version}" if on.table else "")

    def object(self, name: str) -> dict[str, Any]:
        """A JSON object among its files; empty where the file is missing or holds something else."""
        return _json_object(storage.join(self.record.path, name))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON objects of a `.jsonl` file; any other line (a write that was cut short) is left out."""
        found = []
        for line in _text_of(storage.join(self.record.path, name)).splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found


class Lake:
    """A lake as its ledger, tables and registry describe it."""

    def __init__(self, job: StageRun, limits: ReportConfig) -> None:
        self._job = job
        self.limits = limits
        self._tables: dict[Place, DataFrame] = {}
        self._stages: dict[str, Stage | None] = {}

    @property
    def pipeline(self) -> str:
        """The pipeline of this report; empty where no runner has started it."""
        mine = self._job.ledger.run(self._job.run_id)
        return mine.pipeline if mine is not None else ""

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of all steps but those that look at the lake from outside (reports), oldest first."""
        return [run for run in self._job.ledger.runs() if not self._is_last(run.stage)]

    def _is_last(self, name: str) -> bool:
        stage = self.stage(name)
        return stage is not None and stage.last

    def stage(self, name: str) -> Stage | None:
        """The stage of that name; None where it is not installed (any more)."""
        if name not in self._stages:
            try:
                self._stages[name] = load_stage(name)
            except (ConfigError, ImportError) as error:
                _log.warning("the stage `%s` cannot be loaded: %s", name, error)
                self._stages[name] = None
        return self._stages[name]

    def table(self, place: Place) -> DataFrame:
        """A table at a version; TableError where that cannot be read any more."""
        if place not in self._tables:
            self._tables[place] = self._job.tables.read(place.ref, place.version)
            # The ledger must name what the page was made from.
            self._job.inputs[place.ref] = max(place.version, self._job.inputs.get(place.ref, 0))
        return self._tables[place]

    def rows(self, place: Place) -> int:
        """Rows of a table at a version, from Delta's log."""
        return self._job.tables.log(place.ref).count(place.version)

    def has_columns(self, place: Place, *names: str) -> bool:
        """True where the table can be read and has these columns."""
        try:
            return set(names) <= set(self.table(place).columns)
        except UNREADABLE as error:
            _log.warning("%s@%d cannot be read: %s", place.ref, place.version, error)
            return False

    def model(self, ref: str, version: int) -> Model:
        """A version of a model (`models:NAME`); InputError where it is gone, or was altered in its directory."""
        name = ref.removeprefix(MODEL_MARK)
        record = self._job.registry.find(name, version)
        if record is None or record.version != version:
            raise InputError(f"version {version} of model `{storage.redacted(name)}` is not there any more")
        return Model(record)

    def evaluation(self, step: str, fingerprint: str) -> dict[str, Any]:
        """What a step that measures a model has found; empty where that is gone."""
        return _json_object(artifacts.evaluation_location(self._job.artifacts, step, fingerprint))

    def documents(
        self, wanted: Mapping[Place, Iterable[str]], characters: int
    ) -> dict[Place, dict[str, Excerpt]]:
        """The beginnings of a few documents of each table, by id: one job for all of them."""
        places = sorted(place for place, ids in wanted.items() if set(ids))
        found: dict[Place, dict[str, Excerpt]] = {place: {} for place in wanted}
        parts = [
            self._beginnings(place, sorted(set(wanted[place])), characters).withColumn("at", F.lit(at))
            for at, place in enumerate(places)
        ]
        if parts:
            for row in reduce(DataFrame.unionByName, parts).collect():
                found[places[row["at"]]][row["doc_id"]] = _excerpt(row.asDict())
        return found

    def _beginnings(self, place: Place, doc_ids: Sequence[str], characters: int) -> DataFrame:
        table = self.table(place)
        columns = [
            F.col(name) if name in table.columns else F.lit(None).cast("string").alias(name)
            for name in _NAMES
        ]
        text = F.substring("text", 1, characters).alias("text")
        return table.where(F.col("doc_id").isin(doc_ids)).select("doc_id", *columns, text)


def _json_object(location: str) -> dict[str, Any]:
    text = _text_of(location)
    try:
        value = json.loads(text) if text else {}
    except ValueError as error:
        _log.warning("%s is not JSON: %s", storage.redacted(location), error)
        return {}
    return value if isinstance(value, dict) else {}


def _text_of(location: str) -> str:
    shown = storage.redacted(location)
    try:
        data = storage.read_bytes(location, _MAX_JSON_BYTES + 1)
    except InputError as error:
        _log.info("no %s for the report: %s", shown, error.got)
        return ""
    if len(data) > _MAX_JSON_BYTES:
        _log.warning("%s has more than %d bytes and is left out", shown, _MAX_JSON_BYTES)
        return ""
    return data.decode("utf-8", "replace")


def _excerpt(row: Mapping[str, Any]) -> Excerpt:
    place = storage.redacted(row["source"] or row["url"] or "")
    name = row["title"] or place.rstrip("/").rsplit("/", 1)[-1] or row["doc_id"]
    return Excerpt(name, place, row["label"], row["text"] or "")


def number(values: Mapping[str, Any], *names: str) -> float | None:
    """The first of these keys that holds a finite number."""
    for name in names:
        value = values.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf"):
            return float(value)
    return None


def part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under a key; empty where there is none."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; empty where the value is not a list."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def numbers(rows: Sequence[Mapping[str, Any]], x: str, *names: str) -> list[tuple[float, float]]:
    """The points (x, first of the names) of the rows that have both."""
    points = ((number(row, x), number(row, *names)) for row in rows)
    return [(at, value) for at, value in points if at is not None and value is not None]
