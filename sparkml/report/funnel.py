"""The funnel: documents and bytes from what was read to what was scored."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.report.config import ReportConfig
from sparkml.report.duplicates import Duplicates
from sparkml.report.formats import ratio
from sparkml.report.lake import Lake
from sparkml.report.scores import Scores


@dataclass(frozen=True)
class Step:
    """What is left after a stage. `bytes` are of UTF-8 text; None where the step is not counted in bytes."""

    name: str
    what: str
    documents: int
    bytes: int | None
    share: float | None  # of the documents that were read
    bytes_share: float | None
    lost: int | None  # documents, since the step before


@dataclass(frozen=True)
class Fate:
    """A part of all documents, for the bar that shows what became of them."""

    name: str
    documents: int
    share: float
    tone: str  # its colour on the page, the same on every page


@dataclass(frozen=True)
class Funnel:
    """Steps in order, and the fate of every document that was read."""

    steps: tuple[Step, ...]
    fates: tuple[Fate, ...]
    source_bytes: int | None
    tokens: float | None
    samples: float | None

    def step(self, name: str) -> Step | None:
        """The step of that name."""
        return next((step for step in self.steps if step.name == name), None)


def gather(
    lake: Lake, config: ReportConfig, scores: Scores | None, duplicates: Duplicates | None
) -> Funnel | None:
    """None where nothing was ingested yet."""
    bronze = lake.table(config.bronze)
    if bronze is None:
        return None
    ingest = lake.last_succeeded("ingest") or {}
    refused = ingest.get("rows_rejected") or 0
    documents, n_bytes = _size(bronze)
    read = documents + refused
    found: list[tuple[str, str, int, int | None]] = [
        ("ingest", "documents read into bronze", documents, n_bytes)
    ]
    for name, ref, what in (
        ("clean", config.clean, "pass the quality rules"),
        ("dedupe", config.kept, "stay, one document a cluster"),
    ):
        table = lake.table(ref)
        if table is not None:
            found.append((name, what, *_size(table)))
    packed = lake.last_succeeded("shard")
    if packed is not None:
        found.append(("shard", "packed into training samples", packed["rows_kept"] or 0, None))
    if scores is not None:
        done = scores.newest.documents - scores.newest.errors
        found.append(("score", f"scored by {scores.newest.name}", done, None))
    return Funnel(
        _steps([("source", "records in the source", read, None), *found]),
        _fates(read, {name: documents for name, _, documents, _ in found}, refused, duplicates),
        ingest.get("bytes_in") or None,
        lake.metric("shard", "tokens"),
        lake.metric("shard", "samples"),
    )


def _size(table: DataFrame) -> tuple[int, int]:
    row = table.agg(
        F.count(F.lit(1)).alias("documents"),
        F.coalesce(F.sum(F.octet_length("text")), F.lit(0)).alias("bytes"),
    ).collect()[0]
    return row["documents"], row["bytes"]


def _steps(found: list[tuple[str, str, int, int | None]]) -> tuple[Step, ...]:
    first = found[0][2]
    first_bytes = next((n_bytes for _, _, _, n_bytes in found if n_bytes is not None), None)
    steps = []
    for place, (name, what, documents, n_bytes) in enumerate(found):
        # Scoring takes what dedupe keeps, as packing does: its loss is counted from there.
        before = found[place - 1] if place else None
        if name == "score" and before is not None and before[0] == "shard":
            before = found[place - 2]
        lost = before[2] - documents if before is not None else None
        steps.append(
            Step(name, what, documents, n_bytes, ratio(documents, first), ratio(n_bytes, first_bytes), lost)
        )
    return tuple(steps)


def _fates(read: int, left: dict[str, int], refused: int, duplicates: Duplicates | None) -> tuple[Fate, ...]:
    parts = [("rejected by ingest", refused, "quiet")]
    if "clean" in left:
        parts.append(("rejected by clean", left["ingest"] - left["clean"], "contrast"))
    if "dedupe" in left:
        n_duplicates = duplicates.documents if duplicates is not None else 0
        parts.append(("duplicates", n_duplicates, "amber"))
        parts.append(("rejected by dedupe", left["clean"] - left["dedupe"] - n_duplicates, "violet"))
    last = next(name for name in ("dedupe", "clean", "ingest") if name in left)
    parts.insert(0, ("kept" if last == "dedupe" else f"left after {last}", left[last], "accent"))
    return tuple(Fate(name, n, ratio(n, read) or 0.0, tone) for name, n, tone in parts if n > 0)
