"""The plots of the report: each chart as inline SVG."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sparkml.report import formats
from sparkml.report.charts import Bars, Chart, Confusion, Histogram, Lines, Scatter
from sparkml.report.svg import ACCENT, CONTRAST, GRID, INK, MUTED, PAPER, QUIET, drawing, inline

_WIDTH, _HEIGHT = 520, 270  # CSS pixels at natural size
_COLOURS = {"accent": ACCENT, "contrast": CONTRAST, "quiet": QUIET}


def draw(name: str, chart: Chart) -> Markup:
    """The chart as an `<svg>` whose ids begin with `name`."""
    with drawing(name):
        match chart:
            case Bars():
                figure, tips = _bars(chart)
            case Histogram():
                figure, tips = _histogram(chart)
            case Lines():
                figure, tips = _lines(chart), {}
            case Confusion():
                figure, tips = _confusion(chart)
            case Scatter():
                figure, tips = _scatter(chart)
        return inline(figure, name, chart.description, tips)


def _bars(chart: Bars) -> tuple[Figure, dict[str, str]]:
    figure, axes = _figure()
    tips = {}
    patches = axes.bar(range(len(chart.values)), chart.values, width=0.82, color=ACCENT)
    for place, (patch, text, value) in enumerate(zip(patches, chart.labels, chart.values, strict=True)):
        gid = f"tip-{place}"
        patch.set_gid(gid)
        tips[gid] = f"{text}: {formats.count(value)}"
    axes.set_xticks(range(len(chart.labels)), list(chart.labels))
    axes.tick_params(axis="x", length=0)
    _finish(axes, chart.x_label, chart.y_label)
    return figure, tips


def _histogram(chart: Histogram) -> tuple[Figure, dict[str, str]]:
    figure, axes = _figure()
    tips = {}
    edges = chart.edges
    widths = [0.92 * (high - low) for low, high in itertools.pairwise(edges)]
    patches = axes.bar(edges[:-1], chart.values, width=widths, align="edge", color=ACCENT)
    for place, (patch, value) in enumerate(zip(patches, chart.values, strict=True)):
        gid = f"tip-{place}"
        patch.set_gid(gid)
        tips[gid] = f"{edges[place]:.3g} to {edges[place + 1]:.3g}: {formats.count(value)}"
    axes.set_xlim(edges[0], edges[-1])
    if chart.mark is not None:
        axes.axvline(chart.mark, color=CONTRAST, linewidth=1.6, linestyle=(0, (4, 3)))
        axes.annotate(
            chart.mark_label,
            (chart.mark, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(5, 2),
            textcoords="offset points",
            color=CONTRAST,
            annotation_clip=False,
        )
    _finish(axes, chart.x_label, chart.y_label)
    return figure, tips


def _lines(chart: Lines) -> Figure:
    figure, axes = _figure()
    for curve in chart.curves:
        points = _thinned(curve.points, curve.detail)
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=_COLOURS[curve.colour],
            linewidth=1.4 if curve.colour == "quiet" else 2.0,
            marker="o" if curve.dots or len(points) == 1 else None,
            markersize=4.5,
            label=curve.name,
        )
    _finish(axes, chart.x_label, chart.y_label, whole=False)
    if chart.from_zero:
        axes.set_ylim(bottom=0)
    if len(chart.curves) > 1:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1.0),
            ncols=min(len(chart.curves), 3),
            borderaxespad=0.2,
            handlelength=1.6,
            columnspacing=1.4,
        )
    return figure


def _confusion(chart: Confusion) -> tuple[Figure, dict[str, str]]:
    """Cells shaded by the root of their share of the row, numbered."""
    labels, n = chart.labels, len(chart.labels)
    side = max(360, 42 * n + 150)
    figure = Figure(figsize=((side + 40) / 72, side / 72), layout="constrained")
    axes = figure.subplots()
    tips = {}
    for row, values in enumerate(chart.matrix):
        total = sum(values)
        for column, value in enumerate(values):
            share = value / total if total else 0.0
            _cell(axes, row, column, value, share)
            said = f"{formats.count(value)} ({formats.percent(share)})"
            tips[f"tip-{row}-{column}"] = f"{labels[row]} taken for {labels[column]}: {said}"
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xticks(range(n), list(labels), rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), list(labels))
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    return figure, tips


def _scatter(chart: Scatter) -> tuple[Figure, dict[str, str]]:
    figure, axes = _figure()
    axes.plot(
        [x for x, _ in chart.line],
        [y for _, y in chart.line],
        color=QUIET,
        linewidth=1.4,
        linestyle=(0, (4, 3)),
        zorder=1,
    )
    tips = {}
    for place, point in enumerate(chart.points):
        gid = f"tip-{place}"
        (mark,) = axes.plot([point.x], [point.y], "o", color=_COLOURS[point.colour], markersize=8)
        mark.set_gid(gid)
        tips[gid] = f"{point.name}: {formats.measured(point.x)}, {formats.score(point.y)}"
        axes.annotate(
            point.name, (point.x, point.y), xytext=(6, 5), textcoords="offset points", fontsize=8, color=INK
        )
    _finish(axes, chart.x_label, chart.y_label, whole=False)
    axes.margins(x=0.2, y=0.25)  # room for the names
    return figure, tips


def _cell(axes: Axes, row: int, column: int, value: float, share: float) -> None:
    shade = share**0.5  # the square root: a few mistakes can be seen beside many hits
    colour = ACCENT if row == column else CONTRAST
    corner = (column - 0.47, row - 0.47)
    tip = f"tip-{row}-{column}"
    for paint, alpha, gid in ((GRID, 0.35, None), (colour, shade, tip)):
        # No cell crosses the frame: clipping would only be one more attribute of each.
        cell = Rectangle(corner, 0.94, 0.94, color=paint, alpha=alpha, linewidth=0, gid=gid, clip_on=False)
        axes.add_patch(cell)
    if value:
        ink = PAPER if shade > 0.6 else INK
        text = formats.compact(value)
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=11.5)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), layout="constrained")
    return figure, figure.subplots()


def _finish(axes: Axes, x_label: str, y_label: str, *, whole: bool = True) -> None:
    axes.set_xlabel(x_label)
    # Above the axis and horizontal, which is easier to read than a label turned by 90 degrees.
    axes.set_title(y_label, loc="left", color=MUTED, fontsize=12.5)
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=whole))
    if whole or max(axes.get_ylim()) >= 1000:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formats.compact(value)))
    axes.margins(x=0.02)


def _thinned(points: Sequence[tuple[float, float]], detail: int) -> list[tuple[float, float]]:
    """At most `detail` points in the order of x: the mean of each run of neighbours."""
    ordered = sorted(points)
    stride = -(-len(ordered) // detail)
    if stride <= 1:
        return ordered
    groups = (ordered[at : at + stride] for at in range(0, len(ordered), stride))
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
