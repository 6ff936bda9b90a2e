"""The pages to label and to ask, in a real browser: Debian's `chromium`, without a window."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sparkml.frame.delta import FolderTable
from tests.browser import opened
from tests.servers import free_ports
from tests.service import ALICE, Served, serving
from tests.tiny import DECIDED, tiny_classifier, tiny_retriever
from tests.unit.serving.test_labelling import given, queue_rows


@pytest.fixture
def lake(tmp_path) -> Path:
    rows = queue_rows(("a", 0.9, "good"), ("b", 0.5, "bad"), ("c", 0.1, "good"))
    FolderTable("labelling", str(tmp_path / "lake" / "labelling")).append(rows, {})
    return tmp_path / "lake"


@pytest.fixture
def page(lake) -> Iterator[Page]:
    words = [f"lake={lake}", "free=true"]
    with (
        serving(lake.parent, *words, port=free_ports(1)[0], command="label") as served,
        opened(served) as found,
    ):
        yield found


def _load(page: Page) -> None:
    page.fill("#token", ALICE)
    page.press("#token", "Enter")


def test_rows_are_labelled_by_click_by_key_and_freely(page, lake):
    _load(page)
    expect(page.locator("#state")).to_have_text("3 to label, 0 done")
    expect(page.locator("#text")).to_have_text("text of a")
    expect(page.locator("#why")).to_contain_text("uncertain, predicted good (0.500)")
    page.click("#choices button[data-label=bad]")
    expect(page.locator("#text")).to_have_text("text of b")
    page.keyboard.press("2")
    expect(page.locator("#text")).to_have_text("text of c")
    page.click("#back")
    expect(page.locator("#choices .strong")).to_have_text("2 good")
    page.keyboard.press("0")
    expect(page.locator("#text")).to_have_text("text of c")
    page.fill("#free", "neither <b>")
    page.click("#give")
    expect(page.locator("#state")).to_have_text("0 to label, 3 done")
    expect(page.locator("#row")).to_be_hidden()
    assert {row["doc_id"]: row["label"] for row in given(lake)} == {
        "a": "bad",
        "b": "good",
        "c": "neither <b>",
    }


def test_a_wrong_token_is_told(page):
    page.fill("#token", "wrong" * 6)
    page.click("#load")
    expect(page.locator("#error")).to_contain_text("401")


@pytest.fixture
def service(tmp_path) -> Iterator[Served]:
    tiny_classifier(tmp_path / "wanted", labels=("lost_card", "room"), config=DECIDED)
    tiny_retriever(tmp_path / "vectors")
    faq = tmp_path / "faq.jsonl"
    faq.write_text(json.dumps({"question": "lunch meeting", "answer": "In <i>room</i> 3."}) + "\n")
    words = [str(tmp_path / "wanted"), str(tmp_path / "vectors"), "intents=wanted", "scope=0.2"]
    settings = [f"faq={faq}", "faq_model=vectors", "faq_similarity=0.99"]
    with serving(tmp_path, *words, *settings, port=free_ports(1)[0]) as served:
        yield served


def test_a_dialogue(service):
    with opened(service, "dialogue") as page:
        page.fill("#token", ALICE)
        page.fill("#text", "lunch meeting")
        page.press("#text", "Enter")
        expect(page.locator(".reply .answer")).to_have_text("In <i>room</i> 3.")
        page.fill("#text", "prize cash spam")
        page.click("#ask")
        expect(page.locator(".reply")).to_have_count(2)
        expect(page.locator(".reply").nth(1)).to_have_attribute("data-kind", "intent")
        expect(page.locator(".asked").nth(1)).to_have_text("prize cash spam")
