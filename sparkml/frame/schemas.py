"""The columns of every table: names, types and meanings that other programs rely on."""

from __future__ import annotations

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

_STRING, _LONG, _INT, _DOUBLE = StringType(), LongType(), IntegerType(), DoubleType()
_TIMESTAMP = TimestampType()
_STRING_MAP = MapType(_STRING, _STRING)
_DOUBLE_MAP = MapType(_STRING, _DOUBLE)
_LONG_MAP = MapType(_STRING, _LONG)
TABLE_VERSION = StructType([StructField("table", _STRING), StructField("version", _LONG)])


def _table(**columns: DataType) -> StructType:
    """A table's columns in order; every row ends with the id of the run that wrote it."""
    return StructType([StructField(name, kind) for name, kind in {**columns, "run_id": _STRING}.items()])


BRONZE = _table(
    doc_id=_STRING,
    dataset=_STRING,
    source=_STRING,
    locator=_STRING,
    content_hash=_STRING,
    text=_STRING,
    media=BinaryType(),
    url=_STRING,
    title=_STRING,
    published=_TIMESTAMP,
    label=_STRING,
    meta=_STRING_MAP,
    ingested_at=_TIMESTAMP,
)

# `signals` differs with the rules that run: the contract fixes only that it is a struct.
CLEAN = _table(
    doc_id=_STRING,
    text=_STRING,
    lang=_STRING,
    lang_score=FloatType(),
    n_words=_INT,
    url=_STRING,
    title=_STRING,
    label=_STRING,
    signals=StructType(),
    meta=_STRING_MAP,
)
KEPT = CLEAN

REJECTS = _table(
    stage=_STRING,
    doc_id=_STRING,
    source=_STRING,
    locator=_STRING,
    drop_reason=_STRING,
    value=_DOUBLE,
    threshold=_DOUBLE,
    detail=_STRING,
)

DUPLICATES = _table(
    doc_id=_STRING,
    kind=_STRING,
    cluster_id=_STRING,
    partner_id=_STRING,
    kept_id=_STRING,
    similarity=_DOUBLE,
)

REMOVED_SPANS = _table(doc_id=_STRING, start=_INT, end=_INT, kind=_STRING, partner_id=_STRING)

SAMPLES = _table(
    sample_id=_LONG,
    split=_STRING,
    input_ids=ArrayType(_INT),
    doc_starts=ArrayType(_INT),
    doc_ids=ArrayType(_STRING),
)

SHARD_FILE = StructType(
    [
        StructField("path", _STRING),
        StructField("row_groups", ArrayType(_LONG)),
        StructField("bytes", _LONG),
        StructField("checksum", _STRING),
    ]
)

MANIFESTS = _table(
    manifest_id=_STRING,
    table=_STRING,
    version=_LONG,
    split=_STRING,
    files=ArrayType(SHARD_FILE),
    rows=_LONG,
    tokenizer_hash=_STRING,
    sequence_length=_INT,
    seed=_LONG,
)

MODELS = _table(
    model_id=_STRING,
    version=_INT,
    path=_STRING,
    kind=_STRING,
    parent=_STRING,
    manifest_id=_STRING,
    trained_table=_STRING,
    trained_version=_LONG,
    metrics=_DOUBLE_MAP,
    stage_run=_STRING,
    fingerprint=_STRING,
)

SCORES = _table(
    doc_id=_STRING,
    model_id=_STRING,
    model_version=_INT,
    prediction=_STRING,
    score=_DOUBLE,
    scores=_DOUBLE_MAP,
    input_table=_STRING,
    input_version=_LONG,
    error=_STRING,
    text_hash=_STRING,
)

RUNS = StructType(
    [
        StructField("run_id", _STRING),
        StructField("parent_run_ids", ArrayType(_STRING)),
        StructField("stage", _STRING),
        StructField("fingerprint", _STRING),
        StructField("status", _STRING),
        StructField("started_at", _TIMESTAMP),
        StructField("ended_at", _TIMESTAMP),
        StructField("inputs", ArrayType(TABLE_VERSION)),
        StructField("outputs", ArrayType(TABLE_VERSION)),
        StructField("rows_in", _LONG),
        StructField("rows_kept", _LONG),
        StructField("rows_rejected", _LONG),
        StructField("reasons", _LONG_MAP),
        StructField("bytes_in", _LONG),
        StructField("seconds", _DOUBLE),
        StructField("config", _STRING),
        StructField("code_version", _STRING),
        StructField("git_commit", _STRING),
        StructField("packages", _STRING_MAP),
        StructField("metrics", _DOUBLE_MAP),
        StructField("error", _STRING),
    ]
)

SCHEMAS: dict[str, StructType] = {
    "bronze": BRONZE,
    "clean": CLEAN,
    "rejects": REJECTS,
    "kept": KEPT,
    "duplicates": DUPLICATES,
    "removed_spans": REMOVED_SPANS,
    "samples": SAMPLES,
    "manifests": MANIFESTS,
    "models": MODELS,
    "scores": SCORES,
    "_runs": RUNS,
}

# Slices that are replaced as a whole are partitions: replacing one then touches no other row.
PARTITIONS: dict[str, tuple[str, ...]] = {
    "rejects": ("stage",),
    "models": ("model_id", "version"),
    "_runs": ("run_id",),
}
