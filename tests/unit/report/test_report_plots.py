from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from markupsafe import Markup

from sparkml.report import plots
from sparkml.report.charts import Bars, Confusion, Curve, Histogram, Lines

EVIL = '<script>alert(1)</script>"&\x00 $x$'


def drawn(name: str = "sizes") -> Markup:
    return plots.draw(name, Bars(["2", "3–4"], [7, 1], "documents", "clusters", "Two bars."))


def test_the_same_numbers_are_the_same_bytes() -> None:
    assert drawn() == drawn()


def test_a_plot_takes_its_colours_and_its_font_from_the_page() -> None:
    svg = drawn()
    assert "var(--accent)" in svg
    assert "#00000" not in svg
    assert "font-family" not in svg
    assert "DejaVu" not in svg


def test_a_plot_refers_to_itself_alone_and_has_an_alternative_text() -> None:
    root = ET.fromstring(drawn())
    assert (root.get("role"), root.get("aria-label")) == ("img", "Two bars.")
    assert root.get("viewBox")
    assert not re.search(r"https?://|<style|<metadata", drawn())
    assert [title.text for title in root.iter("title")] == ["2: 7", "3–4: 1"]


def test_two_plots_of_a_page_share_no_id() -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn(name))) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]
    references = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', drawn("one")))
    assert {one or other for one, other in references} == ids[0]


@pytest.mark.filterwarnings("error")
def test_labels_of_unknown_origin_are_text_and_nothing_else() -> None:
    from sparkml.report.formats import label

    names = [label(EVIL, 60), "日本語"]
    svg = plots.draw("confusion", Confusion(names, [[3, 1], [0, 2]], names[0]))
    root = ET.fromstring(svg)
    assert "script" not in {element.tag for element in root.iter()}
    assert names[0] in {element.text for element in root.iter("text")}
    assert names[0] == '<script>alert(1)</script>"&\ufffd $x$'


def test_a_confusion_matrix_is_shaded_by_the_share_of_its_row() -> None:
    root = ET.fromstring(plots.draw("c", Confusion(["a", "b"], [[3, 1], [0, 0]], "d")))
    tips = [title.text for title in root.iter("title")]
    assert tips == [
        "a taken for a: 3 (75.0 %)",
        "a taken for b: 1 (25.0 %)",
        "b taken for a: 0 (0 %)",
        "b taken for b: 0 (0 %)",
    ]


def test_a_long_curve_is_thinned_to_means_of_neighbours() -> None:
    points = [(float(x), float(x % 2)) for x in range(1, 1001)]
    svg = plots.draw("loss", Lines([Curve("loss", points, detail=10)], "step", "loss", "d"))
    thin = plots._thinned(points, 10)
    assert len(thin) == 10
    assert thin[0] == (50.5, 0.5)
    assert len(svg) < 20_000


def test_a_curve_of_one_point_can_be_seen() -> None:
    curves = [Curve("training", [(1.0, 2.0)]), Curve("validation", [(1.0, 2.5)], "contrast")]
    svg = plots.draw("one", Lines(curves, "step", "loss", "d"))
    assert svg.count("<use") >= 2
    assert "validation" in svg


def test_a_histogram_marks_the_threshold() -> None:
    chart = Histogram([0.6, 0.8, 1.0], [2, 5], "similarity", "pairs", "d", 0.7, "threshold 0.7")
    svg = plots.draw("h", chart)
    assert "threshold 0.7" in svg
    assert "var(--contrast)" in svg
