"""Contents -> the page: plots and templates. All text is escaped except what plots and templates write."""

from __future__ import annotations

import importlib.resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from sparkml.report import formats, plots
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
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in _FILTERS:
        environment.filters[function.__name__] = function
    drawn = {
        part.anchor: {
            name: plots.draw(f"{part.anchor}-{at}", chart)
            for at, (name, chart) in enumerate(part.charts.items())
        }
        for part in contents.parts
    }
    return environment.get_template("report.html.j2").render(
        contents=contents, drawn=drawn, nothing=formats.NOTHING
    )


def _template(name: str) -> str:
    # Through importlib.resources: the package may be a zip on a cluster.
    folder = importlib.resources.files("sparkml.report").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")
