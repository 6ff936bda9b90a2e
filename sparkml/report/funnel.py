"""The funnel: what the steps that count rows read, keep and reject, by what they read and write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from sparkml.frame import storage
from sparkml.frame.pipeline import MODEL_MARK
from sparkml.log import get_logger
from sparkml.report.formats import ratio
from sparkml.report.lake import UNREADABLE, Lake, Place
from sparkml.report.view import StepView, upstream

_log = get_logger(__name__)
_REASONS_SHOWN = 3
_TONES = ("quiet", "contrast", "amber", "violet")


@dataclass(frozen=True)
class Counted:
    """One step's account. `bytes` are of UTF-8 text, where the step writes a table of the documents that it keeps."""

    step: str
    takes: tuple[str, ...]
    writes: tuple[str, ...]
    rows_in: int
    kept: int
    rejected: int
    reasons: tuple[tuple[str, int], ...]
    bytes: int | None
    share: float | None  # of the records that the sources of this step read
    bytes_share: float | None  # of the text that the sources gave


@dataclass(frozen=True)
class Fate:
    """A part of all records of a source, for the bar that shows what became of them."""

    name: str
    documents: int
    share: float
    tone: str  # its colour on the page
    reasons: str


@dataclass(frozen=True)
class Chain:
    """The steps from a source to the last table of documents made from it; each takes what the one before kept."""

    steps: tuple[str, ...]
    rows_in: int
    source_bytes: int | None
    left: int
    bytes_in: int | None  # of text, as the first step wrote it
    bytes_left: int | None
    fates: tuple[Fate, ...]


@dataclass(frozen=True)
class Funnel:
    """Every step that counts rows, in order, and the chains of tables of documents."""

    steps: tuple[Counted, ...]
    chains: tuple[Chain, ...]


def gather(lake: Lake, views: Sequence[StepView]) -> Funnel | None:
    """None where no step has counted rows yet."""
    counting = [view for view in views if view.run.rows_in is not None]
    if not counting:
        return None
    tables = {view.step: place for view in counting if (place := _table_of_documents(lake, view))}
    sizes = {step: _text_bytes(lake, place) for step, place in tables.items()}
    fed_by = {view.step: _fed_by(view, views) for view in counting}
    roots = {view.step: _roots(view, fed_by) for view in counting}
    chains = [_longest(view, counting, tables) for view in counting if roots[view.step] == {view.step}]
    return Funnel(
        tuple(_counted(view, roots[view.step], {v.step: v for v in counting}, sizes) for view in counting),
        tuple(_chain(chain, sizes) for chain in chains if chain),
    )


def _table_of_documents(lake: Lake, view: StepView) -> Place | None:
    """The step's own table with a text for every document that it kept."""
    for place in view.owned:
        try:
            if lake.rows(place) == view.run.rows_kept and _has_text(lake, place):
                return place
        except UNREADABLE as error:
            _log.warning("%s@%d cannot be read: %s", place.ref, place.version, error)
    return None


def _has_text(lake: Lake, place: Place) -> bool:
    schema = lake.table(place).schema
    return "text" in schema.names and schema["text"].dataType == StringType()


def _text_bytes(lake: Lake, place: Place) -> int | None:
    total = F.coalesce(F.sum(F.octet_length("text")), F.lit(0))
    try:
        return int(lake.table(place).agg(total).collect()[0][0])
    except UNREADABLE as error:
        _log.warning("the text of %s@%d cannot be measured: %s", place.ref, place.version, error)
        return None


def _roots(view: StepView, fed_by: Mapping[str, set[str]]) -> set[str]:
    """The steps that no other step which counts rows feeds, and from which this one's documents come."""
    return {step for step in {view.step, *fed_by[view.step]} if not fed_by[step]}


def _fed_by(view: StepView, views: Sequence[StepView]) -> set[str]:
    """All steps that count rows and whose tables lead to this one."""
    seen, queue = set[str](), [view]
    while queue:
        fresh = [o for o in upstream(queue.pop(), views, tables_only=True) if o.step not in seen]
        seen |= {other.step for other in fresh}
        queue += fresh
    return {other.step for other in views if other.step in seen and other.run.rows_in is not None}


def _longest(
    view: StepView,
    counting: Sequence[StepView],
    tables: Mapping[str, Place],
    before: tuple[StepView, ...] = (),
) -> tuple[StepView, ...]:
    """From this step on, the longest row of steps; each takes exactly the documents that the one before kept."""
    place = tables.get(view.step)
    if place is None or view in before:
        return before
    mine = (*before, view)
    following = (
        other
        for other in counting
        if other.takes.get(place.ref) == place.version and other.run.rows_in == view.run.rows_kept
    )
    return max((_longest(other, counting, tables, mine) for other in following), key=len, default=mine)


def _counted(
    view: StepView,
    roots: set[str],
    counting: Mapping[str, StepView],
    sizes: Mapping[str, int | None],
) -> Counted:
    run = view.run
    made = [ref for ref in run.outputs if ref.startswith(MODEL_MARK)]
    writes = [*(place.ref for place in view.owned), *made] or list(run.outputs)
    source = sum(counting[root].run.rows_in or 0 for root in roots)
    source_bytes = [sizes.get(root) for root in roots]
    known = [size for size in source_bytes if size is not None]
    first = sum(known) if len(known) == len(source_bytes) else None
    return Counted(
        view.step,
        _names(place.ref for place in view.tables_in),
        _names(writes),
        run.rows_in or 0,
        run.rows_kept or 0,
        run.rows_rejected or 0,
        _reasons(view),
        sizes.get(view.step),
        ratio(run.rows_kept, source),
        ratio(sizes.get(view.step), first),
    )


def _names(refs: Iterable[str]) -> tuple[str, ...]:
    return tuple(storage.redacted(ref.replace(MODEL_MARK, "model ")) for ref in refs)


def _reasons(view: StepView) -> tuple[tuple[str, int], ...]:
    ranked = sorted(view.run.reasons.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, n) for name, n in ranked if n)[:_REASONS_SHOWN]


def _chain(views: Sequence[StepView], sizes: Mapping[str, int | None]) -> Chain:
    first, last = views[0].run, views[-1].run
    read, left = first.rows_in or 0, last.rows_kept or 0
    kept = Fate(f"left after {last.step}", left, ratio(left, read) or 0.0, "accent", "")
    rejected = [
        Fate(
            f"rejected by {view.step}",
            view.run.rows_rejected or 0,
            ratio(view.run.rows_rejected, read) or 0.0,
            _TONES[at % len(_TONES)],
            ", ".join(f"{name} {n:,}" for name, n in _reasons(view)),
        )
        for at, view in enumerate(views)
    ]
    return Chain(
        tuple(view.step for view in views),
        read,
        first.bytes_in or None,
        left,
        sizes.get(first.step),
        sizes.get(last.step),
        tuple(fate for fate in (kept, *rejected) if fate.documents > 0),
    )
