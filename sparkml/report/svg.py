"""Matplotlib figures as SVG of the page: its fonts, its colours in light and dark, no clashing ids."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

# Colours that nothing else uses stand for the page's CSS variables, so that dark mode reaches the plots.
INK, MUTED, GRID, ACCENT, CONTRAST, QUIET, PAPER = (f"#00000{digit}" for digit in "1234567")
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    ACCENT: "var(--accent)",
    CONTRAST: "var(--contrast)",
    QUIET: "var(--quiet)",
    PAPER: "var(--paper)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, readable aloud
    "text.parse_math": False,  # a `$` in a label is a dollar
    "font.size": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 12.5,
    "ytick.labelsize": 12.5,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 12.5,
    "lines.solid_capstyle": "round",
}
_NAMESPACE = re.compile(r"^\{[^}]*\}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")
_COORDINATES = {"d", "x", "y", "transform"}
_DECIMALS = re.compile(r"-?\d+\.\d+")
_FONT_FAMILY = re.compile(r"\s*font-family:[^;]*;?|(?<=\d)px '[^;]*")


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """The look of all plots, and ids that depend on the plot's name alone."""
    with warnings.catch_warnings(), matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        # The browser chooses the font: a character that matplotlib's own font lacks does no harm.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def inline(figure: Figure, name: str, description: str, tips: Mapping[str, str] | None = None) -> Markup:
    """The figure as an inline `<svg>` with an alternative text; `tips` are hover texts by gid."""
    raw = io.BytesIO()
    figure.savefig(raw, format="svg", metadata={"Date": None})
    root = ET.fromstring(raw.getvalue())
    _drop(root, "metadata")
    _drop(root, "style")
    _scope(root, name, tips or {})
    _slim(root)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("class", "plot")
    root.set("role", "img")
    root.set("aria-label", description)
    # ElementTree escapes every text and attribute, so what it writes is safe as markup.
    return Markup(ET.tostring(root, encoding="unicode"))


def _drop(element: ET.Element, tag: str) -> None:
    for child in list(element):
        if _NAMESPACE.sub("", child.tag) == tag:
            element.remove(child)
        else:
            _drop(child, tag)


def _scope(root: ET.Element, name: str, tips: Mapping[str, str]) -> None:
    """Plain tags, ids that are unique in the page and only where something refers to them, CSS colours."""
    used = {
        match[1] or match[2]
        for element in root.iter()
        for value in element.attrib.values()
        if (match := _REFERENCE.search(value))
    }
    for element in list(root.iter()):
        element.tag = _NAMESPACE.sub("", element.tag)
        attributes = {_NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id":
                if value in tips:
                    tip = ET.Element("title")
                    tip.text = tips[value]
                    element.insert(0, tip)
                if value in used:
                    element.set("id", f"{name}-{value}")
            elif key == "style":
                element.set("style", _painted(value.replace("url(#", f"url(#{name}-")))
            else:
                element.set(key, _referring(key, value, name))


def _slim(element: ET.Element) -> None:
    """A tenth of a pixel is enough; groups without attributes, and the blanks between elements, are removed."""
    for child in list(element):
        _slim(child)
    for key in _COORDINATES & set(element.attrib):
        element.set(
            key,
            _DECIMALS.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), element.attrib[key]),
        )
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag != "text":
        element.text = (element.text or "").strip() or None
    children: list[ET.Element] = []
    for child in list(element):
        child.tail = None
        is_bare = child.tag == "g" and not child.attrib and not any(inner.tag == "title" for inner in child)
        children.extend(child if is_bare else [child])
    element[:] = children


def _referring(key: str, value: str, name: str) -> str:
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    return value.replace("url(#", f"url(#{name}-")


def _painted(style: str) -> str:
    style = _FONT_FAMILY.sub("", style)
    return re.sub(r"#00000[1-7]", lambda match: _VARIABLES[match[0]], style)
