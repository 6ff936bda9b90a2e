"""The classification report against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparkml.errors import InputError
from sparkml.models.evaluation import HeldOut, classification_report, read_held_out, write_held_out


def test_report_of_seven_documents() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2, 2])
    guess = np.array([0, 0, 1, 1, 0, 2, 1])
    report = classification_report(truth, guess, ["cat", "dog", "emu", "fox"])
    assert report["accuracy"] == pytest.approx(4 / 7)
    assert report["documents"] == 7
    assert report["confusion"] == {
        "labels": ["cat", "dog", "emu", "fox"],
        "counts": [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]],
    }
    figures = [(row["precision"], row["recall"], row["f1"], row["support"]) for row in report["classes"]]
    assert figures == [
        pytest.approx((2 / 3, 2 / 3, 2 / 3, 3)),
        pytest.approx((1 / 3, 1 / 2, 2 / 5, 2)),
        pytest.approx((1.0, 1 / 2, 2 / 3, 2)),
        (0.0, 0.0, 0.0, 0),
    ]
    # fox has no held-out document and stays out of the mean
    assert report["macro_f1"] == pytest.approx((2 / 3 + 2 / 5 + 2 / 3) / 3)


def test_report_of_nothing() -> None:
    none = np.array([], dtype=np.int64)
    report = classification_report(none, none, ["a", "b"])
    assert (report["accuracy"], report["macro_f1"], report["documents"]) == (0.0, 0.0, 0)


def test_held_out_documents_come_back(tmp_path: Path) -> None:
    documents = HeldOut(["x", "y"], [[2, 7, 3], [2, 3]], np.array([1, 0]))
    write_held_out(tmp_path, documents)
    back = read_held_out(tmp_path)
    assert (back.doc_ids, back.input_ids, back.labels.tolist()) == (["x", "y"], [[2, 7, 3], [2, 3]], [1, 0])


def test_a_model_without_held_out_documents_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"held_out\.parquet"):
        read_held_out(tmp_path)
