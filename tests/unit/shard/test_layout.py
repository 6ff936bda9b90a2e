from __future__ import annotations

import pytest

from sparkml.errors import TableError
from sparkml.hosting.layout import Bucket, Layout
from sparkml.hosting.manifests import FileFacts, check_equal_groups, manifest_of
from sparkml.hosting.sizes import FileShape

SPLITS = ("train", "validation")
SHAPE = FileShape(rows_per_row_group=4, rows_per_file=8)


def facts(
    first_id: int, *row_groups: int, split: str = "train", path: str = "/a", content: str = "c"
) -> FileFacts:
    return FileFacts(path, split, first_id, row_groups, 10, "s", content)


def test_numbers_run_on_over_buckets_and_files_start_with_a_split() -> None:
    buckets = [Bucket("validation", 0, 3, 2, 30), Bucket("train", 1, 4, 5, 40), Bucket("train", 0, 2, 1, 20)]
    layout = Layout.of(buckets, SPLITS, FileShape(2, 4))
    assert layout.offsets() == [
        ("train", 0, 0, 0, 0),
        ("train", 1, 2, 0, 0),
        ("validation", 0, 6, 6, 2),
    ]
    assert (layout.samples, layout.samples_of("train"), layout.files) == (9, 6, 3)
    assert (layout.documents, layout.tokens) == (8, 90)


def test_no_buckets_have_no_files() -> None:
    layout = Layout.of([], SPLITS, SHAPE)
    assert (layout.offsets(), layout.files, layout.samples) == ([], 0, 0)


@pytest.mark.parametrize(
    "files",
    [
        [facts(0, 4, 4), facts(8, 4, 2)],
        [facts(0, 3)],
        [facts(0, 4, 4), facts(8, 1), facts(9, 2, split="validation")],
        [],
    ],
)
def test_only_the_end_of_a_split_may_be_short(files: list[FileFacts]) -> None:
    check_equal_groups(files, SHAPE)


@pytest.mark.parametrize(
    "files",
    [
        [facts(0, 4, 3), facts(7, 4)],  # a short file before the last
        [facts(0, 3, 4)],  # a short row group before the last
        [facts(0, 5)],  # too large a row group
        [facts(0, 4, 4, 1)],  # too large a file
        [facts(0, 8)],  # two row groups became one
    ],
)
def test_unequal_row_groups_are_an_error(files: list[FileFacts]) -> None:
    with pytest.raises(TableError, match="equal row groups"):
        check_equal_groups(files, SHAPE)


def test_a_manifest_is_named_by_its_samples_not_by_its_files() -> None:
    common = {"table": "samples", "tokenizer_hash": "t", "sequence_length": 8, "seed": 1}
    one = manifest_of("train", [facts(0, 4, path="/a")], version=0, **common)
    moved = manifest_of("train", [facts(0, 4, path="/b")], version=7, **common)
    other = manifest_of("train", [facts(0, 4, content="d")], version=0, **common)
    assert one.manifest_id == moved.manifest_id != other.manifest_id
    assert (moved.version, moved.files[0].path, moved.rows) == (7, "/b", 4)
    assert len(manifest_of("validation", [facts(0, 4)], version=0, **common).files) == 0
