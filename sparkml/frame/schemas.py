"""The columns of every table, as other programs rely on them. In Arrow, so that no JVM is needed."""

from __future__ import annotations

import pyarrow as pa

_STRING, _LONG, _INT, _DOUBLE = pa.string(), pa.int64(), pa.int32(), pa.float64()
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_STRING_MAP = pa.map_(_STRING, _STRING)
_DOUBLE_MAP = pa.map_(_STRING, _DOUBLE)
_TABLE_VERSIONS = pa.list_(pa.struct([("table", _STRING), ("version", _LONG)]))
_STRINGS = pa.list_(_STRING)
LANGUAGES = pa.list_(pa.struct([("lang", _STRING), ("share", pa.float32())]))  # the largest share first
ANY_STRUCT = pa.struct([])  # a struct whose fields differ with the configuration


def _table(**columns: pa.DataType) -> pa.Schema:
    """A table's columns in order; every row ends with the id of the run that wrote it."""
    return pa.schema(list({**columns, "run_id": _STRING}.items()))


BRONZE = _table(
    doc_id=_STRING,
    dataset=_STRING,
    source=_STRING,
    locator=_STRING,
    content_hash=_STRING,
    text=_STRING,
    text_b=_STRING,
    tokens=_STRINGS,
    tags=_STRINGS,
    media=pa.binary(),
    media_type=_STRING,
    url=_STRING,
    title=_STRING,
    published=_TIMESTAMP,
    label=_STRING,
    split=_STRING,
    meta=_STRING_MAP,
    ingested_at=_TIMESTAMP,
)

CLEAN = _table(
    doc_id=_STRING,
    text=_STRING,
    text_b=_STRING,
    tokens=_STRINGS,
    tags=_STRINGS,
    media=pa.binary(),
    media_type=_STRING,
    lang=_STRING,
    lang_score=pa.float32(),
    languages=LANGUAGES,
    n_words=_INT,
    url=_STRING,
    title=_STRING,
    label=_STRING,
    split=_STRING,
    signals=ANY_STRUCT,
    meta=_STRING_MAP,
)

REJECTS = _table(
    stage=_STRING,
    step=_STRING,
    doc_id=_STRING,
    source=_STRING,
    locator=_STRING,
    drop_reason=_STRING,
    value=_DOUBLE,
    threshold=_DOUBLE,
    detail=_STRING,
    signals=_DOUBLE_MAP,
)

SOURCES = _table(
    step=_STRING,
    source=_STRING,
    size=_LONG,
    modified=_TIMESTAMP,
    version=_LONG,
    etag=_STRING,
    records=_LONG,
)

DUPLICATES = _table(
    doc_id=_STRING,
    kind=_STRING,
    cluster_id=_STRING,
    partner_id=_STRING,
    kept_id=_STRING,
    similarity=_DOUBLE,
)

SAMPLES = _table(
    sample_id=_LONG,
    split=_STRING,
    input_ids=pa.list_(_INT),
    doc_starts=pa.list_(_INT),
    doc_ids=pa.list_(_STRING),
)

SHARD_FILE = pa.struct(
    [("path", _STRING), ("row_groups", pa.list_(_LONG)), ("bytes", _LONG), ("checksum", _STRING)]
)

MANIFESTS = _table(
    manifest_id=_STRING,
    table=_STRING,
    version=_LONG,
    split=_STRING,
    files=pa.list_(SHARD_FILE),
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
    step=_STRING,
    prediction=_STRING,
    score=_DOUBLE,
    scores=_DOUBLE_MAP,
    spans=pa.list_(pa.struct([("start", _INT), ("end", _INT), ("label", _STRING), ("score", _DOUBLE)])),
    embedding=pa.list_(pa.float32()),
    output=_STRING,
    engine=_STRING,
    input_table=_STRING,
    input_version=_LONG,
    error=_STRING,
    text_hash=_STRING,
)

# What a service has answered: written without Spark, by `sparkml serve`.
SERVED = pa.schema(
    [
        ("request_id", _STRING),
        ("place", _INT),
        ("answered_at", _TIMESTAMP),
        ("model_id", _STRING),
        ("model_version", _INT),
        ("role", _STRING),
        ("text", _STRING),
        ("text_hash", _STRING),
        ("prediction", _STRING),
        ("score", _DOUBLE),
        ("scores", _DOUBLE_MAP),
        ("error", _STRING),
        ("n_tokens", _INT),
        ("seconds", _DOUBLE),
    ]
)

NEIGHBOURS = _table(
    doc_id=_STRING,
    rank=_INT,
    neighbour_id=_STRING,
    similarity=_DOUBLE,
    model_id=_STRING,
    model_version=_INT,
    step=_STRING,
)

EVALUATIONS = _table(
    model_id=_STRING,
    model_version=_INT,
    step=_STRING,
    input_table=_STRING,
    input_version=_LONG,
    slice=_STRING,
    metrics=_DOUBLE_MAP,
    n=_LONG,
)

# What the stage monitor finds, and what it makes of it.
MONITORED = _table(
    step=_STRING,
    window_start=_TIMESTAMP,
    window_end=_TIMESTAMP,
    slice=_STRING,
    signal=_STRING,
    kind=_STRING,
    n=_LONG,
    statistic=_STRING,
    value=_DOUBLE,
    threshold=_DOUBLE,
    p_value=_DOUBLE,
    alarm=pa.bool_(),
    statistics=_DOUBLE_MAP,
    detail=_STRING,
)

ALERTS = _table(
    event_id=_STRING,
    alert_id=_STRING,
    step=_STRING,
    slice=_STRING,
    signal=_STRING,
    state=_STRING,
    window_start=_TIMESTAMP,
    window_end=_TIMESTAMP,
    value=_DOUBLE,
    threshold=_DOUBLE,
    p_value=_DOUBLE,
    detail=_STRING,
    message=_STRING,
    found_at=_TIMESTAMP,
)

NOTIFICATIONS = _table(
    notification_id=_STRING, step=_STRING, message=_STRING, channel=_STRING, sent_at=_TIMESTAMP
)

LABELLING = _table(
    doc_id=_STRING,
    step=_STRING,
    window_start=_TIMESTAMP,
    reason=_STRING,
    priority=_DOUBLE,
    text=_STRING,
    prediction=_STRING,
    score=_DOUBLE,
    queued_at=_TIMESTAMP,
)

# What people have said of rows of the queue: written without Spark, by `sparkml label`.
LABELS = pa.schema(
    [
        ("doc_id", _STRING),
        ("text", _STRING),
        ("label", _STRING),
        ("prediction", _STRING),
        ("labelled_at", _TIMESTAMP),
        ("labelled_by", _STRING),
    ]
)

RUNS = pa.schema(
    [
        ("run_id", _STRING),
        ("parent_run_ids", pa.list_(_STRING)),
        ("step", _STRING),
        ("stage", _STRING),
        ("pipeline", _STRING),
        ("fingerprint", _STRING),
        ("status", _STRING),
        ("started_at", _TIMESTAMP),
        ("ended_at", _TIMESTAMP),
        ("inputs", _TABLE_VERSIONS),
        ("outputs", _TABLE_VERSIONS),
        ("rows_in", _LONG),
        ("rows_kept", _LONG),
        ("rows_rejected", _LONG),
        ("reasons", pa.map_(_STRING, _LONG)),
        ("bytes_in", _LONG),
        ("seconds", _DOUBLE),
        ("config", _STRING),
        ("code_version", _STRING),
        ("git_commit", _STRING),
        ("packages", _STRING_MAP),
        ("metrics", _DOUBLE_MAP),
        ("error", _STRING),
    ]
)

# By the bare name of a table, wherever a configuration puts it.
SCHEMAS: dict[str, pa.Schema] = {
    "bronze": BRONZE,
    "clean": CLEAN,
    "rejects": REJECTS,
    "sources": SOURCES,
    "kept": CLEAN,
    "duplicates": DUPLICATES,
    "samples": SAMPLES,
    "manifests": MANIFESTS,
    "models": MODELS,
    "scores": SCORES,
    "neighbours": NEIGHBOURS,
    "evaluations": EVALUATIONS,
    "monitored": MONITORED,
    "alerts": ALERTS,
    "notifications": NOTIFICATIONS,
    "labelling": LABELLING,
    "_runs": RUNS,
}

LABELLED = ("text_b", "tokens", "tags", "media", "media_type", "split")
# Columns of documents that a table of another program may lack: they are null then.
OPTIONAL = {
    "bronze": LABELLED,
    "clean": (*LABELLED, "languages"),
    "kept": (*LABELLED, "languages"),
    "rejects": ("signals",),
}

# Tables whose rows change by some of them at a time, for steps that follow their changes.
FOLLOWED = ("bronze", "clean")

# Slices that are replaced as a whole are partitions: replacing one then touches no other row.
PARTITIONS: dict[str, tuple[str, ...]] = {
    "rejects": ("step",),
    "scores": ("step", "model_id", "model_version"),
    "neighbours": ("step",),
    "monitored": ("step",),
}


def without_run(schema: pa.Schema) -> pa.Schema:
    """The columns that a stage gives; the frame adds `run_id`."""
    return pa.schema([field for field in schema if field.name != "run_id"])
