"""How large row groups and files are: from the samples alone, never from the cluster."""

from __future__ import annotations

from dataclasses import dataclass

ID_BYTES = 4  # a token id in memory, int32
# On disk (dictionary, zstd) a token takes 1.3 to 1.5 bytes of Parquet, the ids of its documents included: measured on
# docstrings, vocabularies of 8,192 and 50,000, samples of 128 and 2,048 tokens.
IDS_ON_DISK = 0.375  # of the bytes in memory
# A row group is what a rank reads at once. Many for small data, so that every rank has several; a few megabytes for
# large data, so that an object store gets few requests; at most about a million, so that a manifest stays small.
_SMALLEST_GROUP_BYTES = 64 << 10
_USUAL_GROUP_BYTES = 8 << 20
_USUAL_GROUPS = 1 << 8
_MOST_GROUPS = 1 << 20
# A reader of one row group reads the footer, which describes all row groups of the file: from files of 870 row groups
# of 128 samples a processor read 36,000 samples a second, from files of 64 row groups 240,000.
_MOST_GROUPS_PER_FILE = 64
# Files are written by a shuffle from every bucket to every file: past this number they grow.
_MOST_FILES = 1 << 15


@dataclass(frozen=True)
class FileShape:
    """Rows of every row group and of every file; only the last ones of a split have fewer."""

    rows_per_row_group: int
    rows_per_file: int


def file_shape(
    samples: int,
    row_bytes: float,
    *,
    rows_per_row_group: int | None,
    file_bytes: int,
    on_disk: float = IDS_ON_DISK,
) -> FileShape:
    """The shape for so many samples: row groups as asked for or as they suit, files of about `file_bytes` on disk.

    `row_bytes` is what a sample takes in memory, `on_disk` the part of it that is left on disk.
    """
    rows = rows_per_row_group or suitable_row_group(samples, row_bytes)
    stored = max(on_disk * row_bytes, 1.0)
    rows_per_file = max(file_bytes, samples * stored / _MOST_FILES) / stored
    return FileShape(rows, rows * min(max(int(rows_per_file / rows), 1), _MOST_GROUPS_PER_FILE))


def suitable_row_group(samples: int, row_bytes: float) -> int:
    """Rows of a row group, a power of two: a few more documents leave it as it is."""
    row = max(int(row_bytes), 1)
    total = samples * row
    size = min(max(total // _USUAL_GROUPS, _SMALLEST_GROUP_BYTES), _USUAL_GROUP_BYTES)
    rows = max(size, total // _MOST_GROUPS) // row
    return 1 << max(rows.bit_length() - 1, 0)
