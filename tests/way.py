"""A whole pipeline over a small corpus, and what its tables must hold."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests import corpus, identities
from tests.command_line import call
from tests.jvm import QUICK_JVM

TINY = [
    "spark.master=local[2]",
    "spark.driver.memory=1500m",
    "spark.sql.shuffle.partitions=2",
    "spark.databricks.delta.snapshotPartitions=1",
    "ingest.source.text_field=body",
    "ingest.source.id_field=id",
    "ingest.source.label_field=topic",
    "ingest.source.dataset=toy",
    "clean.gopher_quality.min_words=50",
    "shard.vocabulary_size=600",
    "shard.sequence_length=64",
    "shard.validation_fraction=0.2",
    "shard.n_buckets=2",
    "shard.leak_similarity=0",
    "shard.rows_per_row_group=16",
    "shard.file_bytes=6144",
    "train.network.hidden_size=32",
    "train.network.num_hidden_layers=1",
    "train.network.num_attention_heads=2",
    "train.network.intermediate_size=64",
    "train.network.max_position_embeddings=64",
    "train.max_steps=24",
    "train.batch_size=8",
    "train.validation_every_steps=12",
    "train.checkpoint_every_steps=8",
    "train.validation_rows=16",
    "finetune.max_steps=20",
    "finetune.batch_size=8",
    "finetune.ranks=1",
    "classifier_minilm.max_steps=20",
    "classifier_minilm.ranks=1",
    "compress.beside=[]",  # of several forms the fastest is picked, which may be another one next time
    "compress.latency_documents=5",
    "compress.rounds=2",
    "compress.throughput_documents=16",
    "score.engine=encoder",  # so is the engine, and with it the last digit of a score
]
ENVIRONMENT = {**os.environ, "JAVA_TOOL_OPTIONS": QUICK_JVM}
# What a run decides: everything but run ids, times, and the Delta versions that a repeated write moves.
COMPARED = {
    "bronze": ["doc_id", "source", "locator", "content_hash", "text", "label", "meta"],
    "clean": ["doc_id", "text", "n_words", "signals", "label"],
    "rejects": ["step", "stage", "doc_id", "drop_reason", "value", "threshold", "detail"],
    "kept": ["doc_id", "text", "n_words"],
    "duplicates": ["doc_id", "kind", "cluster_id", "partner_id", "kept_id", "similarity"],
    "samples": ["sample_id", "split", "input_ids", "doc_starts", "doc_ids"],
    "finetune_samples": ["sample_id", "split", "doc_id", "window", "n_tokens", "input_ids", "target"],
    "manifests": ["manifest_id", "split", "rows", "tokenizer_hash", "seed"],
    "models": ["model_id", "version", "kind", "parent"],
    "scores": ["doc_id", "model_id", "model_version", "step", "prediction", "score", "scores", "error"],
}


@dataclass(frozen=True)
class Way:
    """A lake that the command line has filled."""

    lake: Path
    source: Path
    fates: corpus.Fates
    shown: str


def overrides(lake: Path, source: Path) -> list[str]:
    """The words of the command line that make a run over the small corpus small."""
    return [f"lake={lake}", f"ingest.source.path={source}", *TINY]


def fill(folder: Path) -> Way:
    """An undisturbed run from source to report, in the running session."""
    # Names as they are on people's machines.
    lake, source = folder / "a lake für alles", folder / "das ganz Gehörte"
    fates = corpus.write(source)
    code, shown = call("run-all", *overrides(lake, source))
    assert code == 0, shown[-3000:]
    return Way(lake, source, fates, shown)


def command(lake: Path, source: Path) -> list[str]:
    """The same as a process of its own."""
    return [sys.executable, "-m", "sparkml.cli", "run-all", *overrides(lake, source)]


def rows(lake: Path, name: str) -> list[str]:
    """The compared columns of a table, as sorted text."""
    found = identities.table(lake, name).select(COMPARED[name]).to_pylist()
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in found)


def assert_equal_lakes(lake: Path, expected: Path) -> None:
    """Both lakes hold the same decisions."""
    assert identities.violations(lake) == []
    for name in COMPARED:
        assert rows(lake, name) == rows(expected, name), name
