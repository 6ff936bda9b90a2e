"""CoNLL files: sentences, comments, documents; every way in which a line can be wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sparkml.kernels.hashing import content_hash, document_id
from sparkml.sources.tags import as_iob2
from sparkml.stages.ingest.config import IngestConfig

Read = Callable[..., list[dict[str, Any]]]
CONLL_2003 = b"""-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O


Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""


def outline(rows: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
    return [(row["locator"], row["text"], row["drop_reason"]) for row in rows]


def test_a_sentence_becomes_a_golden_row(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.conll").write_bytes(CONLL_2003)
    first, second = read(tmp_path)
    assert {name: value for name, value in first.items() if value is not None} == {
        "doc_id": document_id("d", "a.conll", "3"),
        "source": f"file://{tmp_path}/a.conll",
        "locator": "3",
        "content_hash": content_hash(b"EU NNP I-NP I-ORG\nrejects VBZ I-VP O"),
        "text": "EU rejects",
        "tokens": ["EU", "rejects"],
        "tags": ["B-ORG", "O"],
        "meta": {"1": '["NNP", "VBZ"]', "2": '["I-NP", "I-VP"]'},
        "position": 3,
    }
    assert (second["locator"], second["tags"]) == ("7", ["B-PER", "I-PER"])


def test_tabs_blanks_and_line_ends(tmp_path: Path, read: Read) -> None:
    data = b"\xef\xbb\xbfNew\tB-LOC\r\nYork City\tI-LOC \t\r\n\t\r\n \r\n a   O\r\n"
    (tmp_path / "a.txt").write_bytes(data)
    first, second = read(tmp_path, format="conll")
    assert (first["tokens"], first["tags"]) == (["New", "York City"], ["B-LOC", "I-LOC"])
    assert (second["locator"], second["tokens"]) == ("5", ["a"])


def test_a_mark_with_a_tag_is_a_token_and_one_without_is_a_comment(tmp_path: Path, read: Read) -> None:
    data = b"# id 7 domain=en\n#nowplaying\tO\n#\tB-misc\n# text of it\n1\tO\n\n#\n# only a comment\n\n"
    (tmp_path / "a.conll").write_bytes(data)
    (row,) = read(tmp_path)
    assert (row["locator"], row["tokens"]) == ("2", ["#nowplaying", "#", "1"])
    assert row["tags"] == ["O", "B-misc", "O"]


def test_the_tag_may_stand_in_another_column(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.conll").write_bytes(b"EU I-ORG NNP\n\nonly O\n\nshort\n")
    first, second, third = read(tmp_path, tag_column=1)
    assert (first["tags"], first["meta"]) == (["B-ORG"], {"2": '["NNP"]'})
    assert second["tags"] == ["O"]
    assert third["drop_reason"] == "malformed_conll"


@pytest.mark.parametrize(
    ("bad", "reason", "said"),
    [
        (b"alone", "malformed_conll", "line 4: 1 columns, expected a token and its tag: alone"),
        (b"\tO", "malformed_conll", "line 4: 2 columns, expected a token and its tag:  | O"),
        (
            b"New York O",
            "malformed_conll",
            "line 4: 3 columns, expected 2 columns as in the sentence's first line",
        ),
        (b"x PERSON", "bad_tag", "line 4: tag 1 is `PERSON`, expected O, or B-, I-, E- or S- with a kind"),
        (b"x B-", "bad_tag", "line 4: tag 1 is `B-`"),
        (b"x o", "bad_tag", "line 4: tag 1 is `o`"),
        (b"caf\xe9 O", "invalid_utf8", "invalid continuation byte at byte 16"),
        (b"x" * 200 + b" O", "record_too_large", "more than 100 bytes"),
    ],
)
def test_a_bad_line_costs_its_sentence_and_no_other(
    tmp_path: Path, read: Read, bad: bytes, reason: str, said: str
) -> None:
    (tmp_path / "a.conll").write_bytes(b"one O\n\ntwo O\n" + bad + b"\nmore O\n\nlast O\n")
    rows = read(tmp_path, max_record_bytes=100)
    assert outline(rows) == [("1", "one", None), ("4", None, reason), ("7", "last", None)]
    assert rows[1]["detail"].startswith(said)
    assert rows[1]["source"] == f"file://{tmp_path}/a.conll"


def test_a_sentence_without_an_end_takes_no_memory(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.conll").write_bytes(b"one O\n" * 1_000 + b"\nlast O\n")
    assert outline(read(tmp_path, max_record_bytes=99)) == [
        ("17", None, "record_too_large"),
        ("1002", "last", None),
    ]


def test_a_broken_stream_costs_the_open_sentence(tmp_path: Path, read: Read) -> None:
    data = gzip.compress(b"".join(b"token%d O\n\n" % index for index in range(5_000)))
    (tmp_path / "a.conll.gz").write_bytes(data[: len(data) // 2])
    *good, last = read(tmp_path)
    assert [row["text"] for row in good] == [f"token{index}" for index in range(len(good))]
    assert 100 < len(good) < 4_900
    assert last["drop_reason"] == "truncated_gzip"
    assert len({row["doc_id"] for row in (*good, last)}) == len(good) + 1


def test_sentences_are_never_cut(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.conll").write_bytes(b"one O\ntwo O\n\n" * 500)
    rows = read(tmp_path, split_bytes=100)
    assert len(rows) == 500
    assert {row["text"] for row in rows} == {"one two"}


def test_an_empty_file_and_one_of_blank_lines_hold_nothing(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.conll").write_bytes(b"")
    (tmp_path / "b.conll").write_bytes(b"\n\t\n  \n-DOCSTART- O\n")
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("B-A I-A O B-A", "B-A I-A O B-A"),
        ("I-A I-A O I-A", "B-A I-A O B-A"),
        ("I-A B-A I-A I-B", "B-A B-A I-A B-B"),
        ("S-A B-A I-A E-A O", "B-A B-A I-A I-A O"),
        ("S-A S-A B-B E-B E-B", "B-A B-A B-B I-B B-B"),
        ("B-creative-work I-creative-work", "B-creative-work I-creative-work"),
        ("", ""),
    ],
)
def test_every_notation_becomes_iob2(given: str, expected: str) -> None:
    assert as_iob2(given.split()) == expected.split()
    assert as_iob2(expected.split()) == expected.split()


def test_the_first_column_is_the_tokens() -> None:
    with pytest.raises(ValidationError, match="tag_column 0 is the token's"):
        IngestConfig(source={"path": "x", "tag_column": 0})
