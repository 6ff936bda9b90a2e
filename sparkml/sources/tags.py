"""Entity tags of token sequences: every usual notation becomes IOB2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_TAG = re.compile(r"O|[BIES]-\S.*")
_ENDS = "ES"
_BEGINS = "BS"


def is_tag(text: str) -> bool:
    """Whether this is O, or B, I, E or S with the name of an entity's kind after a hyphen."""
    return _TAG.fullmatch(text) is not None


def first_bad_tag(tags: Sequence[str]) -> int | None:
    """Where the first stands that is no tag."""
    return next((index for index, tag in enumerate(tags) if not is_tag(tag)), None)


def as_iob2(tags: Iterable[str]) -> list[str]:
    """Tags in IOB2: the first token of an entity has B, its others have I.

    Takes IOB1 (B only where an entity follows another of its kind), IOBES and IOB2, which stays as it is. Ramshaw and
    Marcus 1995, Tjong Kim Sang and Veenstra 1999.
    """
    found: list[str] = []
    inside = ""  # the kind of the entity that the next token may go on with
    for tag in tags:
        mark, kind = tag[0], tag[2:]
        if mark == "O":
            found.append(tag)
        else:
            begins = mark in _BEGINS or kind != inside
            found.append(("B-" if begins else "I-") + kind)
        inside = "" if mark in _ENDS else kind
    return found
