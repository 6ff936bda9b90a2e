"""Sources that are no files: Delta tables, databases, topics; and fields by which their rows become documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkml.errors import ConfigError, InputError, UsageError
from sparkml.frame.config import load_config
from sparkml.frame.progress import Progress
from sparkml.frame.runner import Runner, StepOutcome
from sparkml.frame.tables import Tables
from sparkml.sources.jdbc import JdbcConfig
from sparkml.stages.ingest.origins import topics

Run = Callable[..., StepOutcome]


@pytest.fixture
def ingest(spark: SparkSession, tmp_path: Path) -> Run:
    """Run the step `ingest` on a lake of the test's own."""

    def run(*overrides: str) -> StepOutcome:
        config = load_config("local", [f"lake={tmp_path / 'lake'}", *overrides])
        return Runner(lambda: spark, config, Progress()).run(config.pipeline.step("ingest"))

    return run


def documents(spark: SparkSession, tmp_path: Path) -> dict[str, str]:
    tables = Tables(str(tmp_path / "lake"), lambda: spark)
    return {row["doc_id"]: row["text"] for row in tables.read("bronze").collect()}


def counts(outcome: StepOutcome) -> tuple[Any, ...]:
    report = outcome.report
    return report.rows_in, report.rows_kept, dict(report.reasons), report.bytes_in > 0


def test_a_delta_table_is_followed_by_what_is_added(spark: SparkSession, tmp_path: Path, ingest: Run) -> None:
    place = str(tmp_path / "articles")
    rows = [(1, {"body": "one"}, 5), (2, {"body": None}, 6)]
    schema = "id int, page struct<body:string>, n int"
    spark.createDataFrame(rows, schema).write.format("delta").save(place)
    asked = (
        f"ingest.source.path={place}",
        "ingest.source.format=delta",
        "ingest.source.text_field=page.body",
    )
    with_ids = (*asked, "ingest.source.id_field=id")
    assert counts(ingest(*with_ids)) == (2, 1, {"null_text": 1}, True)
    assert documents(spark, tmp_path) == {"1": "one"}
    assert ingest(*with_ids).skipped
    spark.createDataFrame([(3, {"body": "three"}, 7)], schema).write.format("delta").mode("append").save(
        place
    )
    assert counts(ingest(*with_ids)) == (3, 2, {"null_text": 1}, False)
    spark.sql(f"UPDATE delta.`{place}` SET page = named_struct('body', 'two') WHERE id = 2")
    assert counts(ingest(*with_ids)) == (3, 3, {}, True)
    assert documents(spark, tmp_path) == {"1": "one", "2": "two", "3": "three"}


def test_rows_without_ids_are_known_by_their_content(
    spark: SparkSession, tmp_path: Path, ingest: Run
) -> None:
    place = str(tmp_path / "articles")
    texts = spark.createDataFrame([("a", [1]), ("a", [1]), ("b", [2])], "text string, n array<int>")
    texts.write.format("delta").save(place)
    asked = (f"ingest.source.path={place}", "ingest.source.format=delta", "ingest.source.dataset=d")
    ingest(*asked)
    first = documents(spark, tmp_path)
    assert sorted(first.values()) == ["a", "a", "b"]
    texts.repartition(3).write.format("delta").mode("overwrite").save(place)
    ingest(*asked)
    assert documents(spark, tmp_path) == first
    with pytest.raises(InputError, match="no Delta table"):
        ingest(f"ingest.source.path={tmp_path / 'none'}", "ingest.source.format=delta")


@pytest.mark.rare
def test_a_database_is_read_in_ranges(spark: SparkSession, tmp_path: Path, ingest: Run) -> None:
    """Derby, which comes with Spark: the same reader as for PostgreSQL."""
    url = f"jdbc:derby:memory:{tmp_path.name};create=true"
    rows = [(number, f"text {number}") for number in range(50)]
    frame = spark.createDataFrame(rows, "id int, body string")
    frame.write.jdbc(url, "articles", properties={"driver": "org.apache.derby.jdbc.EmbeddedDriver"})
    place = (
        f"ingest.source.jdbc.url={url}",
        "ingest.source.jdbc.driver=org.apache.derby.jdbc.EmbeddedDriver",
    )
    # Derby writes names in capitals.
    named = ("ingest.source.text_field=body", "ingest.source.id_field=id")
    ranges = ("partition_column=id", "lower_bound=0", "upper_bound=50", "partitions=4")
    cut = tuple(f"ingest.source.jdbc.{setting}" for setting in ranges)
    outcome = ingest(*place, *named, "ingest.source.jdbc.table=articles", *cut)
    assert counts(outcome)[:3] == (50, 50, {})
    assert documents(spark, tmp_path)["7"] == "text 7"
    query = "ingest.source.jdbc.query='SELECT * FROM articles WHERE \"id\" < 10'"
    assert counts(ingest(*place, *named, query))[:3] == (10, 10, {})
    with pytest.raises(InputError, match="cannot be read") as caught:
        ingest(*place, *named, "ingest.source.jdbc.table=nothing")
    assert "NOTHING" in str(caught.value.got).upper()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"url": "jdbc:x"}, "one of table and query"),
        ({"url": "jdbc:x", "table": "t", "query": "q"}, "one of table and query"),
        ({"url": "jdbc:x;password=secret", "table": "t"}, "holds a password"),
        ({"url": "jdbc:x", "table": "t", "password": "secret"}, "where it is"),
        ({"url": "jdbc:x", "table": "t", "partition_column": "id"}, "together"),
        ({"url": "http://x", "table": "t"}, "jdbc"),
    ],
)
def test_settings_of_a_database_that_cannot_be(given: Mapping[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        JdbcConfig(**given)


def test_one_place_alone_is_read(ingest: Run) -> None:
    for wrong in (
        ("ingest.source.path=/a", "ingest.source.kafka.topic=t", "ingest.source.kafka.servers=s"),
        ("ingest.source.kafka.topic=t",),
        ("ingest.source.format=jdbc",),
    ):
        with pytest.raises((ConfigError, UsageError)):
            ingest(*wrong)


RECORDS = "key binary, value binary, topic string, partition int, offset long, timestamp timestamp"
AT = datetime(2024, 5, 1, tzinfo=timezone.utc)


class Topic:
    """A table that stands for a topic: a stream of it is what a broker's would be."""

    def __init__(self, spark: SparkSession, place: str) -> None:
        self.spark, self.place, self._offset = spark, place, 0

    def send(self, *records: tuple[str | None, bytes | None]) -> None:
        rows = []
        for key, value in records:
            rows.append((key.encode() if key else None, value, "news", 0, self._offset, AT))
            self._offset += 1
        self.spark.createDataFrame(rows, RECORDS).write.format("delta").mode("append").save(self.place)

    def stream(self, *_: Any) -> DataFrame:
        return self.spark.readStream.format("delta").option("ignoreDeletes", "true").load(self.place)


@pytest.fixture
def topic(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Topic:
    found = Topic(spark, str(tmp_path / "topic"))
    monkeypatch.setattr(topics, "landed_records", found.stream)
    return found


TOPIC = ("ingest.source.kafka.servers=none:9092", "ingest.source.kafka.topic=news")


def test_a_topic_is_landed_once_and_read_on(
    spark: SparkSession, tmp_path: Path, ingest: Run, topic: Topic
) -> None:
    topic.send(("a", b'{"text": "one", "n": 1}'), ("b", b"{broken"), ("c", None), (None, b'{"text": "two"}'))
    assert counts(ingest(*TOPIC))[:3] == (4, 2, {"malformed_json": 1, "no_value": 1})
    topic.send(("d", b'{"text": "three", "published": "2020-01-01"}'))
    assert counts(ingest(*TOPIC))[:3] == (5, 3, {"malformed_json": 1, "no_value": 1})
    assert ingest(*TOPIC).report.rows_in == 5
    tables = Tables(str(tmp_path / "lake"), lambda: spark)
    assert tables.read("ingest_landing").count() == 5
    rows = {row["locator"]: row for row in tables.read("bronze").collect()}
    assert (rows["news-0-0"]["text"], rows["news-0-0"]["source"]) == ("one", "kafka:news")
    assert rows["news-0-0"]["published"] == AT.replace(tzinfo=None)
    assert rows["news-0-4"]["published"] == datetime(2020, 1, 1)
    # Other settings: the broker may have forgotten all of it by now.
    spark.sql(f"DELETE FROM delta.`{topic.place}`")
    assert counts(ingest(*TOPIC, "ingest.source.label_field=n"))[:2] == (5, 3)


@pytest.mark.rare
def test_of_records_with_one_key_the_last_counts(
    spark: SparkSession, tmp_path: Path, ingest: Run, topic: Topic
) -> None:
    keyed = (*TOPIC, "ingest.source.kafka.key_is_id=true", "ingest.source.kafka.value=text")
    topic.send(("a", b"first"), ("b", b"only"), ("a", b"second"))
    assert counts(ingest(*keyed))[:3] == (3, 2, {"duplicate_id": 1})
    assert documents(spark, tmp_path) == {"a": "second", "b": "only"}
    topic.send(("b", b"newer"), ("c", b"new"))
    assert counts(ingest(*keyed))[:3] == (5, 3, {"duplicate_id": 2})
    assert documents(spark, tmp_path) == {"a": "second", "b": "newer", "c": "new"}
