"""Which labels are learnt."""

from __future__ import annotations

import pytest

from sparkml.errors import NotApplicableError
from sparkml.stages.finetune.documents import LabelCounts
from sparkml.stages.finetune.stage import FinetuneConfig, learnable_labels

CONFIG = FinetuneConfig(n_labels=2, min_documents_per_label=3)


def test_the_most_frequent_in_alphabetical_order_ties_by_name() -> None:
    counts = LabelCounts(30, 0, {"zebra": 9, "bee": 5, "ant": 5, "cat": 2})
    assert learnable_labels(counts, CONFIG) == ["ant", "zebra"]
    assert counts.most_frequent(10, 3) == ["ant", "bee", "zebra"]


def test_no_label_at_all_says_what_to_do() -> None:
    with pytest.raises(NotApplicableError) as raised:
        learnable_labels(LabelCounts(12, 0, {}), CONFIG)
    message = str(raised.value)
    assert "no labels" in message
    assert "12 documents, none with a label" in message
    assert "ingest.source.label_field" in message


def test_one_learnable_label_is_too_few() -> None:
    with pytest.raises(NotApplicableError, match=r"too few labels[\s\S]*'spam' \(9\)"):
        learnable_labels(LabelCounts(12, 0, {"spam": 9, "ham": 2}), CONFIG)
