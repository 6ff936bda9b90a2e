"""Kafka: a topic as a stream of rows, and what its records say of documents. Spark's own source reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import MissingToolError
from sparkml.frame.secret import is_reference, secret_at
from sparkml.frame.stage import StageConfig

KAFKA_PACKAGE = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"
_SECRET = re.compile(
    r"password|secret|jaas|token|credential|private|keystore\.key|sasl\.oauthbearer", re.IGNORECASE
)
_DETAIL_CHARACTERS = 120
_CORRUPT = "_corrupt"


class KafkaConfig(StageConfig):
    """Which topic is read, and what its records are."""

    servers: str | None = Field(None, min_length=1, description="HOST:PORT of brokers, separated by commas")
    topic: str | None = Field(None, min_length=1, description="The topic; several separated by commas")
    value: Literal["json", "text"] = Field(
        "json", description="What a record's value is: an object, or the text"
    )
    id_field: str | None = Field(
        None, min_length=1, description="json: field that holds the doc_id; null: as key_is_id says"
    )
    key_is_id: bool = Field(
        False, description="The record's key is the doc_id; else it is topic, partition and offset"
    )
    starting: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a stream begins that has no checkpoint yet"
    )
    options: Mapping[str, str] = Field({}, description="Properties of Kafka's client that are no secrets")
    secrets: Mapping[str, str] = Field(
        {}, description="Property -> where its value is: env:VARIABLE or file:PATH; the value is kept nowhere"
    )

    @model_validator(mode="after")
    def _names_no_secret(self) -> KafkaConfig:
        told = [name for name in self.options if _SECRET.search(name)]
        if told:
            raise ValueError(
                f"{told[0]} is a secret: name where it is, secrets.{told[0]}=env:VARIABLE or file:PATH"
            )
        wrong = [name for name, place in self.secrets.items() if not is_reference(place)]
        if wrong:
            raise ValueError(f"secrets.{wrong[0]} must say where the secret is: env:VARIABLE or file:PATH")
        if self.id_field is not None and (self.key_is_id or self.value == "text"):
            raise ValueError("id_field is for value=json, and goes before the key: leave key_is_id out")
        return self


def topic_stream(spark: SparkSession, config: KafkaConfig, max_rows: int | None) -> DataFrame:
    """The topic's records; ConfigError for a secret that is not there, MissingToolError without Spark's jars for it."""
    reader = spark.readStream.format("kafka").options(
        **{f"kafka.{name}": value for name, value in client_properties(config).items()}
    )
    reader = reader.option("kafka.bootstrap.servers", config.servers or "").option(
        "subscribe", config.topic or ""
    )
    # Offsets that the broker no longer has are lost documents: an error, not a warning.
    reader = reader.option("startingOffsets", config.starting).option("failOnDataLoss", "true")
    if max_rows is not None:
        reader = reader.option("maxOffsetsPerTrigger", max_rows)
    try:
        return reader.load()
    except PySparkException as error:
        if "find data source: kafka" not in str(error) and "failedToFindKafka" not in str(error):
            raise
        raise MissingToolError(
            "this Spark cannot read Kafka",
            next_action=f"make kafka (or spark.jars.packages={KAFKA_PACKAGE})",
        ) from error


def landed_records(spark: SparkSession, config: KafkaConfig) -> DataFrame:
    """The topic's records as they came: key, value, topic, partition, offset, timestamp."""
    records = topic_stream(spark, config, None)
    return records.select("key", "value", "topic", "partition", "offset", "timestamp")


def client_properties(config: KafkaConfig) -> dict[str, str]:
    """The properties of Kafka's client, secrets read from where they are; ConfigError names one that is missing."""
    return {
        **config.options,
        **{name: secret_at(place, f"the secret `{name}` of Kafka") for name, place in config.secrets.items()},
    }


def documents_of(records: DataFrame, config: KafkaConfig, fields: Mapping[str, tuple[str, str]]) -> DataFrame:
    """Records of a topic -> documents and rejects.

    `fields`: column of a document -> the field of the JSON object that holds it, and its type. Fields that no object
    has are null, those that nobody asked for are left out: a producer may change its objects.
    """
    place = F.concat_ws("-", "topic", "partition", "offset")
    value = F.col("value").cast("string")
    if config.value == "text":
        given = {
            "text": value,
            **{name: F.lit(None).cast(kind) for name, (_, kind) in fields.items() if name != "text"},
        }
        reason = _reason([("no_value", F.col("value").isNull()), ("invalid_utf8", ~F.is_valid_utf8(value))])
        doc_id = F.col("key").cast("string") if config.key_is_id else place
    else:
        records = records.withColumn("_object", F.from_json(value, _schema(config, fields), _JSON))
        given = {name: F.col("_object").getField(field) for name, (field, _) in fields.items()}
        broken = F.col("_object").isNull() | F.col(f"_object.{_CORRUPT}").isNotNull()
        reason = _reason(
            [
                ("no_value", F.col("value").isNull()),
                ("invalid_utf8", ~F.is_valid_utf8(value)),
                ("malformed_json", broken),
            ]
        )
        if config.id_field is not None:
            doc_id = F.col("_object").getField(config.id_field)
        else:
            doc_id = F.col("key").cast("string") if config.key_is_id else place
    lacks_id = F.coalesce(F.length(doc_id), F.lit(0)) == 0
    why = F.coalesce(reason, F.when(lacks_id, F.lit("missing_id")))
    return records.select(
        F.when(why.isNull(), doc_id).otherwise(place).alias("doc_id"),
        *(column.alias(name) for name, column in given.items()),
        # The broker's time orders partitions, the offset the records of one.
        F.struct("timestamp", "partition", "offset").alias("_order"),
        F.concat(F.lit("kafka:"), "topic").alias("source"),
        F.concat_ws("/", "partition", "offset").alias("locator"),
        why.alias("drop_reason"),
        F.when(
            why.isNotNull(), F.substring(F.to_json(F.struct(value.alias("value"))), 1, _DETAIL_CHARACTERS)
        ).alias("detail"),
    )


_JSON = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT}


def _schema(config: KafkaConfig, fields: Mapping[str, tuple[str, str]]) -> str:
    types = dict(fields.values())
    if config.id_field is not None:
        types.setdefault(config.id_field, "string")
    return ", ".join(f"`{field}` {kind}" for field, kind in {**types, _CORRUPT: "string"}.items())


def _reason(tests: Sequence[tuple[str, Column]]) -> Column:
    return F.coalesce(*(F.when(test, F.lit(name)) for name, test in tests))
