"""What a stage shows about each of its steps in the report. Its module declares it:

    def sections() -> list[Section]:
        return [Section("Languages", languages)]

    def languages(view: StepView) -> Facts | None:
        table = view.table("target")            # as the step's last successful run left it
        if table is None:
            return None
        rows = table.groupBy("lang").count().orderBy("lang").limit(20).collect()
        return Facts(tables=(Rows("Documents by language", ("language", "documents"), rows),))

    STAGE = Stage(Config, run, "what it does", sections=sections)

`sections` is called for a report only, so its imports slow down no other command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from sparkml.report.charts import Chart
    from sparkml.report.view import StepView

T = TypeVar("T")
PLAIN = "facts"
_ROWS_SHOWN = 100


@dataclass(frozen=True)
class KeyFigure:
    """A figure of the summary: what it is, its value, and what it compares with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Rows:
    """A table. The first cell of a row says what the row is about; numbers are aligned to the right, None is a dash."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    @property
    def shown(self) -> Sequence[Sequence[object]]:
        """The rows that the page shows."""
        return self.rows[:_ROWS_SHOWN]

    @property
    def more(self) -> int:
        """Rows that are not shown."""
        return len(self.rows) - len(self.shown)

    @property
    def numeric(self) -> frozenset[int]:
        """The columns without a text in them."""
        texts = {at for row in self.shown for at, value in enumerate(row) if isinstance(value, str)}
        return frozenset(range(len(self.columns))) - texts


@dataclass(frozen=True)
class Facts:
    """What a section without a template of its own shows: a sentence, values by name, tables, charts by caption."""

    lead: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    tables: Sequence[Rows] = ()
    charts: Mapping[str, Chart] = field(default_factory=dict)


def _charts_of_facts(contents: object) -> Mapping[str, Chart]:
    return contents.charts if isinstance(contents, Facts) else {}


def _no_figures(contents: object) -> Sequence[KeyFigure]:
    return ()


@dataclass(frozen=True)
class Section(Generic[T]):
    """A part of the page about one step.

    `gather` gives small, aggregated contents, or None where there is nothing to show; contents are `Facts`, or what
    `template` (a file of sparkml/report/templates, without `.html.j2`) shows as `found`. `charts` are drawn for the
    template by name; `figures` go into the summary.
    """

    title: str
    gather: Callable[[StepView], T | None]
    template: str = PLAIN
    charts: Callable[[T], Mapping[str, Chart]] = _charts_of_facts
    figures: Callable[[T], Sequence[KeyFigure]] = _no_figures

    @property
    def key(self) -> str:
        """The title as a part of an anchor."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"
