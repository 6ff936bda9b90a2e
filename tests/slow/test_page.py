"""The page of a service in a real browser: Debian's `chromium`, without a window."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from sparkml.tasks.pairs import Pairs
from tests.browser import opened
from tests.servers import free_ports
from tests.service import ALICE, Served, serving
from tests.tiny import tiny_classifier, tiny_image_classifier


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    tiny_classifier(folder / "mood", labels=("good", "bad"))
    tiny_classifier(folder / "same", labels=("yes", "no"), task=Pairs)
    tiny_image_classifier(folder / "picture")
    words = [str(folder / name) for name in ("mood", "same", "picture")]
    with serving(folder, *words, "workers=1", port=free_ports(1)[0]) as running:
        yield running


@pytest.fixture
def page(served) -> Iterator[Page]:
    with opened(served) as found:
        yield found


def _sign_in(page: Page, model: str) -> None:
    page.fill("#token", ALICE)
    page.press("#token", "Tab")
    expect(page.locator("#model option")).to_have_count(3)
    page.select_option("#model", model)


def test_a_text_is_answered_and_explained(page, tmp_path):
    _sign_in(page, "mood")
    expect(page.locator("#about")).to_contain_text("classify")
    page.fill("#text", "spam <b>offer</b> lunch")
    page.click("#ask")
    expect(page.locator("#answers h2")).to_contain_text("mood@")
    expect(page.locator("#answers meter")).to_have_count(2)
    page.click("#explain")
    expect(page.locator("#answers .text span")).to_have_text(["spam ", "<b>offer</b> ", "lunch"])
    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 5000


def test_a_file_of_texts_is_answered_line_by_line(page, tmp_path):
    (tmp_path / "texts.txt").write_text("spam offer\n\nlunch tomorrow\n")
    _sign_in(page, "mood")
    page.set_input_files("#file", tmp_path / "texts.txt")
    page.click("#ask")
    expect(page.locator("#answers tr")).to_have_count(2)
    expect(page.locator("#answers tr").first).to_contain_text("spam offer")


def test_pairs_and_images(page, tmp_path):
    _sign_in(page, "same")
    page.fill("#text", "spam")
    page.fill("#text-b", "lunch")
    page.click("#ask")
    expect(page.locator("#answers meter")).to_have_count(2)
    from PIL import Image

    Image.new("RGB", (20, 20), (0, 90, 200)).save(tmp_path / "blue.png")
    page.select_option("#model", "picture")
    expect(page.locator("#one")).to_be_hidden()
    page.set_input_files("#file", tmp_path / "blue.png")
    page.click("#ask")
    expect(page.locator("#answers h2")).to_contain_text("picture@")


def test_what_is_wrong_is_said(page):
    page.fill("#token", "wrong")
    page.press("#token", "Tab")
    expect(page.locator("#error")).to_contain_text("401")
    _sign_in(page, "picture")
    page.click("#ask")
    expect(page.locator("#error")).to_have_text("choose a file")


def test_the_documentation_is_shown(page):
    page.click("text=What the service answers to")
    expect(page.locator("h2", has_text="POST /v1/score")).to_be_visible()
    expect(page.locator("pre").first).to_contain_text("curl")
