"""The labelled columns of records: pairs, tokens with tags, media in Parquet, splits, and what a path says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from sparkml.kernels.hashing import content_hash
from sparkml.stages.ingest.config import IngestConfig

Read = Callable[..., list[dict[str, Any]]]
GIF = b"GIF89a" + bytes(20)
LABELLED = ("text", "text_b", "tokens", "tags", "media", "media_type", "label", "split")
TOKENS = {"tokens_field": "words", "tags_field": "ner"}


def labelled(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in LABELLED if row[name] is not None}


def write(path: Path, *records: object) -> None:
    path.write_text("\n".join(json.dumps(record) for record in records))


def test_json_fields_become_columns_and_leave_meta(tmp_path: Path, read: Read) -> None:
    write(
        tmp_path / "a.jsonl",
        {"text": "a", "french": "b", "set": "dev", "kind": 3, "url": "http://a", "other": [1]},
        {"words": ["New", "York"], "ner": ["I-LOC", "I-LOC"], "set": "Test"},
        {"text": "New  York", "words": ["New", "York"], "french": None},
    )
    fields = {"text_b_field": "french", "split_field": "set", "label_field": "kind", **TOKENS}
    first, second, third = read(tmp_path, **fields)
    assert labelled(first) == {"text": "a", "text_b": "b", "label": "3", "split": "validation"}
    assert (first["url"], first["meta"]) == ("http://a", {"other": "[1]"})
    assert labelled(second) == {
        "text": "New York",
        "tokens": ["New", "York"],
        "tags": ["B-LOC", "I-LOC"],
        "split": "test",
    }
    assert labelled(third) == {"text": "New  York", "tokens": ["New", "York"]}
    assert third["meta"] == {}


def test_fields_that_no_setting_names_stay_in_meta(tmp_path: Path, read: Read) -> None:
    write(tmp_path / "a.jsonl", {"text": "a", "tokens": 7, "tags": ["x"], "split": "odd", "text_b": "b"})
    (row,) = read(tmp_path)
    assert labelled(row) == {"text": "a"}
    assert row["meta"] == {"tokens": "7", "tags": '["x"]', "split": '"odd"', "text_b": '"b"'}


@pytest.mark.parametrize(
    ("record", "reason", "detail", "numbers"),
    [
        ({"words": ["a", "b"], "ner": ["O"]}, "tags_mismatch", "2 tokens, 1 tags", (1, 2)),
        ({"text": "a", "ner": ["O"]}, "tags_mismatch", "0 tokens, 1 tags", (1, 0)),
        ({"words": ["a"], "ner": ["PER"]}, "bad_tag", "tag 0 is `PER`, expected O", (0, None)),
        ({"words": ["a"], "ner": [3]}, "tags_not_strings", "item 0 of `ner` is int 3", (None, None)),
        ({"words": "a b", "ner": ["O"]}, "tokens_not_strings", "`words` is no list: str 'a b'", (None, None)),
        ({"words": ["a", None]}, "tokens_not_strings", "item 1 of `words` is NoneType", (None, None)),
        ({"words": ["\ud83d"]}, "lone_surrogate", "`words` holds half", (None, None)),
        ({"text": "a", "b": ["b"]}, "text_b_not_a_string", "`b` is list ['b']", (None, None)),
        ({"text": "a", "b": "\ud83d"}, "lone_surrogate", "`b` holds half", (None, None)),
        (
            {"text": "a", "set": "holdout"},
            "unknown_split",
            "`set` is str 'holdout', expected one of train",
            (None, None),
        ),
        ({"text": "a", "set": 1}, "unknown_split", "`set` is int 1", (None, None)),
        ({"text": "a", "img": "abc"}, "media_not_bytes", "`img` is str 'abc'", (None, None)),
        ({"text": "a", "img": {"path": "x"}}, "media_not_bytes", "`img` is dict", (None, None)),
        (
            {"body": "a"},
            "missing_media",
            "neither `img` nor `text` holds anything; fields: body",
            (None, None),
        ),
    ],
)
def test_what_cannot_be_used_is_a_reject_between_its_neighbours(
    tmp_path: Path,
    read: Read,
    record: object,
    reason: str,
    detail: str,
    numbers: tuple[float | None, float | None],
) -> None:
    write(tmp_path / "a.jsonl", {"text": "before"}, record, {"text": "after"})
    before, row, after = read(tmp_path, text_b_field="b", split_field="set", media_field="img", **TOKENS)
    assert (before["text"], after["text"]) == ("before", "after")
    assert row["drop_reason"] == reason
    assert row["detail"].startswith(detail)
    assert (row["value"], row["threshold"]) == numbers
    assert row["locator"] == "19"


def test_parquet_lists_and_structs_of_media(tmp_path: Path, read: Read) -> None:
    rows = [
        {"words": ["a"], "ner": ["S-X"], "image": {"bytes": GIF, "path": "a.gif"}},
        {"words": ["b"], "ner": ["O"], "image": None},
        {"words": None, "ner": None, "image": {"bytes": b"plain text", "path": None}},
        {"words": None, "ner": None, "image": {"bytes": None, "path": "b.gif"}},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("words", pa.list_(pa.string())), ("ner", pa.list_(pa.string())), ("image", kind)])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "a.parquet")
    first, second, third, fourth = read(tmp_path, media_field="image", **TOKENS)
    assert labelled(first) == {
        "text": "a",
        "tokens": ["a"],
        "tags": ["B-X"],
        "media": GIF,
        "media_type": "image/gif",
    }
    assert first["meta"] == {"image": '{"path": "a.gif"}'}
    assert labelled(second) == {"text": "b", "tokens": ["b"], "tags": ["O"]}
    assert (third["drop_reason"], fourth["drop_reason"]) == ("unknown_media", "media_not_bytes")
    assert (
        third["detail"]
        == "`image`, 10 bytes, is no image and no sound: it begins 70 6c 61 69 6e 20 74 65 78 74"
    )


def test_parquet_media_without_a_struct(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"png": [GIF], "class": [4]}), tmp_path / "a.parquet")
    (row,) = read(tmp_path, media_field="png", label_field="class")
    assert labelled(row) == {"media": GIF, "media_type": "image/gif", "label": "4"}
    assert row["meta"] == {}


def test_pairs_are_two_texts_and_perhaps_a_label(tmp_path: Path, read: Read) -> None:
    lines = [b"Go.\tVa !\r", b"", b"a\tb\tyes", b"alone", b"1\t2\t3\t4", b"caf\xe9\tb", b"x\t"]
    (tmp_path / "a.tsv").write_bytes(b"\n".join(lines))
    rows = read(tmp_path, format="pairs", split_bytes=4)
    assert [
        (row["locator"], row["text"], row["text_b"], row["label"], row["drop_reason"]) for row in rows
    ] == [
        ("0", "Go.", "Va !", None, None),
        ("11", "a", "b", "yes", None),
        ("19", None, None, None, "wrong_field_count"),
        ("25", None, None, None, "wrong_field_count"),
        ("33", None, None, None, "invalid_utf8"),
        ("40", "x", "", None, None),
    ]
    assert rows[0]["content_hash"] == content_hash(b"Go.\tVa !")
    assert rows[2]["detail"] == "1 columns, expected two texts and perhaps a label: alone"
    assert (rows[3]["value"], rows[3]["threshold"]) == (4.0, 3.0)


def test_a_path_says_label_and_split(tmp_path: Path, read: Read) -> None:
    for name in ("train/cat/1.txt", "dev/dog/2.txt", "rest/3.txt", "train/none.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    patterns = {"label_pattern": r"(\w+)/\d\.txt$", "split_pattern": r"^(train|dev)/"}
    rows = {row["text"]: (row["label"], row["split"]) for row in read(tmp_path, **patterns)}
    assert rows == {
        "train/cat/1.txt": ("cat", "train"),
        "dev/dog/2.txt": ("dog", "validation"),
        "rest/3.txt": ("rest", None),
        "train/none.txt": (None, "train"),
    }


def test_a_field_has_the_word_before_a_path(tmp_path: Path, read: Read) -> None:
    write(
        tmp_path / "x.jsonl",
        {"text": "a", "y": "field", "s": "test"},
        {"text": "b"},
        {"text": "c", "y": None},
    )
    rows = read(tmp_path, label_field="y", split_field="s", label_pattern="^(x)", split_pattern="^(x)")
    assert [(row["label"], row["split"], row["drop_reason"]) for row in rows] == [
        ("field", "test", None),
        (None, None, "unknown_split"),
        (None, None, "unknown_split"),
    ]
    rows = read(tmp_path, label_field="y", label_pattern="^(x)")
    assert [row["label"] for row in rows] == ["field", "x", "x"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("train", "0 groups, expected one"), ("(a)(b)", "2 groups"), ("(a", "no regular expression")],
)
def test_a_pattern_has_one_group(pattern: str, said: str) -> None:
    for name in ("label_pattern", "split_pattern"):
        with pytest.raises(ValidationError, match=said):
            IngestConfig(source={"path": "x", name: pattern})
