"""How well a classifier does on held-out documents: report, confusion matrix, the documents themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparkml.errors import InputError

HELD_OUT_FILE = "held_out.parquet"


@dataclass(frozen=True)
class HeldOut:
    """Documents that a classifier never saw: ids, token ids with [CLS] and [SEP], label indices."""

    doc_ids: list[str]
    input_ids: list[list[int]]
    labels: NDArray[np.int64]


def write_held_out(folder: Path, documents: HeldOut) -> None:
    """Keep the held-out documents with the model, so that every descendant is measured on the same ones."""
    table = pa.table(
        {
            "doc_id": pa.array(documents.doc_ids, pa.string()),
            "label_id": pa.array(documents.labels, pa.int64()),
            "input_ids": pa.array(documents.input_ids, pa.list_(pa.int32())),
        }
    )
    pq.write_table(table, folder / HELD_OUT_FILE, compression="zstd")


def read_held_out(folder: Path) -> HeldOut:
    """Read what `write_held_out` wrote; InputError where the model has none."""
    if not (folder / HELD_OUT_FILE).is_file():
        raise InputError(
            "the model keeps no held-out documents to be measured on",
            where=str(folder),
            expected=f"a file {HELD_OUT_FILE}: doc_id, label_id, input_ids",
            next_action="take a model that the stage finetune has made",
        )
    table = pq.read_table(folder / HELD_OUT_FILE)
    return HeldOut(
        doc_ids=table["doc_id"].to_pylist(),
        input_ids=table["input_ids"].to_pylist(),
        labels=np.asarray(table["label_id"].to_pylist(), dtype=np.int64),
    )


def confusion_counts(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], n_labels: int
) -> NDArray[np.int64]:
    """[n_labels, n_labels] counts: rows are true labels, columns predicted ones."""
    return np.bincount(truth * n_labels + predicted, minlength=n_labels * n_labels).reshape(
        n_labels, n_labels
    )


def classification_report(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall, F1 and support of every label, accuracy, macro F1 and the confusion matrix.

    A ratio whose denominator is 0 is 0. Macro F1 is the mean over the labels that have held-out documents.
    """
    counts = confusion_counts(truth, predicted, len(labels))
    hits = np.diag(counts)
    support, guessed = counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = _ratio(hits, guessed), _ratio(hits, support)
    f1 = _ratio(2 * hits, guessed + support)
    present = support > 0
    return {
        "accuracy": float(hits.sum() / max(len(truth), 1)),
        "macro_f1": float(f1[present].mean()) if present.any() else 0.0,
        "documents": len(truth),
        "classes": [
            {
                "label": label,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        ],
        "confusion": {"labels": list(labels), "counts": counts.tolist()},
    }


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros(len(below)), where=below > 0)
