"""The table of formats: what each is called, which extensions it has, how it is read and cut.

To add a format: a module beside this one with a function from an `OpenSplit` to records and defects, and a row
here. Listing, splitting, reading and the names that a configuration may give all follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sparkml.sources.formats.delimited import read_csv, read_tsv
from sparkml.sources.formats.json_lines import read_json_lines
from sparkml.sources.formats.parquet import read_parquet
from sparkml.sources.formats.plain_lines import read_plain_lines
from sparkml.sources.formats.plain_text import read_text_file
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record


@dataclass(frozen=True)
class Format:
    """A format: its name in a configuration, the extensions of its files, and its reader.

    `cut`: what a large file is cut at to be read by several tasks. `cost`: what reading a byte costs, compared
    with plain JSON Lines, because it grows when decompressed or is parsed slowly. `embedded`: found only in the
    embedded corpus; no configuration names it.
    """

    name: str
    extensions: tuple[str, ...]
    read: Callable[[OpenSplit], Iterator[Record | Defect]]
    cut: Literal["never", "lines", "row_groups"] = "never"
    cost: int = 1
    embedded: bool = False


def _read_docstrings(opened: OpenSplit) -> Iterator[Record | Defect]:
    # numba takes a worker a second to import, and no other format needs it.
    from sparkml.sources.formats.docstrings import read_docstrings

    return read_docstrings(opened)


_FORMATS = (
    Format("jsonl", (".jsonl", ".ndjson", ".json"), read_json_lines, cut="lines"),
    Format("parquet", (".parquet", ".pq"), read_parquet, cut="row_groups", cost=3),
    Format("csv", (".csv",), read_csv, cost=2),
    Format("tsv", (".tsv", ".tab"), read_tsv, cost=2),
    Format("text", (".txt", ".text", ".md", ".rst"), read_text_file),
    Format("lines", (), read_plain_lines, cut="lines"),
    Format("docstrings", (), _read_docstrings, cost=3, embedded=True),
)
FORMATS = {entry.name: entry for entry in _FORMATS}
BY_EXTENSION = {extension: entry.name for entry in _FORMATS for extension in entry.extensions}

AUTO = "auto"  # by the extension of each file
EMBEDDED = "python_env"  # the embedded corpus: files of more than one format
UNKNOWN = "unknown"  # a file whose extension says nothing
FILE_FORMATS = tuple(entry.name for entry in _FORMATS if not entry.embedded)

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[(AUTO, *FILE_FORMATS, EMBEDDED)]
