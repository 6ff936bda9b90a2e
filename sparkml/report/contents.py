"""What the page shows: general parts, and for each step the sections that its stage declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sparkml.errors import SparkmlError
from sparkml.frame import storage
from sparkml.frame.run import StageRun
from sparkml.frame.tables import first_line
from sparkml.log import get_logger
from sparkml.report import formats, funnel, rejects, steps
from sparkml.report.charts import Chart
from sparkml.report.config import ReportConfig
from sparkml.report.funnel import Funnel
from sparkml.report.lake import UNREADABLE, Lake
from sparkml.report.section import KeyFigure, Section
from sparkml.report.steps import Provenance, Steps
from sparkml.report.view import StepView, step_views

_log = get_logger(__name__)
_NO_FUNNEL = "No step has counted documents yet."
_NO_REJECTS = "No step has written rejects yet."
_NO_STEPS = "No runs yet: the ledger of this lake is empty."


@dataclass(frozen=True)
class Part:
    """A part of the page: what a template shows as `found`, or the sentence that is shown instead."""

    anchor: str
    title: str
    template: str
    contents: Any | None
    missing: str = ""
    step: str = ""  # whose section it is
    charts: Mapping[str, Chart] = field(default_factory=dict)
    figures: tuple[KeyFigure, ...] = ()


@dataclass(frozen=True)
class Contents:
    """The whole page, before anything is drawn."""

    title: str
    lake: str
    run_id: str
    written_at: datetime
    provenance: Provenance
    parts: tuple[Part, ...]

    @property
    def figures(self) -> tuple[KeyFigure, ...]:
        """The key figures of the parts, in their order."""
        return tuple(figure for part in self.parts for figure in part.figures)

    @property
    def shown(self) -> tuple[Part, ...]:
        """The parts that have something to show."""
        return tuple(part for part in self.parts if part.contents is not None)


def gather(job: StageRun, config: ReportConfig) -> Contents:
    """Everything the page shows, from the ledger, the tables and the models' files."""
    lake = Lake(job, config)
    views = step_views(lake)
    declared = [(view, section) for view in views for section in _sections(view)]
    repeated = {name for name, n in Counter(view.run.stage for view in views).items() if n > 1}
    with job.progress.task("report", total=len(declared) + 2, unit="sections") as task:

        def part(made: Part) -> Part:
            task.advance(1)
            return made

        counted = part(_general("funnel", "Funnel", lambda: funnel.gather(lake, views), _NO_FUNNEL))
        rejected = part(
            _general("rejects", "Rejected documents", lambda: rejects.gather(lake, views), _NO_REJECTS)
        )
        sections = [part(_part(view, section, view.run.stage in repeated)) for view, section in declared]
    listed = _general("steps", "Steps", lambda: steps.gather(lake, views), _NO_STEPS)
    return Contents(
        title=config.title,
        lake=storage.redacted(job.lake),
        run_id=job.run_id,
        written_at=job.started_at,
        provenance=steps.provenance(views),
        parts=(
            replace(counted, figures=_sizes(counted.contents)),
            rejected,
            *(one for one in sections if one.contents is not None or one.missing),
            replace(listed, figures=_time(listed.contents)),
        ),
    )


def _sections(view: StepView) -> Sequence[Section[Any]]:
    return view.stage.sections() if view.stage is not None else ()


def _general(key: str, title: str, find: Callable[[], Any | None], missing: str) -> Part:
    contents, unreadable = _found(title, find)
    return Part(key, title, key, contents, unreadable or missing)


def _part(view: StepView, section: Section[Any], is_repeated: bool) -> Part:
    """One section of one step. Where its stage occurs more than once, titles and figures say which step it is."""
    title = f"{section.title}: {view.step}" if is_repeated else section.title
    contents, missing = _found(title, lambda: section.gather(view))
    figures = section.figures(contents) if contents is not None else ()
    return Part(
        f"{view.step}.{section.key}",
        title,
        section.template,
        contents,
        missing,
        view.step,
        section.charts(contents) if contents is not None else {},
        tuple(replace(one, name=f"{one.name}: {view.step}") if is_repeated else one for one in figures),
    )


def _found(title: str, find: Callable[[], Any | None]) -> tuple[Any | None, str]:
    """Contents, or why they cannot be read: a version that is gone must not cost the other sections."""
    try:
        return find(), ""
    except UNREADABLE as error:
        said = error.message() if isinstance(error, SparkmlError) else first_line(error)
        _log.warning("the section `%s` of the report is left out: %s", title, said)
        return None, f"This cannot be read any more: {storage.redacted(said)}"


def _sizes(found: Funnel | None) -> tuple[KeyFigure, ...]:
    """Documents and text, from the sources to the ends of the chains."""
    chains = found.chains if found is not None else ()
    if not chains:
        return tuple(KeyFigure(name, formats.NOTHING, "not read yet") for name in ("Documents", "Text"))
    after = f", after {chains[0].steps[-1]}" if len(chains) == 1 else ""
    read, left = sum(chain.rows_in for chain in chains), sum(chain.left for chain in chains)
    share = formats.percent(formats.ratio(left, read))
    figures = [
        KeyFigure("Documents left", formats.compact(left), f"of {formats.count(read)} read, {share}{after}")
    ]
    texts = [(chain.bytes_in, chain.bytes_left) for chain in chains]
    known = [(first, last) for first, last in texts if first is not None and last is not None]
    first, last = sum(one for one, _ in known), sum(one for _, one in known)
    if len(known) == len(texts) and first:  # images and sounds alone have no text
        share = formats.percent(formats.ratio(last, first))
        figures.append(
            KeyFigure("Text left", formats.size(last), f"of {formats.size(first)} read, {share}{after}")
        )
    return tuple(figures)


def _time(found: Steps | None) -> tuple[KeyFigure, ...]:
    if found is None:
        return (KeyFigure("Time", formats.NOTHING, "no runs yet"),)
    slowest = max(found.rows, key=lambda row: row.seconds or 0.0)
    if slowest.seconds is None:
        return (KeyFigure("Time", formats.NOTHING, "no run has succeeded yet"),)
    note = f"longest: {slowest.name}, {formats.duration(slowest.seconds)}"
    return (KeyFigure("Time", formats.duration(found.seconds), note),)
