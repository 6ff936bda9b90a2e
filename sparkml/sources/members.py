"""What an archive's reader yields: members with safe, distinct names. Nothing is ever unpacked onto a disk."""

from __future__ import annotations

import re
from typing import NamedTuple

from sparkml.sources.records import Defect, printable, too_large

_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_PATH = 4096


class Member(NamedTuple):
    """A stored file: its path inside the archive, None for a file that is no archive."""

    position: int
    path: str | None
    data: bytes


class MemberNames:
    """Judges the names of one archive's members, in their order."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def path(self, position: int, name: str) -> str | Defect | None:
        """The path that a name stands for; None where it is hidden, as in a folder: a part begins with `.` or `_`.

        A name that leads out of the archive, or that an earlier member has, is a defect.
        """
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        outside = name.startswith("/") or ".." in parts or _DRIVE.match(name)
        if outside or not parts or "\0" in name or len(name) > _LONGEST_PATH:
            return member_defect(
                position, name, "unsafe_path", "the name leads out of the archive, or is none"
            )
        if any(part.startswith((".", "_")) for part in parts):
            return None
        path = "/".join(parts)
        if path in self._seen:
            return member_defect(position, name, "duplicate_member", "an earlier member has this name")
        self._seen.add(path)
        return path


def member_defect(position: int, name: str, reason: str, detail: str) -> Defect:
    """The defect of a member that has no path of its own: no path holds two slashes in a row."""
    shown = printable(name, 100)
    return Defect(position, f"{position}//{shown}", reason, printable(f"{shown}: {detail}"))


def member_too_large(position: int, path: str, size: int, limit: int) -> Defect:
    """The defect of a member that is larger than a record may be."""
    return too_large(position, path, size, limit)


def archive_defect(position: int, reason: str, detail: str) -> Defect:
    """The defect that stands for the rest of an archive, from the member at `position` on."""
    return Defect(position, f"{position}//", reason, printable(detail), position)
