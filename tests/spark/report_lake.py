"""The lake behind the golden report: a few documents of every fate, and what each stage would have left."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import IntegerType, StructField, StructType
from sparkml.frame.runs import StageRun

from sparkml.frame.progress import Progress
from sparkml.frame.schemas import BRONZE, CLEAN, DUPLICATES, MODELS, REJECTS, RUNS, SCORES
from sparkml.frame.tables import Tables
from sparkml.stages.report import ReportConfig

CONFIG = ReportConfig()
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
KEPT = StructType(
    [
        StructField("signals", StructType([StructField("n_words", IntegerType())]))
        if field.name == "signals"
        else field
        for field in CLEAN.fields
    ]
)
SHAPE = "Return a new array of given shape and type, filled with zeros."
TEXTS = {
    "a1": SHAPE,
    "a2": SHAPE,
    "a3": "Return a new array of given shape and type, filled with ones.",
    "b1": "Träge Fluten, 日本語 and <script>alert('x')</script> in one text.",
    "c1": "Compute the mean along the given axis.",
    "s1": "Too short.",
    "s2": "<b>Short</b> & bold",
    "y1": "#### #### ####",
}
LABELS = {"a1": "numpy", "a2": "numpy", "a3": "numpy", "b1": "evil<b>", "c1": "numpy"}
CLEAN_IDS, KEPT_IDS = ["a1", "a2", "a3", "b1", "c1"], ["a1", "b1", "c1"]
REJECTED = [
    ("ingest", "i1", "file:///data/part-1.jsonl.gz", "7", "invalid_json", None, None, "line 7: <oops>", "r1"),
    ("clean", "s1", None, None, "too_few_words", 2.0, 5.0, None, "r2"),
    ("clean", "s2", None, None, "too_few_words", 4.0, 5.0, None, "r2"),
    ("clean", "y1", None, None, "too_many_symbols", 4.0, 0.1, None, "r2"),
]
REPEATED = [
    ("a2", "exact", "a1", "a1", "a1", 1.0, "r3"),
    ("a3", "near", "a1", "a1", "a1", 0.8125, "r3"),
]
SCORED = [
    ("a1", "classifier-int8", 1, "numpy", 0.9, {"numpy": 0.9, "evil<b>": 0.1}, "kept", 0, None, "h", "r8"),
    (
        "b1",
        "classifier-int8",
        1,
        "evil<b>",
        0.55,
        {"numpy": 0.45, "evil<b>": 0.55},
        "kept",
        0,
        None,
        "h",
        "r8",
    ),
    ("c1", "classifier-int8", 1, None, None, None, "kept", 0, "too long", "h", "r8"),
    ("a1", "classifier", 3, "numpy", 1.0, None, "kept", 7, None, "h", "r7"),
]
FINETUNE_RESULT = {
    "accuracy": 0.75,
    "macro_f1": 0.7,
    "documents": 4,
    "classes": [
        {"label": "evil<b>", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 1},
        {"label": "numpy", "precision": 0.75, "recall": 1.0, "f1": 6 / 7, "support": 3},
    ],
    "confusion": {"labels": ["evil<b>", "numpy"], "counts": [[0, 1], [0, 3]]},
}
MEASURED = {
    "accuracy": 0.75,
    "macro_f1": 0.7,
    "size_bytes": 8_000_000,
    "latency_p50_ms": 4.0,
    "latency_p95_ms": 6.5,
    "documents_per_second": 100.0,
}


def documents(ids: list[str]) -> list[tuple[object, ...]]:
    return [(i, TEXTS[i], "en", 0.9, 5, None, f"title {i}", LABELS[i], (5,), {}, "r") for i in ids]


def bronze() -> list[tuple[object, ...]]:
    return [
        (
            i,
            "set",
            f"file:///src/{i}.py",
            "1",
            "h",
            text,
            None,
            None,
            None,
            None,
            LABELS.get(i),
            {},
            NOON,
            "r1",
        )
        for i, text in TEXTS.items()
    ]


def ledger(stages: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Rows of `_runs` from (stage, rows in, kept, bytes in, seconds, inputs, outputs, metrics)."""
    rows = []
    for at, (stage, n_in, n_kept, n_bytes, seconds, inputs, outputs, metrics) in enumerate(stages):
        start = NOON + timedelta(minutes=at)
        config = json.dumps({"similarity_threshold": 0.7})
        n_rejected = n_in - n_kept  # type: ignore[operator]
        rows.append(
            (
                f"run-{stage}",
                [],
                stage,
                "f",
                "succeeded",
                start,
                start + timedelta(seconds=1),
                inputs,
                outputs,
                n_in,
                n_kept,
                n_rejected,
                {},
                n_bytes,
                seconds,
                config,
                "0.1.0",
                "c" * 40,
                {"torch": "2.13"},
                metrics,
                None,
            )
        )
    return rows


STAGES: list[tuple[object, ...]] = [
    ("ingest", 9, 8, 4000, 2.0, [], [("bronze", 0)], {}),
    ("clean", 8, 5, 4000, 1.0, [("bronze", 0)], [("clean", 0)], {}),
    ("dedupe", 5, 3, 3000, 4.0, [("clean", 0)], [("kept", 0), ("duplicates", 0)], {}),
    ("shard", 3, 3, 2000, 1.0, [("kept", 0)], [("samples", 0)], {"tokens": 60.0, "samples": 2.0}),
    ("score", 3, 3, 2000, 2.0, [("kept", 0), ("models:classifier-int8", 1)], [("scores", 0)], {}),
]
DIED = (
    "run-old",
    [],
    "clean",
    "f",
    "failed",
    NOON - timedelta(hours=1),
    NOON,
    [],
    [],
    *((None,) * 3),
    {},
    None,
    3.0,
    "{}",
    "0.1.0",
    None,
    {},
    {},
    "the disk is full\n  next: free some space",
)


def write_models(tables: Tables, spark: SparkSession, folder: Path) -> None:
    rows = []
    for model_id, kind, parent in (
        ("encoder", "pretrained", None),
        ("classifier", "finetuned", "encoder/v1"),
        ("classifier-int8", "int8", "classifier/v1"),
    ):
        path = folder / "models" / model_id / "v1"
        path.mkdir(parents=True)
        rows.append(
            (model_id, 1, str(path), kind, parent, "m-1", None, None, {"accuracy": 0.75}, "r", "f", "r")
        )
        if model_id == "classifier":
            # A version that a run which failed left behind is not the latest.
            rows.append((model_id, 2, str(path), kind, parent, "m-1", None, None, {}, "run-old", "f", "r"))
    tables.overwrite(spark.createDataFrame(rows, MODELS), "models")
    encoder, classifier, int8 = (
        folder / "models" / name / "v1" for name in ("encoder", "classifier", "classifier-int8")
    )
    points = [
        {"step": 1, "train_loss": 8.0, "tokens_per_second": 100.0, "learning_rate": 0.1},
        {
            "step": 2,
            "train_loss": 6.0,
            "tokens_per_second": 300.0,
            "learning_rate": 0.1,
            "validation_loss": 6.5,
        },
    ]
    (encoder / "curve.jsonl").write_text("".join(f"{json.dumps(point)}\n" for point in points))
    report = {"labels": ["evil<b>", "numpy"], "held_out_documents": 4, "train_documents": 9}
    both = {"pretrained": FINETUNE_RESULT, "random": {**FINETUNE_RESULT, "accuracy": 0.5}}
    (classifier / "report.json").write_text(json.dumps({**report, **both}))
    curve = [
        {"weights": "pretrained", "step": 1, "loss": 1.5, "held_out_accuracy": None},
        {"weights": "random", "step": 1, "loss": 2.5, "held_out_accuracy": 0.5},
    ]
    (classifier / "curve.jsonl").write_text("".join(f"{json.dumps(point)}\n" for point in curve))
    small = {**MEASURED, "size_bytes": 2_000_000, "documents_per_second": 250.0, "accuracy": 0.7}
    (int8 / "report.json").write_text(
        json.dumps({"float32": MEASURED, "int8": small, "documents": 4, "flipped": 1})
    )


def write_all(
    tables: Tables, spark: SparkSession, folder: Path, shape: Callable[[DataFrame], DataFrame]
) -> None:
    """The golden lake, its tables laid out by `shape`."""
    for ref, rows, schema in (
        ("bronze", bronze(), BRONZE),
        ("clean", documents(CLEAN_IDS), KEPT),
        ("kept", documents(KEPT_IDS), KEPT),
        ("rejects", REJECTED, REJECTS),
        ("duplicates", REPEATED, DUPLICATES),
        ("scores", SCORED, SCORES),
        ("_runs", [DIED, *ledger(STAGES)], RUNS),
    ):
        tables.overwrite(shape(spark.createDataFrame(rows, schema)), ref)
    write_models(tables, spark, folder)


def report_job(spark: SparkSession, lake: Path) -> StageRun:
    return StageRun(
        spark=spark,
        tables=Tables(spark, str(lake)),
        stage="report",
        fingerprint="test",
        artifacts=str(lake / "_artifacts"),
        seed=17,
        progress=Progress(),
    )
