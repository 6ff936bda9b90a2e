"""Dumps of MediaWiki (XML): one document an article, its markup as plain text.

Redirects and pages outside of the article space are rejects. A page's newest revision in the dump counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from sparkml.sources.compression import BrokenStreamError
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, printable, too_large
from sparkml.sources.time_limit import at_most
from sparkml.sources.wikitext import plain_text

_MOST_SECONDS = 30
_KEPT = frozenset(("title", "ns", "id", "timestamp", "text", "model", "format"))
_PLAIN = ("wikitext", "")


def read_mediawiki(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every article; its locator is the page's id, else `#` and its number in the file."""
    pages = _Pages(opened.options.max_record_bytes)
    number, seen = 0, set[str]()
    why: Defect | None = None
    try:
        for chunk in opened.utf8_chunks():
            pages.feed(chunk)
            for page in pages.take():
                yield _item(number, page, opened, seen)
                number += 1
        pages.close()
    except BrokenStreamError as error:
        why = Defect(number, f"{number}//", error.reason, error.detail, error.value, error.threshold)
    except (expat.ExpatError, ValueError) as error:
        why = Defect(number, f"{number}//", "malformed_xml", printable(str(error)), number)
    for page in pages.take():
        yield _item(number, page, opened, seen)
        number += 1
    if why is not None:
        yield why._replace(position=number, locator=f"{number}//")


class _Pages:
    """Collects the pages of a stream of XML, in the memory of one page."""

    def __init__(self, limit: int) -> None:
        # The bytes are UTF-8 by now, whatever the declaration says.
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        # An entity of a dump's own could stand for gigabytes.
        self._parser.EntityDeclHandler = self._refuse
        self._limit = limit
        self._done: list[dict[str, Any]] = []
        self._page: dict[str, Any] | None = None
        self._path: list[str] = []
        self._parts: list[str] | None = None
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Read on."""
        self._parser.Parse(chunk, False)

    def close(self) -> None:
        """The stream has ended; ExpatError where it should not have."""
        self._parser.Parse(b"", True)

    def take(self) -> list[dict[str, Any]]:
        """The pages that have ended since."""
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if name == "page" and self._page is None:
            self._page, self._size = {}, 0
        elif self._page is not None:
            if name == "redirect":
                self._page["redirect"] = attributes.get("title", "")
            self._parts = [] if name in _KEPT else None

    def _characters(self, text: str) -> None:
        if self._parts is None:
            return
        self._size += len(text)
        if self._size <= self._limit:
            self._parts.append(text)

    def _end(self, name: str) -> None:
        if self._path:
            self._path.pop()
        if self._page is None:
            return
        if name == "page":
            self._page["size"] = self._size
            self._done.append(self._page)
            self._page = None
        elif self._parts is not None:
            # The page's id is its own, not its revision's or its author's.
            if name != "id" or (self._path and self._path[-1] == "page"):
                self._page[name] = "".join(self._parts)
            self._parts = None

    def _refuse(self, name: str, *_: object) -> None:
        raise ValueError(f"the file declares an entity `{printable(name, 40)}`")


def _item(number: int, page: dict[str, Any], opened: OpenSplit, seen: set[str]) -> Record | Defect:
    given = str(page.get("id") or "")
    locator = given if given and given not in seen else f"#{number}"
    seen.add(given)
    title = page.get("title", "")
    if page["size"] > opened.options.max_record_bytes:
        return too_large(number, locator, page["size"], opened.options.max_record_bytes)
    if "redirect" in page:
        return Defect(number, locator, "redirect", printable(f"{title} -> {page['redirect']}"))
    if page.get("ns", "0") != "0":
        return Defect(number, locator, "not_an_article", printable(title), float(_number(page["ns"])), 0)
    if page.get("model", "wikitext") not in _PLAIN:
        return Defect(number, locator, "not_wikitext", printable(str(page["model"])))
    markup = str(page.get("text", ""))
    text = None
    with at_most(_MOST_SECONDS):
        text = plain_text(markup)
    if text is None:
        return Defect(number, locator, "markup_too_slow", printable(title), _MOST_SECONDS, _MOST_SECONDS)
    fields = {
        opened.options.text_field: text,
        "title": title,
        "page_id": given,
        "published": page.get("timestamp"),
    }
    return Record(number, locator, fields, markup.encode("utf-8", "surrogatepass"))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1
