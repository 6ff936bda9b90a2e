from __future__ import annotations

from collections.abc import Callable

import pytest
from chispa import assert_df_equality
from pydantic import ValidationError
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import ConfigError
from sparkml.frame.config import load_config
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import BRONZE, CLEAN, REJECTS
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.tables import Tables
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.rules.c4 import C4
from sparkml.stages.clean.rules.gopher_quality import GopherQuality
from sparkml.stages.clean.stage import kept_of, rejects_of, run, transform

PROSE = (
    "The museum by the old harbour was closed for seven years. When it opened again in spring, people came from every "
    "part of the country to see what had been kept in its cellars. They found maps that nobody had drawn twice, "
    "letters with broken seals, and a small wooden boat. The keeper told them that it must be repaired before winter."
)
PROSE_WORDS = 62
META = {"lang": '"en"', "lang_score": "0.93", "page": "7"}
SHORT = CleanConfig(rules=("gopher_quality",), gopher_quality=GopherQuality(min_words=3, min_stop_words=None))


def document(doc_id: str, text: str | None, **fields: object) -> tuple[object, ...]:
    """A row of bronze."""
    row = {"doc_id": doc_id, "source": "file:///in/a.txt", "locator": doc_id[-1], "text": text, **fields}
    return tuple(row.get(name) for name in BRONZE.names)


DOCUMENTS = [
    document("good-1", PROSE, url="https://a.org/1", title="T", label="news", meta=META),
    document("good-2", f"  {PROSE}\r\n\r\n\r\n\u00a0Its  e\u0301nd\u200b. \n"),
    document("short-3", "the tide and the reef"),
    document("null-4", None),
    document("blank-5", " \u00a0\n\u200b\t"),
    document("lines-6", "\n".join(["Home and the rest of it", PROSE, "Home and the rest of it"] * 2)),
    document("number-7", " ".join(map(str, range(1000, 1060))) + " the of"),
]


def bronze_of(spark: SparkSession, rows: list[tuple[object, ...]]) -> DataFrame:
    """Documents as ingest writes them."""
    return spark.createDataFrame(rows, spark_schema(BRONZE))


@pytest.fixture(scope="module")
def decided(spark: SparkSession) -> DataFrame:
    """The decisions on the documents above, with the published limits."""
    return transform(bronze_of(spark, DOCUMENTS), CleanConfig()).cache()


def by_id(frame: DataFrame) -> dict[str, Row]:
    """Rows by document."""
    return {row["doc_id"]: row for row in frame.collect()}


def test_golden_documents(spark: SparkSession, decided: DataFrame) -> None:
    labelled = ("text_b", "tokens", "tags", "media", "media_type", "split")
    kept = kept_of(decided).drop("signals", "meta", "languages", *labelled)
    expected = spark.createDataFrame(
        [
            ("good-1", PROSE, "en", 0.93, PROSE_WORDS, "https://a.org/1", "T", "news"),
            ("good-2", f"{PROSE}\n\n Its \u00e9nd.", None, None, PROSE_WORDS + 2, None, None, None),
        ],
        "doc_id string, text string, lang string, lang_score float, n_words int, "
        "url string, title string, label string",
    )
    assert_df_equality(kept, expected, ignore_row_order=True, ignore_nullable=True)
    assert by_id(kept_of(decided))["good-1"]["meta"] == META


def test_golden_rejects(spark: SparkSession, decided: DataFrame) -> None:
    rejects = rejects_of(decided).withColumn("value", F.round("value", 4))
    measured = {row["doc_id"]: row["signals"] for row in rejects.collect()}
    assert round(measured["short-3"]["top_2_gram"], 3) == 0.381
    assert set(measured["lines-6"]) == set(CleanConfig().signal_names)
    rejects = rejects.drop("signals")
    expected = spark.createDataFrame(
        [
            ("short-3", "3", "top_2_gram", 0.381, 0.2, "top_2_gram > 0.2"),
            ("null-4", "4", "null_text", None, None, "no text"),
            ("blank-5", "5", "empty", 0.0, 0.0, "no visible character"),
            ("lines-6", "6", "dup_lines", 0.6667, 0.3, "dup_lines > 0.3"),
            ("number-7", "7", "gopher_alpha_words", 0.0323, 0.8, "alpha_words < 0.8"),
        ],
        "doc_id string, locator string, drop_reason string, value double, threshold double, detail string",
    ).withColumn("source", F.lit("file:///in/a.txt"))
    assert_df_equality(rejects, expected.select(rejects.columns), ignore_row_order=True, ignore_nullable=True)


def test_signals_name_what_every_rule_measured(decided: DataFrame) -> None:
    signals = by_id(kept_of(decided))["good-1"]["signals"].asDict()
    assert list(signals)[:3] == ["n_words", "dup_paragraphs", "dup_paragraph_chars"]
    assert signals["n_words"] == PROSE_WORDS
    assert signals["stop_words"] == 7
    assert signals["dup_lines"] == signals["dup_10_grams"] == signals["hash_ratio"] == 0.0
    assert None not in signals.values()


def test_an_empty_table_stays_empty(
    spark: SparkSession, tables: Tables, stage_run: Callable[..., StageRun], write_table: Callable[..., int]
) -> None:
    write_table("bronze", bronze_of(spark, []))
    report = run(stage_run("clean"), CleanConfig())
    assert (report.rows_in, report.rows_kept, report.rows_rejected, report.bytes_in) == (0, 0, 0, 0)
    assert tables.read("clean").columns[: len(CLEAN.names) - 1] == CLEAN.names[:-1]


def test_running_twice_gives_the_same_tables(
    spark: SparkSession, tables: Tables, stage_run: Callable[..., StageRun], write_table: Callable[..., int]
) -> None:
    write_table("bronze", bronze_of(spark, DOCUMENTS))
    cached_before = spark._jsparkSession.sharedState().cacheManager().numCachedEntries()
    reports, snapshots = [], []
    for _ in range(2):
        job = stage_run("clean")
        reports.append(run(job, CleanConfig()))
        snapshots.append([by_id(tables.read(name).drop("run_id")) for name in ("clean", "rejects")])
    assert snapshots[0] == snapshots[1]
    assert reports[0] == reports[1]
    report = reports[1]
    report.check("clean")
    reasons = {"top_2_gram": 1, "null_text": 1, "empty": 1, "dup_lines": 1, "gopher_alpha_words": 1}
    assert (report.rows_in, report.rows_kept, report.reasons) == (7, 2, reasons)
    assert report.bytes_in == sum(len((text or "").encode()) for text in (row[5] for row in DOCUMENTS))
    assert job.outputs.keys() == {"clean", "rejects"}
    stored = tables.read("rejects")
    assert set(REJECTS.names) <= set(stored.columns)
    assert {(row["stage"], row["step"]) for row in stored.collect()} == {("clean", "clean")}
    assert (
        spark._jsparkSession.sharedState().cacheManager().numCachedEntries() == cached_before
    )  # ours are gone


def test_two_steps_keep_their_own_documents_and_rejects(
    spark: SparkSession, tables: Tables, stage_run: Callable[..., StageRun], write_table: Callable[..., int]
) -> None:
    write_table("bronze", bronze_of(spark, DOCUMENTS))
    strict = CleanConfig(target="strict", max_text_bytes=100, rules=("gopher_quality",))
    lenient = CleanConfig(target="lenient", rules=())
    run(stage_run("clean", step="strict"), strict)
    run(stage_run("clean", step="lenient"), lenient)
    kept = {name: set(by_id(tables.read(name))) for name in ("strict", "lenient")}
    assert kept == {"strict": set(), "lenient": {"good-1", "good-2", "short-3", "lines-6", "number-7"}}
    rejects = [(row["step"], row["doc_id"], row["drop_reason"]) for row in tables.read("rejects").collect()]
    assert sorted(rejects) == [
        ("lenient", "blank-5", "empty"),
        ("lenient", "null-4", "null_text"),
        ("strict", "blank-5", "empty"),
        ("strict", "good-1", "too_large"),
        ("strict", "good-2", "too_large"),
        ("strict", "lines-6", "too_large"),
        ("strict", "null-4", "null_text"),
        ("strict", "number-7", "too_large"),
        ("strict", "short-3", "gopher_short_doc"),
    ]


def test_malformed_text_becomes_a_reason_or_is_repaired(spark: SparkSession) -> None:
    broken = bronze_of(spark, [document("bytes-1", "x"), document("null-2", None)]).withColumn(
        "text", F.when(F.col("doc_id") == "bytes-1", F.expr("cast(X'61FF62' as string)"))
    )
    rows = by_id(transform(broken, CleanConfig(rules=())))
    assert (rows["bytes-1"]["text"], rows["bytes-1"]["drop_reason"]) == ("a\ufffdb", None)
    assert (rows["null-2"]["text"], rows["null-2"]["drop_reason"]) == (None, "null_text")


def test_media_and_tokens_pass_as_they_are(spark: SparkSession) -> None:
    picture = {"media": bytearray(b"\x89PNG"), "media_type": "image/png"}
    given = "Une  e\u0301te\u0301 \u200b"
    rows = [
        document("image-1", None, **picture),
        document("caption-2", "too short", **picture),
        document("tokens-3", given, tokens=["Une", "e\u0301te\u0301", "\u200b"], tags=["O", "B-X", "I-X"]),
        document("no-tokens-4", "", tokens=[], tags=[]),
        document("pair-5", PROSE, text_b=" Va\u00a0 !\r\n", split="test"),
    ]
    decided = transform(bronze_of(spark, rows), CleanConfig())
    assert {key: row["drop_reason"] for key, row in by_id(decided).items()} == {
        "image-1": None,
        "caption-2": "top_2_gram",
        "tokens-3": None,
        "no-tokens-4": "empty",
        "pair-5": None,
    }
    kept = by_id(kept_of(decided))
    image, tokens, pair = (kept[name] for name in ("image-1", "tokens-3", "pair-5"))
    assert (image["text"], image["media"], image["media_type"]) == (None, b"\x89PNG", "image/png")
    assert image["n_words"] == 0
    assert set(image["signals"].asDict().values()) == set(tokens["signals"].asDict().values()) == {None}
    assert (tokens["text"], tokens["n_words"]) == (given, 3)
    assert (tokens["tokens"], tokens["tags"]) == (["Une", "e\u0301te\u0301", "\u200b"], ["O", "B-X", "I-X"])
    assert (pair["text_b"], pair["split"], pair["signals"]["n_words"]) == ("Va !", "test", PROSE_WORDS)
    verbatim = by_id(transform(bronze_of(spark, rows), CleanConfig(normalise=False)))
    assert verbatim["pair-5"]["text_b"] == " Va\u00a0 !\r\n"


def test_order_and_partitions_change_nothing(spark: SparkSession, decided: DataFrame) -> None:
    many = DOCUMENTS[::-1]
    for shuffled in (
        bronze_of(spark, many).coalesce(1),
        bronze_of(spark, DOCUMENTS).repartition(5, "doc_id"),
    ):
        assert by_id(transform(shuffled, CleanConfig())) == by_id(decided)


def test_a_huge_line_is_rejected_unmeasured(spark: SparkSession) -> None:
    huge = bronze_of(spark, [document("huge-1", None), document("good-2", PROSE)]).withColumn(
        "text", F.when(F.col("doc_id") == "huge-1", F.expr("repeat('x', 50000000)")).otherwise(F.col("text"))
    )
    rows = by_id(transform(huge, CleanConfig()))
    assert rows["huge-1"]["drop_reason"] == "too_large"
    assert (rows["huge-1"]["value"], rows["huge-1"]["threshold"]) == (50_000_000.0, 10_000_000.0)
    assert rows["good-2"]["drop_reason"] is None


@pytest.mark.parametrize(
    ("config", "reasons"),
    [
        (CleanConfig(rules=()), {"a": None, "b": None, "c": "empty"}),
        (SHORT, {"a": None, "b": "gopher_short_doc", "c": "empty"}),
        (
            CleanConfig(rules=("gopher_quality", "gopher_repetition")),
            {"a": "gopher_short_doc", "b": "gopher_short_doc", "c": "empty"},
        ),
    ],
)
def test_rule_sets_and_limits_are_chosen(
    spark: SparkSession, config: CleanConfig, reasons: dict[str, str]
) -> None:
    texts = {"a": "Free entry in a weekly draw today", "b": "ok lar", "c": ""}
    rows = by_id(transform(bronze_of(spark, [document(key, text) for key, text in texts.items()]), config))
    assert {key: row["drop_reason"] for key, row in rows.items()} == reasons
    assert rows["a"]["signals"]["n_words"] == 7


def test_c4_drops_lines_and_later_rules_see_what_is_left(spark: SparkSession) -> None:
    texts = {
        "left": f"Share this page\n{PROSE}\nWe use cookies on this site.\nSee also [3] here.[12]",
        "code": f"{PROSE}\nif x then {{ return one }}.",
        "few": "This is one sentence.\nAnd a second one.\nMenu\nHome",
        "gone": "Menu\nHome\nShare",
    }
    bronze = bronze_of(spark, [document(key, text) for key, text in texts.items()])
    rows = by_id(transform(bronze, CleanConfig(rules=("c4", "gopher_quality", "fineweb"))))
    assert {key: row["drop_reason"] for key, row in rows.items()} == {
        "left": None,
        "code": "curly_bracket",
        "few": "too_few_sentences",
        "gone": "too_few_sentences",
    }
    left = rows["left"]
    assert left["text"] == f"{PROSE}\nSee also  here."
    assert left["signals"]["n_words"] == left["n_words"] == PROSE_WORDS + 3
    assert left["signals"]["line_punct_ratio"] == 1.0
    assert (rows["few"]["value"], rows["few"]["threshold"]) == (2.0, 5.0)
    # Without a rule about sentences a text may lose all of its lines.
    loose = CleanConfig(rules=("c4",), c4=C4(min_sentences=None))
    rows = by_id(transform(bronze, loose))
    assert (rows["gone"]["drop_reason"], rows["gone"]["detail"]) == ("empty", "no line stays")
    assert rows["few"]["text"] == "This is one sentence.\nAnd a second one."


def test_the_users_sql_drops_what_passed_the_rules(spark: SparkSession) -> None:
    texts = {"a": "Free entry in a weekly draw", "b": "ok lar", "c": "", "d": "fine"}
    bronze = bronze_of(spark, [document(key, text) for key, text in texts.items()])
    asked = "n_words > 3 OR (text LIKE 'ok%' AND signals.n_words = 2) OR lang = 'de'"
    rows = by_id(transform(bronze, CleanConfig(rules=(), drop_when=asked)))
    assert {key: row["drop_reason"] for key, row in rows.items()} == {
        "a": "drop_when",
        "b": "drop_when",
        "c": "empty",
        "d": None,
    }
    assert (rows["a"]["detail"], rows["a"]["text"], rows["d"]["text"]) == (asked, None, "fine")
    for wrong in ("n_wordz > 3", "n_words >"):
        with pytest.raises(ConfigError, match="drop_when"):
            transform(bronze, CleanConfig(drop_when=wrong))


def test_the_yaml_holds_the_defaults() -> None:
    assert load_config("local", pipeline="curate").pipeline.step("clean").config == CleanConfig()


def test_unknown_rule_sets_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"gopher_repetition, .*, pii at most once; got gopher"):
        CleanConfig(rules=("gopher",))
