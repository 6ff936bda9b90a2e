"""Classify pairs of texts by one label: duplicate or not, entailed or not, answer or not."""

from __future__ import annotations

from sparkml.tasks.classify import Classify


class Pairs(Classify):
    """As `classify`, of two texts that the network reads as one sequence."""

    name = "pairs"
    summary = "pairs of texts by label"
    reads = ("text", "text_b", "label")
    text_columns = ("text", "text_b")


TASK = Pairs
