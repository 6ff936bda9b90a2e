"""Tokens, pairs and images of one source, from their files to the documents that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkml.stages.dedupe.signing import compared_documents
from tests.command_line import call
from tests.conftest import SMALL
from tests.identities import table, violations

PNG = b"\x89PNG\r\n\x1a\n"
PROSE = (
    "The museum by the old harbour was closed for seven years. When it opened again in spring, people came from every "
    "part of the country to see what had been kept in its cellars. They found maps that nobody had drawn twice, "
    "letters with broken seals, and a small wooden boat. The keeper told them that it must be repaired before winter."
)
FRENCH = "Le mus\u00e9e du vieux port \u00e9tait ferm\u00e9 depuis sept ans"
STEPS = """
steps:
  ingest: {source: {text_b_field: french, tokens_field: words, tags_field: ner, split_field: set,
                    label_pattern: "^(cat|dog)/"}}
  clean: {}
  dedupe: {}
"""


def write_source(folder: Path) -> None:
    """Every kind of record, and one of each that cannot be used."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
    (folder / "a.conll").write_bytes(b"EU I-ORG\n  rejects O\n\nPeter S-PER\n\ncall X-PER\n")
    (folder / "cat" / "1.png").write_bytes(PNG + b"cat")
    (folder / "dog" / "2.png").write_bytes(PNG + b"dog")
    (folder / "dog" / "3.jpg").write_bytes(PNG + b"dog")
    (folder / "dog" / "4.png").write_bytes(b"a page that says: not found")
    records = [
        {"text": PROSE, "french": FRENCH, "set": "dev"},
        {"text": PROSE, "french": f"{FRENCH} {FRENCH[::-1]}", "set": "train"},
        {"text": "Run!", "french": "Cours\u202f!"},
        {"words": ["le", "e\u0301te\u0301"], "ner": ["O", "O"], "set": "test"},
        {"words": ["a"], "ner": []},
    ]
    (folder / "b.jsonl").write_text("\n".join(json.dumps(record) for record in records))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    write_source(folder / "source")
    (folder / "steps.yaml").write_text(STEPS)
    words = [f"lake={folder / 'lake'}", f"ingest.source.path={folder / 'source'}", *SMALL]
    code, shown = call("run-all", "--pipeline", str(folder / "steps.yaml"), *words)
    assert code == 0, shown[-3000:]
    assert spark.range(1).count() == 1
    return folder / "lake"


def rows_of(lake: Path, name: str, *columns: str) -> list[tuple[Any, ...]]:
    rows = [tuple(row.values()) for row in table(lake, name).select(list(columns)).to_pylist()]
    return sorted(rows, key=str)


def test_every_record_has_come_in(lake: Path) -> None:
    columns = ("text", "text_b", "tokens", "tags", "media", "media_type", "label", "split")
    assert rows_of(lake, "bronze", *columns) == sorted(
        [
            ("EU rejects", None, ["EU", "rejects"], ["B-ORG", "O"], None, None, None, None),
            ("Peter", None, ["Peter"], ["B-PER"], None, None, None, None),
            (None, None, None, None, PNG + b"cat", "image/png", "cat", None),
            (None, None, None, None, PNG + b"dog", "image/png", "dog", None),
            (None, None, None, None, PNG + b"dog", "image/png", "dog", None),
            (PROSE, FRENCH, None, None, None, None, None, "validation"),
            (PROSE, f"{FRENCH} {FRENCH[::-1]}", None, None, None, None, None, "train"),
            ("Run!", "Cours\u202f!", None, None, None, None, None, None),
            ("le e\u0301te\u0301", None, ["le", "e\u0301te\u0301"], ["O", "O"], None, None, None, "test"),
        ],
        key=str,
    )


def test_what_cannot_be_used_is_rejected_with_its_place(lake: Path) -> None:
    rejects = table(lake, "rejects").to_pylist()
    found = {(row["step"], row["drop_reason"]): row for row in rejects}
    assert set(found) == {
        ("ingest", "bad_tag"),
        ("ingest", "not_an_image"),
        ("ingest", "tags_mismatch"),
        ("clean", "top_2_gram"),
    }
    assert found["ingest", "bad_tag"]["locator"] == "6"
    assert found["ingest", "bad_tag"]["source"].endswith("/a.conll")
    assert found["ingest", "tags_mismatch"]["detail"] == "1 tokens, 0 tags"


def test_the_rules_are_for_running_text_alone(lake: Path) -> None:
    assert rows_of(lake, "clean", "text", "text_b", "tokens", "label", "n_words", "split") == sorted(
        [
            ("EU rejects", None, ["EU", "rejects"], None, 2, None),
            ("Peter", None, ["Peter"], None, 1, None),
            (None, None, None, "cat", 0, None),
            (None, None, None, "dog", 0, None),
            (None, None, None, "dog", 0, None),
            (PROSE, FRENCH, None, None, 62, "validation"),
            (PROSE, f"{FRENCH} {FRENCH[::-1]}", None, None, 62, "train"),
            ("le e\u0301te\u0301", None, ["le", "e\u0301te\u0301"], None, 2, "test"),
        ],
        key=str,
    )


def test_one_of_equal_images_stays_and_so_do_two_translations(lake: Path) -> None:
    assert rows_of(lake, "duplicates", "kind", "similarity") == [("exact", 1.0)]
    kept = table(lake, "kept")
    assert sorted(label for label in kept.column("label").to_pylist() if label) == ["cat", "dog"]
    assert kept.column("text").to_pylist().count(PROSE) == 2
    assert kept.num_rows == 7


def test_the_identities_hold(lake: Path) -> None:
    assert violations(lake) == []


def test_pairs_and_media_are_compared_by_all_that_they_hold(spark: SparkSession) -> None:
    rows = [
        ("a", "text", None, None),
        ("b", "text", None, None),  # equal to a
        ("c", "text", "answer", None),
        ("d", "text", "answer", None),  # equal to c
        ("e", "text", "", None),
        ("f", None, None, b"picture"),
        ("g", None, None, b"picture"),  # equal to f
        ("h", "", None, b"picture"),
        ("i", "text", None, b"picture"),
        ("j", "other", None, b"picture"),
    ]
    frame = spark.createDataFrame(rows, "doc_id string, text string, text_b string, media binary")
    found = compared_documents(frame).orderBy("doc_id").collect()
    groups: dict[bytes, str] = {}
    for row in found:
        groups[bytes(row["digest"])] = groups.get(bytes(row["digest"]), "") + row["doc_id"]
    assert sorted(groups.values()) == ["ab", "cd", "e", "fg", "h", "i", "j"]
    # Only these can be near duplicates.
    assert [row["doc_id"] for row in found if row["text"] is not None] == ["a", "b"]
    plain = compared_documents(frame.select("doc_id", "text")).where("doc_id = 'a'").collect()
    assert plain[0]["digest"] == found[0]["digest"]
