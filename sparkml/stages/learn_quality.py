"""Learn what good text is: examples of good and of bad documents -> a linear model that `clean` scores with.

The held-out tenth of the examples, by a hash of their text, says how well it tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.registry import TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Makes, Reads, RunReport, Stage, StageConfig
from sparkml.models.folder import WEIGHTS_FILE, write_json

_CONFIG = "config.json"
_FEATURES = "slots array<int>, is_held_out boolean"


class LearnQualityConfig(StageConfig):
    """What `conf/base/learn_quality.yaml` holds."""

    good: Reads = Field(description="Documents as they should be")
    bad: Reads = Field(description="Documents as most are, or as they should not be")
    model_id: Makes = ""
    column: str = Field("text", min_length=1, description="Column of the texts, in both tables")
    most_documents: int = Field(
        100_000, ge=2, description="Of each table at most; of more, those of the lowest hash"
    )
    most_words: int = Field(1_000, ge=1, description="Words of a document that are looked at: its first ones")
    slots: int = Field(1 << 20, ge=2, le=1 << 28, description="Weights; a power of two")
    epochs: int = Field(5, ge=1, description="Passes over the documents")
    learning_rate: float = Field(0.5, gt=0, description="Of Adagrad")
    held_out: float = Field(0.1, gt=0, lt=1, description="Part of the documents that only measures")

    @field_validator("slots")
    @classmethod
    def _is_power_of_two(cls, slots: int) -> int:
        if slots & (slots - 1):
            raise ValueError(f"a power of two; got {slots}")
        return slots


def run(job: StageRun, config: LearnQualityConfig) -> RunReport:
    """Hash on the cluster, learn on the driver: 100,000 documents of a kilobyte take some ten seconds."""
    from sparkml.kernels.linear import Features, fit

    examples = [_examples(job.read(ref), ref, config) for ref in (config.good, config.bad)]
    slots = [column for table in examples for column in table.column("slots").chunks]
    joined = pa.concat_arrays(slots)
    held_out = np.concatenate([table.column("is_held_out").to_numpy() for table in examples])
    labels = np.repeat([True, False], [table.num_rows for table in examples])
    features = Features(joined.values.to_numpy(), joined.offsets.to_numpy().astype(np.int64))
    train, test = (_chosen(features, rows) for rows in (~held_out, held_out))
    of_train, of_test = labels[~held_out], labels[held_out]
    for name, rows in (("to learn from", of_train), ("held out", of_test)):
        if rows.all() or not rows.any():
            raise InputError(
                f"of good or of bad documents there are none {name}",
                where=f"`{config.good}`, `{config.bad}`",
                got=f"{int(rows.sum())} good, {int((~rows).sum())} bad",
                expected="some of both",
            )
    weights, bias = fit(
        train, of_train, config.slots, epochs=config.epochs, rate=config.learning_rate, seed=job.seed
    )
    metrics = _measured(test, of_test, weights, bias)
    with job.new_model(config.model_id) as folder:
        from safetensors.numpy import save_file

        save_file({"weights": weights, "bias": np.array([bias], np.float32)}, folder / WEIGHTS_FILE)
        write_json(folder / _CONFIG, {"model_type": "sparkml_linear", "most_words": config.most_words})
        (folder / "README.md").write_text(_card(config, metrics, len(labels)), encoding="utf-8")
    job.register(
        config.model_id,
        kind="linear",
        parent=None,
        trained_on=TrainedOn(table=config.good, version=job.input_version(config.good)),
        metrics=metrics,
    )
    return RunReport(metrics={**metrics, "documents": len(labels)})


def _examples(table: DataFrame, ref: str, config: LearnQualityConfig) -> pa.Table:
    """Slots of a table's documents, those of the lowest hash."""
    if config.column not in table.columns:
        raise InputError(f"table `{ref}` has no column `{config.column}`", got=", ".join(table.columns))
    texts = table.select(F.col(config.column).cast("string").alias("text")).where("text is not null")
    chosen = texts.distinct().withColumn("_hash", F.xxhash64("text"))
    chosen = chosen.orderBy("_hash", "text").limit(config.most_documents)
    hashed = chosen.withColumn("is_held_out", F.pmod("_hash", F.lit(10_000)) < int(config.held_out * 10_000))
    found: pa.Table = hashed.mapInArrow(partial(_slots, config.slots, config.most_words), _FEATURES).toArrow()
    return found


def _slots(slots: int, most_words: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from sparkml.kernels.linear import features_of
    from sparkml.kernels.texts import read_texts
    from sparkml.kernels.words import Memory

    memory = Memory()
    for batch in batches:
        found = features_of(read_texts(batch.column("text")), slots, most_words, memory)
        lists = pa.ListArray.from_arrays(pa.array(found.offsets, pa.int32()), pa.array(found.slots))
        yield pa.RecordBatch.from_arrays([lists, batch.column("is_held_out")], ["slots", "is_held_out"])


def _chosen(features: Any, rows: NDArray[np.bool_]) -> Any:
    from sparkml.kernels.linear import Features

    sizes = np.diff(features.offsets)
    return Features(
        np.ascontiguousarray(features.slots[np.repeat(rows, sizes)]),
        np.concatenate([[0], np.cumsum(sizes[rows])]).astype(np.int64),
    )


def _measured(
    features: Any, labels: NDArray[np.bool_], weights: NDArray[np.float32], bias: float
) -> dict[str, float]:
    """Area under the ROC curve, and accuracy at a score of a half."""
    from sklearn.metrics import roc_auc_score

    sizes = np.diff(features.offsets)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    means = np.bincount(owners, weights[features.slots], len(sizes)) / np.maximum(sizes, 1)
    scores = means + bias
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "accuracy": float(np.mean((scores > 0) == labels)),
        "held_out": float(len(labels)),
    }


def _card(config: LearnQualityConfig, metrics: dict[str, float], documents: int) -> str:
    held_out, auc, accuracy = (metrics[name] for name in ("held_out", "auc", "accuracy"))
    return "\n\n".join(
        (
            f"# {config.model_id}",
            f"A linear model of hashed words and pairs of words. It tells documents of `{config.good}` from those of "
            f"`{config.bad}`; {documents} in all.",
            f"Of {held_out:.0f} held-out ones: area under the ROC curve {auc:.4f}, accuracy {accuracy:.4f}.",
            "Use: the rule set `quality` of `clean`.\n",
        )
    )


STAGE = Stage(
    LearnQualityConfig, run, "good and bad documents -> a linear model that clean scores documents with"
)
