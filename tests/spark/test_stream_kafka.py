"""What the records of a topic are, and what Kafka's client is told; a broker runs in `tests/slow`."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import ConfigError
from sparkml.sources.kafka import KafkaConfig, client_properties, documents_of

RECORDS = "key binary, value binary, topic string, partition int, offset long, timestamp timestamp"
FIELDS = {"text": ("body", "string"), "tokens": ("words", "array<string>"), "media": ("image", "binary")}


def documents(
    spark: SparkSession, values: list[bytes | None], config: KafkaConfig, key: bytes | None = b"k"
) -> list[Any]:
    at = datetime(2024, 1, 1, tzinfo=timezone.utc)
    rows = [(key, value, "docs", 1, offset, at) for offset, value in enumerate(values)]
    found = documents_of(spark.createDataFrame(rows, RECORDS), config, FIELDS)
    return found.orderBy("_order").collect()


def test_objects_become_documents_and_what_is_wrong_with_one_is_said(spark: SparkSession) -> None:
    good = b'{"id": "a", "body": "text", "words": ["w"], "image": "AAE=", "new": {"deep": 1}}'
    number = b'{"id": 7, "body": 5}'
    broken = [
        b"{broken",
        b'"text"',
        b"",
        None,
        b'{"body": "no id"}',
        b'{"id": "", "body": "x"}',
        b'{"id": "\xff"}',
    ]
    rows = documents(spark, [good, number, *broken], KafkaConfig(id_field="id"))
    first = rows[0]
    assert (first["doc_id"], first["text"], first["tokens"], bytes(first["media"])) == (
        "a",
        "text",
        ["w"],
        b"\0\1",
    )
    assert (first["source"], first["locator"], first["drop_reason"], first["detail"]) == (
        "kafka:docs",
        "1/0",
        None,
        None,
    )
    assert (rows[1]["doc_id"], rows[1]["text"], rows[1]["tokens"]) == ("7", "5", None)
    assert [row["drop_reason"] for row in rows[2:]] == [
        *["malformed_json"] * 3,
        "no_value",
        *["missing_id"] * 2,
        "invalid_utf8",
    ]
    assert [row["doc_id"] for row in rows[2:4]] == ["docs-1-2", "docs-1-3"]
    assert "{broken" in rows[2]["detail"]


@pytest.mark.parametrize(("is_key", "doc_id"), [(True, "k"), (False, "docs-1-0")])
@pytest.mark.parametrize("value", ["json", "text"])
def test_ids_come_from_the_key_or_the_place(
    spark: SparkSession, is_key: bool, doc_id: str, value: Any
) -> None:
    (row,) = documents(spark, [b'{"body": "x"}'], KafkaConfig(key_is_id=is_key, value=value))
    assert (row["doc_id"], row["text"]) == (doc_id, "x" if value == "json" else '{"body": "x"}')
    assert row["drop_reason"] is None


def test_a_record_without_its_key_is_a_reject(spark: SparkSession) -> None:
    (row,) = documents(spark, [b'{"body": "x"}'], KafkaConfig(key_is_id=True), key=None)
    assert (row["doc_id"], row["drop_reason"]) == ("docs-1-0", "missing_id")


def test_secrets_come_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPIC_PASSWORD", "from the environment")
    (tmp_path / "secret").write_text("from a file\n")
    config = KafkaConfig(
        options={"security.protocol": "SSL"},
        secrets={"ssl.key.password": "env:TOPIC_PASSWORD", "sasl.jaas.config": f"file:{tmp_path}/secret"},
    )
    assert client_properties(config) == {
        "security.protocol": "SSL",
        "ssl.key.password": "from the environment",
        "sasl.jaas.config": "from a file",
    }
    assert "from a file" not in config.model_dump_json()
    assert "from the environment" not in config.model_dump_json()


def test_a_secret_that_is_missing_is_said_by_its_place() -> None:
    with pytest.raises(ConfigError, match="not there") as caught:
        client_properties(KafkaConfig(secrets={"ssl.key.password": "env:NO_SUCH_VARIABLE"}))
    assert caught.value.where == "env:NO_SUCH_VARIABLE"
