"""The lake behind the golden report: two fine-tunings, two compressors, two scorings, and traps for a hasty reader.

What the ledger names is literal. Around it lies what must never be shown, all of it marked `TRAP`: tables as they were
before, tables and models that runs which failed have left since, and rows of other steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from sparkml.frame.ledger import FAILED, STARTED, SUCCEEDED, Ledger, Run, as_json
from sparkml.frame.progress import Progress
from sparkml.frame.registry import ModelRecord, TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import BRONZE, CLEAN, DUPLICATES, MODELS, REJECTS, RUNS, SCORES
from sparkml.frame.stage import load_stage
from sparkml.frame.tables import Tables, arrow_rows
from sparkml.measures.calibration import ReliabilityBin
from sparkml.measures.evaluation import ConfusionCell, Evaluation, LabelFigures, Mistake
from sparkml.measures.intervals import Interval
from sparkml.measures.slices import SliceFigures
from sparkml.report.config import ReportConfig

LIMITS = ReportConfig()
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
SIGNALS = pa.struct([("n_words", pa.int32())])
KEPT = pa.schema([(field.name, SIGNALS if field.name == "signals" else field.type) for field in CLEAN])
Row = Mapping[str, object]
Layout = Callable[[pa.Table], dict[str, Any]]


def in_one_file(rows: pa.Table) -> dict[str, Any]:
    return {"data": rows}


def upside_down_in_many_files(rows: pa.Table) -> dict[str, Any]:
    return {"data": rows.take(list(range(len(rows)))[::-1]), "partition_by": ["doc_id"]}


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
SECRET_SOURCE = "s3://user:password@bucket/src.py?token=abc"
TRAPS = [{"doc_id": f"t{n}", "text": "TRAP", "title": "TRAP", "label": "TRAP"} for n in range(8)]


def documents(ids: list[str]) -> list[Row]:
    return [
        {"doc_id": i, "text": TEXTS[i], "n_words": 5, "title": f"title {i}", "label": LABELS[i]} for i in ids
    ]


def bronze() -> list[Row]:
    return [
        {"doc_id": i, "source": SECRET_SOURCE, "locator": "1", "text": text, "label": LABELS.get(i)}
        for i, text in TEXTS.items()
    ]


def reject(step: str, doc_id: str | None, reason: str | None, **more: object) -> Row:
    return {"stage": step, "step": step, "doc_id": doc_id, "drop_reason": reason, **more}


REFUSED = reject(
    "ingest",
    "i1",
    "invalid_json",
    source=SECRET_SOURCE,
    locator="7",
    detail="line 7: <oops>",
)
SHORT = [
    reject("clean", "s1", "too_few_words", value=2.0, threshold=5.0),
    reject("clean", "s2", "too_few_words", value=4.0, threshold=5.0),
    reject("clean", "y1", "too_many_symbols", value=4.0, threshold=0.1),
]
RARE = {**reject("topics", "b1", "rare_label"), "stage": "finetune"}
OLD = reject("old", "c1", "out_of_date", value=1.0)
TRAP = [reject(step, "t0", "TRAP", detail="TRAP") for step in ("ingest", "clean", "dedupe", "topics", "old")]
# Each version holds the whole table. What a step left of its own rows is at its own version alone.
REJECTED = [
    [REFUSED],
    [REFUSED, *SHORT],
    [TRAP[0], *SHORT, RARE],  # a run of ingest that failed came between
    [REFUSED, TRAP[1], TRAP[3], OLD],
    TRAP,
]
REPEATED = [
    {
        "doc_id": "a2",
        "kind": "exact",
        "cluster_id": "a1",
        "partner_id": "a1",
        "kept_id": "a1",
        "similarity": 1.0,
    },
    {
        "doc_id": "a3",
        "kind": "near",
        "cluster_id": "a1",
        "partner_id": "a1",
        "kept_id": "a1",
        "similarity": 0.8125,
    },
]


def scored(
    step: str, doc_id: str, model: tuple[str, int], prediction: str | None, score: float | None, **more: Any
) -> Row:
    return {
        "step": step,
        "doc_id": doc_id,
        "model_id": model[0],
        "model_version": model[1],
        "prediction": prediction,
        "score": score,
        "input_table": "kept",
        "input_version": 0,
        "text_hash": "h",
        **more,
    }


BY_TOPIC = [
    scored("by_topic", "a1", ("small", 1), "numpy", 0.9, scores=[("numpy", 0.9), ("evil<b>", 0.1)]),
    scored("by_topic", "b1", ("small", 1), "evil<b>", 0.55, scores=[("numpy", 0.45), ("evil<b>", 0.55)]),
    scored("by_topic", "c1", ("small", 1), None, None, error="too long"),
    scored("by_topic", "a1", ("topics", 3), "numpy", 1.0, input_version=7),
]
BY_TONE = [scored("by_tone", i, ("tone", 1), "calm", 0.5) for i in KEPT_IDS]
TRAP_SCORES = [scored(step, i, ("small", 1), "TRAP", 0.1) for step in ("by_topic", "by_tone") for i in TEXTS]
SCORED = [BY_TOPIC, [*TRAP_SCORES[:8], *BY_TONE], TRAP_SCORES]


def run_of(
    at: float,
    step: str,
    stage: str,
    *,
    inputs: Mapping[str, int] | None = None,
    outputs: Mapping[str, int] | None = None,
    rows: tuple[int, int] | None = None,
    seconds: float = 1.0,
    config: Mapping[str, Any] | None = None,
    **more: Any,
) -> Run:
    """A run `at` minutes after noon that read `rows[0]` rows and kept `rows[1]`, with the stage's configuration."""
    start = NOON + timedelta(minutes=at)
    values = load_stage(stage).config(**config).model_dump(mode="json") if config is not None else {}
    return Run(
        **{
            "run_id": f"run-{step}-{at:g}",
            "step": step,
            "stage": stage,
            "fingerprint": "f",
            "status": SUCCEEDED,
            "started_at": start,
            "ended_at": start + timedelta(seconds=1),
            "pipeline": "default",
            "inputs": inputs or {},
            "outputs": outputs or {},
            "rows_in": rows[0] if rows else None,
            "rows_kept": rows[1] if rows else None,
            "rows_rejected": rows[0] - rows[1] if rows else None,
            "seconds": seconds,
            "config": as_json(values),
            "code_version": "0.1.0",
            "git_commit": "c" * 40,
            "packages": {"torch": "2.13"},
            **more,
        }
    )


SOURCE = {"source": {"path": "/src"}}
RUNS_DONE = [
    # The step's first run succeeded, too; it was repeated after all others, and stays where it belongs.
    run_of(
        1, "clean", "clean", inputs={"bronze": 0}, outputs={"clean": 0, "rejects": 0}, rows=(8, 8), config={}
    ),
    run_of(
        0,
        "ingest",
        "ingest",
        outputs={"bronze": 0, "rejects": 0},
        rows=(9, 8),
        seconds=2,
        bytes_in=4000,
        config=SOURCE,
    ),
    run_of(
        90,
        "clean",
        "clean",
        inputs={"bronze": 0},
        outputs={"clean": 1, "rejects": 1},
        rows=(8, 5),
        reasons={"too_few_words": 2, "too_many_symbols": 1},
        config={},
    ),
    run_of(
        2,
        "dedupe",
        "dedupe",
        inputs={"clean": 1},
        outputs={"kept": 0, "duplicates": 0, "rejects": 1},
        rows=(5, 3),
        seconds=4,
        bytes_in=3000,
        config={},
    ),
    run_of(
        3,
        "shard",
        "shard",
        inputs={"kept": 0, "duplicates": 0},
        outputs={"samples": 0, "manifests": 0, "rejects": 1},
        rows=(3, 3),
        metrics={"tokens": 60.0, "samples": 2.0},
        config={"sequence_length": 64},
    ),
    run_of(
        4,
        "train",
        "train",
        inputs={"samples": 0, "manifests": 0},
        outputs={"models:encoder": 1},
        config={"model_id": "encoder", "network": {"model_type": "bert"}},
    ),
    run_of(
        6,
        "topics",
        "finetune",
        inputs={"kept": 0, "duplicates": 0, "models:encoder": 1},
        outputs={"models:topics": 1, "rejects": 2},
        rows=(3, 2),
        config={"model": "encoder", "model_id": "topics"},
    ),
    run_of(
        5,
        "tone",
        "finetune",
        inputs={"kept": 0, "duplicates": 0, "models:encoder": 1},
        outputs={"models:tone": 1, "rejects": 2},
        rows=(3, 3),
        config={"model": "encoder", "model_id": "tone"},
    ),
    run_of(
        7,
        "small",
        "compress",
        inputs={"models:topics": 1},
        outputs={"models:small": 1},
        config={"model": "topics", "model_id": "small"},
    ),
    run_of(
        8,
        "smaller",
        "compress",
        inputs={"models:tone": 1},
        outputs={"models:smaller": 1},
        config={"model": "tone", "model_id": "smaller"},
    ),
    run_of(
        9,
        "by_topic",
        "score",
        inputs={"kept": 0, "models:small": 1},
        outputs={"scores": 0},
        rows=(3, 2),
        reasons={"error": 1},
        config={"model": "small/v1"},
    ),
    run_of(
        10,
        "by_tone",
        "score",
        inputs={"kept": 0, "models:tone": 1, "scores": 0},
        outputs={"scores": 1},
        rows=(3, 3),
        config={"model": "tone"},
    ),
    # A step of another pipeline whose stage is not installed any more, and whose table was dropped.
    run_of(
        -30,
        "old",
        "retired",
        inputs={"clean": 1, "s3://user:password@bucket/extra": 4},
        outputs={"aged": 0, "rejects": 3},
        rows=(5, 4),
        pipeline="history",
    ),
    run_of(11, "report", "report", config={}, metrics={"TRAP": 1.0}),
]
RUNS_FAILED = [
    run_of(20, step, stage, status=FAILED, outputs=outputs, error="the disk is full\n  next: free some space")
    for step, stage, outputs in (
        ("ingest", "ingest", {"bronze": 1, "rejects": 2}),
        ("dedupe", "dedupe", {"kept": 1, "duplicates": 1}),
        ("topics", "finetune", {"models:topics": 2}),
        ("pretty", "retired", {"TRAP": 0}),
    )
]

TOPICS_RESULT = Evaluation(
    n=4,
    metrics={"accuracy": 0.75, "macro_f1": 0.7},
    intervals={"accuracy": Interval(0.25, 1.0, 0.95)},
    slices=(SliceFigures("source=a", {"accuracy": 0.5}, 40, False), SliceFigures("source=b", {}, 4, True)),
    labels=(LabelFigures("evil<b>", 1.0, 0.5, 2 / 3, 1), LabelFigures("numpy", 0.75, 1.0, 6 / 7, 3)),
    confusion=(ConfusionCell("evil<b>", "numpy", 1), ConfusionCell("numpy", "numpy", 3)),
    calibration=(ReliabilityBin(0.8, 0.9, 0.85, 0.75, 4),),
    worst=(Mistake("b1", "evil<b>", "numpy", 0.85),),
)
TONE_RESULT = Evaluation(n=8, metrics={"accuracy": 0.625, "macro_f1": 0.6})


def evaluation_file(model: Evaluation, baseline: Evaluation | None = None) -> dict[str, Any]:
    """What finetune keeps of a model's figures."""
    found = {"model": model, **({"baseline": baseline} if baseline else {})}
    return {name: json.loads(one.to_json()) for name, one in found.items()}


MEASURED = {
    "accuracy": 0.75,
    "macro_f1": 0.7,
    "size_bytes": 8_000_000,
    "memory_bytes": 90_000_000,
    "latency_p50_ms": 4.0,
    "latency_p95_ms": 6.5,
    "documents_per_second": 100.0,
    "core_seconds_per_1000": 10.0,
}
INT8 = {**MEASURED, "size_bytes": 2_000_000, "documents_per_second": 250.0, "accuracy": 0.7}


def forms_file(documents: int, figures: dict[str, Any], flips: float) -> dict[str, Any]:
    """What compress keeps of its measurements: the model, an int8 form that is published, and one that failed."""
    gate = {"metric": "accuracy", "loss": [0.05, -0.01, 0.11], "flips": [flips, 0.1, 0.4], "reason": ""}
    small = {"name": "int8_dynamic", "engine": "encoder", "stayed_float": ["a", "b"], "figures": figures}
    return {
        "documents": documents,
        "picked": "int8_dynamic",
        "why": "the one form that passes the gate; 1 did not pass",
        "forms": [
            {"name": "as it is", "engine": "torch", "stayed_float": [], "figures": MEASURED},
            {**small, "gate": gate},
            {
                **small,
                "name": "onnx",
                "stayed_float": [],
                "gate": {**gate, "reason": "loses 5 points of accuracy"},
            },
        ],
    }


CURVE = [
    {"step": 1, "train_loss": 8.0, "tokens_per_second": 100.0},
    {"step": 2, "train_loss": 6.0, "tokens_per_second": 300.0, "validation_loss": 6.5},
]
TUNING_CURVE = [
    {"step": 1, "train_loss": 1.5},
    {"step": 2, "train_loss": 1.25, "validation_loss": 1.5, "validation_accuracy": 0.5},
]
MODEL_FILES: dict[str, dict[str, Any]] = {
    "encoder": {"curve.jsonl": CURVE},
    "topics": {
        "evaluation.json": evaluation_file(TOPICS_RESULT, replace(TOPICS_RESULT, metrics={"accuracy": 0.5})),
        "curve.jsonl": TUNING_CURVE,
    },
    "tone": {"evaluation.json": evaluation_file(TONE_RESULT)},
    "small": {"report.json": forms_file(4, INT8, 0.25)},
    "smaller": {"report.json": forms_file(8, MEASURED, 0.0)},
    "TRAP": {"evaluation.json": evaluation_file(Evaluation(n=1, metrics={"TRAP": 0.001}))},
}


def models(root: Path) -> list[Row]:
    """Write the files of all models below `root`; gives the rows of the registry."""
    for name, files in MODEL_FILES.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            lines = content if isinstance(content, list) else [content]
            (folder / file).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    rows = []
    for model_id, version, files, kind, parent, maker in (
        ("encoder", 1, "encoder", "pretrained", None, "run-train-4"),
        ("topics", 1, "topics", "finetuned", "encoder/v1", "run-topics-6"),
        ("topics", 2, "TRAP", "finetuned", "encoder/v1", "run-topics-20"),  # of a run that failed
        (
            "topics",
            3,
            "TRAP",
            "finetuned",
            "encoder/v1",
            "run-elsewhere",
        ),  # of a run that the step did not do
        ("tone", 1, "tone", "finetuned", "encoder/v1", "run-tone-5"),
        ("small", 1, "small", "int8", "topics/v1", "run-small-7"),
        ("smaller", 1, "smaller", "int8", "tone/v1", "run-smaller-8"),
    ):
        record = ModelRecord(
            model_id,
            version,
            str(root / "models" / files),
            kind,
            parent,
            TrainedOn(manifest_id="m-1"),
            {"accuracy": 0.75},
            maker,
        )
        rows.append(record.record(maker))
    return rows


def put(lake: Path, ref: str, schema: pa.Schema, rows: Sequence[Row], layout: Layout = in_one_file) -> None:
    """A further version of a table, which holds these rows alone."""
    write_deltalake(str(lake / ref), **layout(arrow_rows(schema, rows)), mode="overwrite")


def write_all(lake: Path, layout: Layout = in_one_file) -> None:
    """The golden lake, every version of every table laid out by `layout`."""
    for ref, schema, versions in (
        ("bronze", BRONZE, [bronze(), TRAPS]),
        ("clean", KEPT, [TRAPS, documents(CLEAN_IDS), TRAPS]),
        ("kept", KEPT, [documents(KEPT_IDS), TRAPS]),
        ("rejects", REJECTS, REJECTED),
        ("duplicates", DUPLICATES, [REPEATED, [{**REPEATED[0], "kind": "TRAP"}]]),
        ("scores", SCORES, SCORED),
    ):
        for rows in versions:
            put(lake, ref, schema, rows, layout)
    put(lake, "models", MODELS, models(lake / "_artifacts"))
    write_ledger(lake, [*RUNS_DONE, *RUNS_FAILED])


def write_ledger(lake: Path, runs: Sequence[Run]) -> None:
    put(lake, "_runs", RUNS, [run.record() for run in runs])


def report_job(spark: SparkSession, lake: Path, pipeline: str = "default") -> StageRun:
    """What the runner gives the stage, its row `started` in the ledger included."""
    tables = Tables(str(lake), lambda: spark)
    job = StageRun(
        tables=tables,
        ledger=Ledger(tables),
        step="report",
        stage="report",
        fingerprint="test",
        artifacts=str(lake / "_artifacts"),
        seed=17,
        progress=Progress(),
    )
    job.ledger.put(Run(job.run_id, "report", "report", "test", STARTED, job.started_at, pipeline))
    return job
