"""A page of a service in a real browser: Debian's `chromium`, without a window."""

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from tests.service import Served


@contextlib.contextmanager
def opened(served: Served, path: str = "") -> Iterator[Page]:
    """The page, without faults in its console but refused requests, and without requests to elsewhere."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser_path, "the browser is missing: apt-get install chromium"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        with contextlib.closing(browser):
            found = browser.new_page()
            faults: list[str] = []
            asked: list[str] = []
            found.on(
                "console", lambda message: faults.append(message.text) if message.type == "error" else None
            )
            found.on("pageerror", lambda error: faults.append(str(error)))
            found.on("request", lambda request: asked.append(request.url))
            found.goto(f"http://127.0.0.1:{served.port}/{path}")
            yield found
            assert not [fault for fault in faults if "401" not in fault]
            assert all(url.startswith(f"http://127.0.0.1:{served.port}/") for url in asked)
