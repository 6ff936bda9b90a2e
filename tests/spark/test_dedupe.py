"""The stage `dedupe`: literal rows, brute force over all pairs, and graphs whose components are known."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations, pairwise

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import Tables
from sparkml.stages.dedupe import stage
from sparkml.stages.dedupe.components import connected_components
from sparkml.stages.dedupe.config import DedupeConfig

SCHEMA = (
    "doc_id string, text string, lang string, lang_score float, n_words int, url string, title string, "
    "label string, signals struct<n_lines: int>, meta map<string,string>"
)
# So many bands that pairs above the threshold are found for sure: what is tested is what comes after.
SURE = {"n_bands": 60, "n_rows": 3}

WORDS = [a + b + c for a in "bdfglmnprst" for b in "aeiou" for c in "bdklmnrst"]

StageRuns = Callable[..., StageRun]
Write = Callable[..., int]


def phrase(first: int, last: int) -> str:
    """Words number `first` to `last`, all different."""
    return " ".join(WORDS[first : last + 1])


def document(doc_id: str | None, text: str | None, **columns: object) -> tuple[object, ...]:
    n_words = len((text or "").split())
    values = {
        "lang": "en",
        "lang_score": 1.0,
        "n_words": n_words,
        "url": None,
        "title": None,
        "label": None,
        **columns,
    }
    return (doc_id, text, *values.values(), (1,), {"k": "v"})


@pytest.fixture
def dedupe(stage_run: StageRuns, write_table: Write, spark: SparkSession) -> Callable[..., RunReport]:
    def go(rows: list[tuple[object, ...]] | DataFrame, step: str = "dedupe", **config: object) -> RunReport:
        frame = rows if isinstance(rows, DataFrame) else spark.createDataFrame(rows, SCHEMA)
        write_table("clean", frame.withColumn("run_id", F.lit("cleaned")))
        report = stage.run(stage_run("dedupe", step=step), DedupeConfig(**config))
        report.check("dedupe")
        return report

    return go


def duplicate_rows(tables: Tables) -> list[Row]:
    return tables.read("duplicates").drop("run_id").orderBy("doc_id").collect()


def kept_ids(tables: Tables) -> list[str]:
    return sorted(row["doc_id"] for row in tables.read("kept").select("doc_id").collect())


# 24 words are 20 shingles of 5.
GOLDEN = [
    document("a", phrase(0, 23)),
    document("b", phrase(0, 23)),  # equal to a
    document("c", phrase(2, 25)),  # 18 of 22 shingles shared with a
    document("d", phrase(4, 28)),  # 21 shingles; 18 of 23 shared with c, 16 of 25 with a: not enough
    document("e", phrase(4, 28)),  # equal to d
    document("f", phrase(100, 123)),
    document("g", phrase(100, 122).upper() + ",\n" + WORDS[123]),  # near f, though every shingle is shared
    document("h", "too short"),
    document("i", "too short"),
    document("j", "too  short"),
    document("k", ""),
    document("l", phrase(200, 230)),
    document("m", ""),
]

GOLDEN_DUPLICATES = [
    ("a", "near", "a", "c", "d", 18 / 22),
    ("b", "exact", "a", "a", "d", 1.0),
    ("c", "near", "a", "a", "d", 18 / 22),
    ("e", "exact", "a", "d", "d", 1.0),
    ("g", "near", "f", "f", "f", 1.0),
    ("i", "exact", "h", "h", "h", 1.0),
    ("m", "exact", "k", "k", "k", 1.0),
]


def test_golden_rows(dedupe: Callable[..., RunReport], tables: Tables) -> None:
    # The text of g holds as many words as f's; the smaller id stays. d is the longest of its chain.
    report = dedupe(GOLDEN, **SURE)
    assert [tuple(row) for row in duplicate_rows(tables)] == GOLDEN_DUPLICATES
    assert kept_ids(tables) == ["d", "f", "h", "j", "k", "l"]
    assert report.reasons == {"exact_duplicate": 4, "near_duplicate": 3}
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (13, 6, 7)
    assert report.bytes_in > 0
    assert report.metrics["verified_pairs"] == 3
    assert report.metrics["clusters"] == 4
    assert report.metrics["largest_cluster"] == 5
    assert report.metrics["uncompared_pairs"] == 0
    kept = tables.read("kept").where("doc_id = 'd'").collect()[0]
    assert (kept["text"], kept["n_words"], kept["signals"]["n_lines"], kept["meta"]) == (
        phrase(4, 28),
        25,
        1,
        {"k": "v"},
    )


def test_the_kept_document_is_chosen_by_the_configured_order(
    dedupe: Callable[..., RunReport], tables: Tables
) -> None:
    rows = [
        document("a", phrase(0, 23), lang_score=0.5),
        document("b", phrase(0, 23), lang_score=None),
        document("c", phrase(0, 22), lang_score=0.9),
        document("d", phrase(0, 23), lang_score=0.7),
    ]
    dedupe(rows, keep_order=["lang_score desc"], **SURE)
    # c is best of all; d stands for the equal texts of a, b and d; 19 of 20 shingles are shared.
    assert [tuple(row) for row in duplicate_rows(tables)] == [
        ("a", "exact", "a", "d", "c", 1.0),
        ("b", "exact", "a", "d", "c", 1.0),
        ("d", "near", "a", "c", "c", 0.95),
    ]


def test_empty_input(dedupe: Callable[..., RunReport], tables: Tables) -> None:
    report = dedupe([])
    assert (report.rows_in, report.rows_kept, report.rows_rejected, dict(report.reasons)) == (0, 0, 0, {})
    assert duplicate_rows(tables) == []
    assert kept_ids(tables) == []
    assert report.metrics["largest_cluster"] == 0


def test_twice_and_in_another_order_and_partitions_the_same_tables(
    spark: SparkSession, dedupe: Callable[..., RunReport], tables: Tables
) -> None:
    rows = [*GOLDEN, *family("x", 30, 60), *family("y", 10, 40)]
    dedupe(spark.createDataFrame(rows, SCHEMA).coalesce(1), **SURE)
    first = {name: tables.read(name).drop("run_id").localCheckpoint() for name in ("kept", "duplicates")}
    assert first["duplicates"].count() > 20
    dedupe(spark.createDataFrame(rows, SCHEMA).coalesce(1), **SURE)
    assert_same_tables(first, tables)
    shuffled = random.Random(1).sample(rows, len(rows))
    dedupe(spark.createDataFrame(shuffled, SCHEMA).repartition(7), **SURE)
    assert_same_tables(first, tables)


def assert_same_tables(expected: dict[str, DataFrame], tables: Tables) -> None:
    for name, frame in expected.items():
        assert_df_equality(
            tables.read(name).drop("run_id", "meta"),
            frame.drop("meta"),  # a map can be neither sorted nor compared
            ignore_row_order=True,
            ignore_nullable=True,
        )


def test_what_cannot_be_compared_becomes_a_reject(dedupe: Callable[..., RunReport], tables: Tables) -> None:
    rows = [document("a", None), document("b", None), document(None, "some text"), document("c", "some text")]
    report = dedupe(rows)
    assert dict(report.reasons) == {"null_doc_id": 1, "null_text": 2}
    assert kept_ids(tables) == ["c"]
    # Another step of the stage has its own tables and its own rejects.
    dedupe(rows[1:], step="again", target="kept_again", duplicates="duplicates_again", near=False)
    assert kept_ids(tables) == ["c"]
    rejects = tables.read("rejects").select("stage", "step", "doc_id", "drop_reason").collect()
    assert sorted(map(tuple, rejects), key=str) == [
        ("dedupe", "again", "b", "null_text"),
        ("dedupe", "again", None, "null_doc_id"),
        ("dedupe", "dedupe", "a", "null_text"),
        ("dedupe", "dedupe", "b", "null_text"),
        ("dedupe", "dedupe", None, "null_doc_id"),
    ]


def test_exact_only_ships_no_signature(dedupe: Callable[..., RunReport], tables: Tables) -> None:
    report = dedupe(GOLDEN, near=False)
    assert [(row["doc_id"], row["kept_id"]) for row in duplicate_rows(tables)] == [
        ("b", "a"),
        ("e", "d"),
        ("i", "h"),
        ("m", "k"),
    ]
    assert report.metrics["candidate_pairs"] == 0


def test_a_missing_column_is_named_before_any_work(dedupe: Callable[..., RunReport]) -> None:
    with pytest.raises(InputError, match="stars"):
        dedupe(GOLDEN[:1], keep_order=["stars desc"])


def family(name: str, size: int, length: int, seed: int = 0) -> list[tuple[object, ...]]:
    """Copies of one text, each with one word of its own somewhere."""
    numbers = random.Random(f"{name}{seed}")
    base = [numbers.choice(WORDS) for _ in range(length)]
    copies = []
    for number in range(size):
        words = list(base)
        words[numbers.randrange(length)] = f"{name}{'abcdefghij'[number % 10]}{WORDS[number % len(WORDS)]}"
        copies.append(document(f"{name}{number:04d}", " ".join(words)))
    return copies


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def test_brute_force_over_all_pairs(dedupe: Callable[..., RunReport], tables: Tables) -> None:
    numbers = random.Random(7)
    rows: list[tuple[object, ...]] = []
    for number in range(60):
        rows += family(f"q{WORDS[number]}", 4, numbers.randrange(20, 400))
    rows += [document(f"r{n:03d}", " ".join(numbers.choices(WORDS, k=40))) for n in range(60)]
    texts = {str(row[0]): str(row[1]) for row in rows}
    sets = {doc_id: shingles(text) for doc_id, text in texts.items()}
    similar = {
        (a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in combinations(sorted(sets), 2)
    }
    report = dedupe(rows)
    duplicates = duplicate_rows(tables)
    cluster = {row["doc_id"]: row["cluster_id"] for row in duplicates}
    cluster |= {row["kept_id"]: row["cluster_id"] for row in duplicates}
    missed = [pair for pair, value in similar.items() if value >= 0.9 and not same(cluster, *pair)]
    assert missed == []
    assert sum(value >= 0.9 for value in similar.values()) > 50
    kept = kept_ids(tables)
    for row in duplicates:
        pair = tuple(sorted([row["doc_id"], row["partner_id"]]))
        assert row["similarity"] == similar[pair] >= 0.7
        assert same(cluster, *pair)
        assert row["kept_id"] in kept
        assert row["doc_id"] not in kept
    members: dict[str, set[str]] = {}
    for doc_id, name in cluster.items():
        members.setdefault(name, set()).add(doc_id)
    assert all(min(ids) == name and len(ids & set(kept)) == 1 for name, ids in members.items())
    assert report.metrics["clusters"] == len(members)
    assert report.metrics["largest_cluster"] == max(map(len, members.values()))


def same(cluster: dict[str, str], a: str, b: str) -> bool:
    return a in cluster and cluster.get(a) == cluster.get(b)


def test_a_template_shared_by_many_documents_stays_linear(
    dedupe: Callable[..., RunReport], tables: Tables
) -> None:
    copies = [document(f"s{number:04d}", "the very same text every time") for number in range(2000)]
    size, window, n_bands = 600, 4, 14
    report = dedupe([*copies, *family("t", size, 120)], bucket_window=window)
    assert kept_ids(tables) == ["s0000", "t0000"]
    assert report.metrics["largest_cluster"] == 2000
    assert report.metrics["candidate_pairs"] <= (window + 1) * size * n_bands
    assert report.metrics["uncompared_pairs"] > 0


def components_slowly(edges: list[tuple[str, str]]) -> dict[str, str]:
    found = {node: node for edge in edges for node in edge}
    changed = True
    while changed:
        changed = False
        for a, b in edges:
            smaller = min(found[a], found[b])
            changed = changed or found[a] != smaller or found[b] != smaller
            found[a] = found[b] = smaller
    return found


@pytest.mark.parametrize("single_task_edges", [10_000, 0, 30])
def test_both_ways_of_clustering_agree(spark: SparkSession, single_task_edges: int) -> None:
    numbers = random.Random(4)
    nodes = [f"n{number:03d}" for number in range(150)]
    path = numbers.sample([f"p{number:03d}" for number in range(60)], 60)
    edges = [(numbers.choice(nodes), numbers.choice(nodes)) for _ in range(90)]
    edges = (
        [(a, b) for a, b in edges if a != b] + list(pairwise(path)) + [("star", f"z{n}") for n in range(20)]
    )
    frame = spark.createDataFrame(edges, "src string, dst string")
    found = connected_components(frame, len(edges), single_task_edges=single_task_edges).collect()
    assert len(found) == len({row["node"] for row in found})
    assert {row["node"]: row["component"] for row in found} == components_slowly(edges)


def test_no_edges_are_no_components(spark: SparkSession) -> None:
    frame = spark.createDataFrame([], "src string, dst string")
    assert connected_components(frame, 0, single_task_edges=10).collect() == []
