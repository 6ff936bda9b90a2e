"""The main text of web pages."""

from __future__ import annotations

import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from sparkml.errors import MissingToolError
from sparkml.kernels.markup import link_shares
from sparkml.kernels.texts import read_texts
from sparkml.kernels.words import Memory
from sparkml.sources.time_limit import at_most
from sparkml.stages.clean.batches import decide
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.rules.html import HTML

STORY = " ".join(
    f"Sentence {n} of the story tells what happened on day {n} of the journey." for n in range(30)
)
PAGE = f"""<!DOCTYPE html>
<html lang="en-GB"><head><title> The journey </title>
<meta property="article:published_time" content="2024-02-03T04:05:06Z"><style>p {{ color: red }}</style></head>
<body><nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<script>var tracking = 1;</script>
<article><h1>The journey</h1><p>{STORY}</p><ul><li>one thing</li></ul></article>
<footer><p>Copyright, all rights reserved</p></footer></body></html>"""
CONFIG = CleanConfig(rules=("html",))


def decided(text: str | None, config: CleanConfig = CONFIG, **given: pa.Array) -> dict[str, object]:
    """The decision on one document."""
    found = decide(pa.array([text], pa.string()), config, Memory(), None, given)
    return {name: column[0].as_py() for name, column in found.items()}


def test_the_main_text_stays_and_what_is_around_it_goes() -> None:
    found = decided(PAGE)
    assert STORY in found["text"]
    for gone in ("About us", "tracking", "color", "Copyright", "<"):
        assert gone not in found["text"]
    assert found["signals"]["main_chars"] == pytest.approx(len(found["text"]), abs=5)
    assert 0 < found["signals"]["main_share"] < 1


@pytest.mark.parametrize(
    ("page", "share"),
    [
        ("<p>abcd</p>", 0.0),
        ("<p>ab <a href='x'>c d</a></p>", 0.5),
        ("<a>äö</a> <b>äö</b>", 0.5),
        ("<script>var a = '<a>'</script><p><a>x</a>y", 0.5),
        ("<p>a<A HREF=x>b</A >c<address>d</address>", 0.25),
        ("<p> <img src=x>", None),
    ],
)
def test_of_visible_characters_those_in_links_are_counted(page: str, share: float | None) -> None:
    found = link_shares(read_texts(pa.array([page])))[0]
    assert found == pytest.approx(share) if share is not None else np.isnan(found)


def test_a_page_that_is_a_list_of_links_goes_where_that_is_asked_for() -> None:
    hub = "<html><body><p>Links</p><ul>" + "<li><a href='/x'>a page about things</a></li>" * 30 + "</ul>"
    assert decided(hub)["drop_reason"] is None
    strict = CleanConfig(rules=("html",), html=HTML(max_link_share=0.7))
    assert decided(hub, strict)["drop_reason"] == "mostly_links"
    assert decided(PAGE, strict)["drop_reason"] is None
    assert decided(PAGE)["signals"]["link_share"] == pytest.approx(0.0065, abs=0.002)


def test_a_page_says_its_title_date_and_language() -> None:
    kind = pa.map_(pa.string(), pa.string())
    found = decided(PAGE, title=pa.array([None], pa.string()), meta=pa.array([[("a", "1")]], kind))
    assert found["title"] == "The journey"
    assert dict(found["meta"]) == {
        "a": "1",
        "page_published": '"2024-02-03T04:05:06Z"',
        "page_lang": '"en-GB"',
    }
    found = decided(PAGE, title=pa.array(["given"]), meta=pa.array([None], kind))
    assert found["title"] == "given"


@pytest.mark.parametrize(
    "text", ["plain text with a <b>tag</b>", "a < b and b > c", "", None, "<3 you", "html"]
)
def test_what_is_no_page_stays(text: str | None) -> None:
    assert decided(text)["text"] == decided(text, CleanConfig(rules=()))["text"]
    assert decided(text)["signals"].get("main_chars") is None


@pytest.mark.parametrize(
    "page",
    [
        f"<!-- saved --><html><body><p>{STORY}</p></body></html>",
        f'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN"><html><body><p>{STORY}',
        f"<BODY><P>{STORY}",
        f"\ufeff<html><body><p>{STORY}</p>",
        f"\n\n<head></head><p>{STORY}</p></div></td>",
        f'<html><body class="hidden"><div class="popup hidden comment">{STORY}</div></body></html>',
    ],
)
def test_pages_of_all_kinds(page: str) -> None:
    assert STORY in decided(page)["text"]


def test_a_page_without_text_is_rejected_by_name() -> None:
    found = decided("<html><body><script>go()</script></body></html>")
    assert (found["drop_reason"], found["value"], found["threshold"]) == ("no_main_text", 0, 1)
    short = CleanConfig(rules=("html",), html=HTML(min_main_chars=1000))
    assert decided(PAGE, short)["drop_reason"] is None
    assert decided("<html><p>Few words.</p></html>", short)["drop_reason"] == "no_main_text"
    loose = CleanConfig(rules=("html",), html=HTML(min_main_chars=None))
    assert decided("<html></html>", loose)["drop_reason"] == "empty"


def test_later_rules_see_the_text() -> None:
    config = CleanConfig(rules=("html", "gopher_quality"))
    found = decided(PAGE, config)
    assert found["drop_reason"] is None
    assert found["signals"]["n_words"] == found["n_words"] > 300
    with pytest.raises(ValidationError, match="html comes first"):
        CleanConfig(rules=("gopher_quality", "html"))


@pytest.mark.parametrize(
    "page",
    [
        "<html>" + "<div>" * 100_000 + "\u0130" * 9 + "<SCRIPT>no();</SCRIPT>" + STORY,
        "<html>" + "<span x='>'>" * 100_000 + STORY + "</span>" * 100_000,
        "<html><script>" + "if (a<b) x();" * 10_000 + "</script>" + "<p>" * 10_000 + STORY,
        "<html>" + "<a b=c" * 10_000,
        "<html><p>" + "x" * 1_000_000,
        "<html>" + "&" * 100_000 + "<![CDATA[" * 1000,
        "<!---->" * 2_000 + "<p>" + STORY,
        "<html>" + "<div>" * 2_000 + "<script " * 100_000,
        "<html>" + "<div>" * 2_000 + "<!-- " * 100_000,
        "<html>\x00\x01\ufffe<p>" + STORY,
    ],
)
def test_broken_and_deep_pages_end_soon(page: str) -> None:
    started = time.monotonic()
    found = decided(page)
    assert time.monotonic() - started < 5
    if page.startswith("<html>") and STORY in page:
        assert STORY in found["text"]


def test_a_part_of_a_page_is_markup_too() -> None:
    config = CleanConfig(rules=("html",))
    found = decided('<p>One &amp; <a href="/x">two</a>.</p><ul><li>three</li></ul>', config)
    assert "<" not in found["text"]
    assert found["text"].startswith("One & two.")
    assert decided("<p is not a tag, and 1 <p 2", config)["text"] == "<p is not a tag, and 1 <p 2"


def test_precise_is_trafilaturas(monkeypatch: pytest.MonkeyPatch) -> None:
    precise = CleanConfig(rules=("html",), html=HTML(mode="precise"))
    found = decided(PAGE, precise, title=pa.array([None], pa.string()))
    assert "Sentence 29 of the story" in found["text"]
    assert "About us" not in found["text"]
    assert found["title"] == "The journey"
    hasty = CleanConfig(rules=("html",), html=HTML(mode="precise", max_seconds=0.001))
    assert decided(PAGE, hasty)["drop_reason"] == "no_main_text"
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(MissingToolError, match="pip install trafilatura"):
        decided(PAGE, precise)


def test_a_page_has_a_time() -> None:
    started = time.monotonic()
    with at_most(0.2):
        while True:
            time.sleep(0.01)
    assert time.monotonic() - started < 5
