"""A page as a reader meets it: its elements, its references, and the text of each section."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Elements and references of a page; fails where a tag is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.texts: dict[str, list[str]] = {}  # by the id of the section
        self._section = ""
        self.feed(page)
        self.close()
        assert self.open == []

    @property
    def sections(self) -> list[str]:
        """The ids of the sections, in their order."""
        return list(self.texts)

    def text(self, section: str) -> str:
        """What a section says, blanks folded."""
        return " ".join(" ".join(self.texts[section]).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag in ("section", "header"):
            self._section = dict(attrs).get("id") or ""
            self.texts[self._section] = []
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("section", "header"):
            self._section = ""

    def handle_data(self, data: str) -> None:
        if self._section:
            self.texts[self._section].append(data)
