"""The table of formats: what is derived from it, and that reading stays light."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

from sparkml.sources.formats.table import BY_EXTENSION, FILE_FORMATS, FORMATS, FormatName


def test_names_that_a_configuration_may_give() -> None:
    files = (
        *("jsonl", "parquet", "csv", "tsv", "text", "lines", "conll", "pairs", "images", "audio", "idx"),
        *("html", "warc", "wet", "arc", "mediawiki", "pdf", "office"),
    )
    assert files == FILE_FORMATS
    assert get_args(FormatName) == ("auto", *files, "delta", "jdbc", "kafka", "python_env")


def test_an_extension_says_one_format() -> None:
    assert BY_EXTENSION == {
        ".arc": "arc",
        ".pdf": "pdf",
        ".docx": "office",
        ".pptx": "office",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "jsonl",
        ".parquet": "parquet",
        ".pq": "parquet",
        ".csv": "csv",
        ".tsv": "tsv",
        ".tab": "tsv",
        ".txt": "text",
        ".text": "text",
        ".md": "text",
        ".rst": "text",
        ".conll": "conll",
        ".png": "images",
        ".jpg": "images",
        ".jpeg": "images",
        ".gif": "images",
        ".bmp": "images",
        ".webp": "images",
        ".tif": "images",
        ".tiff": "images",
        ".wav": "audio",
        ".flac": "audio",
        ".idx3-ubyte": "idx",
        ".idx1-ubyte": "idx",
        ".html": "html",
        ".htm": "html",
        ".xhtml": "html",
        ".warc": "warc",
        ".wet": "wet",
        ".wat": "wet",
    }
    assert sum(len(entry.extensions) for entry in FORMATS.values()) == len(BY_EXTENSION)


def test_the_table_does_not_import_numba() -> None:
    code = "import sys; import sparkml.sources.reader; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
