"""Contents -> the page: plots and templates. All text is escaped except what plots and templates write."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from sparkml.report import formats, plots
from sparkml.report.charts import Chart
from sparkml.report.contents import Contents

_FILTERS = (
    formats.cell,
    formats.clock,
    formats.compact,
    formats.count,
    formats.duration,
    formats.label,
    formats.measured,
    formats.percent,
    formats.score,
    formats.short_commit,
    formats.shown,
    formats.size,
)


def render(contents: Contents) -> str:
    """The whole page as HTML; it refers to nothing outside itself."""
    drawn = {part.anchor: draw_all(part.anchor, part.charts) for part in contents.parts}
    return render_template("report.html.j2", contents=contents, drawn=drawn, nothing=formats.NOTHING)


def draw_all(anchor: str, charts: Mapping[str, Chart]) -> dict[str, Markup]:
    """Charts by caption as SVG, whose ids begin with `anchor`."""
    return {name: plots.draw(f"{anchor}-{at}", chart) for at, (name, chart) in enumerate(charts.items())}


def render_template(name: str, **values: object) -> str:
    """A template of this package with values; all of their text is escaped but `Markup`."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in _FILTERS:
        environment.filters[function.__name__] = function
    return environment.get_template(name).render(**values)


def _template(name: str) -> str:
    # Through importlib.resources: the package may be a zip on a cluster.
    folder = importlib.resources.files("sparkml.report").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")
