"""The table of formats: what each is called, which extensions it has, how it is read and cut.

To add a format: a module beside this one with a function from an `OpenSplit` to records and defects, and a row
here. Listing, splitting, reading and the names that a configuration may give all follow from it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sparkml.errors import MissingToolError
from sparkml.sources.formats.arc import read_arc
from sparkml.sources.formats.conll import read_conll
from sparkml.sources.formats.delimited import read_csv, read_tsv
from sparkml.sources.formats.idx import read_idx
from sparkml.sources.formats.json_lines import read_json_lines
from sparkml.sources.formats.media import read_audio, read_images
from sparkml.sources.formats.mediawiki import read_mediawiki
from sparkml.sources.formats.pairs import read_pairs
from sparkml.sources.formats.paper import read_office, read_pdf
from sparkml.sources.formats.parquet import read_parquet
from sparkml.sources.formats.plain_lines import read_plain_lines
from sparkml.sources.formats.plain_text import read_text_file
from sparkml.sources.formats.web_archives import read_web_archive
from sparkml.sources.formats.web_pages import read_web_pages
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record


@dataclass(frozen=True)
class Format:
    """A format: its name in a configuration, the extensions of its files, and its reader.

    `cut`: what a large file is cut at to be read by several tasks (`members`: where it is compressed, each record by
    itself). `cost`: what reading a byte costs beside one
    of plain JSON Lines, as it grows when decompressed or is parsed slowly. `embedded`: met in the embedded corpus
    alone, where no configuration names it. `columns`: the labelled columns that the format itself has, so that no
    configuration need name their fields. `needs`: modules of an extra, without which it cannot be read.
    """

    name: str
    extensions: tuple[str, ...]
    read: Callable[[OpenSplit], Iterator[Record | Defect]]
    cut: Literal["never", "lines", "row_groups", "members"] = "never"
    cost: int = 1
    embedded: bool = False
    columns: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _read_docstrings(opened: OpenSplit) -> Iterator[Record | Defect]:
    # numba takes a worker a second to import, and no other format needs it.
    from sparkml.sources.formats.docstrings import read_docstrings

    return read_docstrings(opened)


_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_FORMATS = (
    Format("jsonl", (".jsonl", ".ndjson", ".json"), read_json_lines, cut="lines"),
    Format("parquet", (".parquet", ".pq"), read_parquet, cut="row_groups", cost=3),
    Format("csv", (".csv",), read_csv, cost=2),
    Format("tsv", (".tsv", ".tab"), read_tsv, cost=2),
    Format("text", (".txt", ".text", ".md", ".rst"), read_text_file),
    Format("lines", (), read_plain_lines, cut="lines"),
    Format("conll", (".conll",), read_conll, cost=2, columns=("tokens", "tags")),
    Format("pairs", (), read_pairs, cut="lines", columns=("text_b", "label")),
    Format("images", _IMAGES, read_images, columns=("media",)),
    Format("audio", (".wav", ".flac"), read_audio, columns=("media",)),
    Format("idx", (".idx3-ubyte", ".idx1-ubyte"), read_idx, cost=4, columns=("media", "label")),
    Format("html", (".html", ".htm", ".xhtml"), read_web_pages),
    Format("warc", (".warc",), read_web_archive, cut="members", cost=2),
    Format("wet", (".wet", ".wat"), read_web_archive, cut="members", cost=2),
    Format("arc", (".arc",), read_arc, cost=2),
    Format("mediawiki", (), read_mediawiki, cost=20),
    Format("pdf", (".pdf",), read_pdf, cost=10, needs=("pypdf",)),
    Format("office", (".docx", ".pptx"), read_office, cost=10, needs=("docx", "pptx")),
    Format("docstrings", (), _read_docstrings, cost=3, embedded=True),
)
FORMATS = {entry.name: entry for entry in _FORMATS}
BY_EXTENSION = {extension: entry.name for entry in _FORMATS for extension in entry.extensions}

AUTO = "auto"  # by the extension of each file
EMBEDDED = "python_env"  # the embedded corpus: files of more than one format
UNKNOWN = "unknown"  # a file whose extension says nothing
FILE_FORMATS = tuple(entry.name for entry in _FORMATS if not entry.embedded)
DELTA, JDBC, KAFKA = TABLE_FORMATS = ("delta", "jdbc", "kafka")  # no files: Spark reads them


def check_needs(names: Set[str]) -> None:
    """MissingToolError where a format lacks a module that it is read with."""
    for name in sorted(names & FORMATS.keys()):
        missing = [need for need in FORMATS[name].needs if importlib.util.find_spec(need) is None]
        if missing:
            raise MissingToolError(
                f"the format `{name}` needs {' and '.join(missing)}",
                next_action="pip install 'sparkml[documents]'",
            )


if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[(AUTO, *FILE_FORMATS, *TABLE_FORMATS, EMBEDDED)]
