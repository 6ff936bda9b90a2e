"""Documents that hold parts of evaluation sets (Brown et al. 2020, appendix C)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import Batch, Fraction, RuleSet

if TYPE_CHECKING:
    from sparkml.kernels.overlap import GramTable, Overlaps

_MOST_SETS = 64


class Decontaminate(RuleSet):
    """Looks for runs of words that a document shares with texts of evaluation sets, all sets at once.

    The detail of a reject names the sets and the characters of the first run. Texts of fewer words than `ngram`, but of
    `min_words`, are looked for as a whole.
    """

    signals = ("contaminated_ngrams", "contaminated_share")
    limits = frozenset(("max_share",))

    sets: Mapping[str, str] = Field(
        {},
        description="Name -> texts of an evaluation set: a Delta table, a Parquet or JSONL file, a file of lines",
    )
    column: str = Field("text", min_length=1, description="Column or field of tables and objects")
    ngram: int = Field(13, ge=2, le=64, description="Words of a run")
    min_words: int = Field(8, ge=2, le=64, description="A shorter text of a set is left out")
    action: Literal["drop", "cut", "keep"] = Field(
        "drop", description="drop: the document goes; cut: the runs go; keep: they are counted"
    )
    max_share: Fraction = Field(0.0, description="drop: words that lie in such runs, of all words, at most")

    _tables: tuple[GramTable, ...] | None = PrivateAttr(None)

    @field_validator("sets")
    @classmethod
    def _are_not_too_many(cls, sets: Mapping[str, str]) -> Mapping[str, str]:
        if len(sets) > _MOST_SETS:
            raise ValueError(f"at most {_MOST_SETS} sets; got {len(sets)}")
        return sets

    @property
    def places(self) -> tuple[str, ...]:
        """The sets."""
        return tuple(self.sets.values())

    def prepared(self) -> Decontaminate:
        """With the runs of words of the sets."""
        import pyarrow as pa

        from sparkml.kernels.overlap import gram_table, word_hashes
        from sparkml.kernels.texts import read_texts
        from sparkml.sources.lists import texts

        given = [texts(place, self.column) for place in self.sets.values()]
        columns = [read_texts(pa.array(found, pa.large_string())) for found in given]
        lengths = [np.diff(word_hashes(column)[1]) for column in columns]
        least = min(self.min_words, self.ngram)
        tables = []
        for n in range(least, self.ngram + 1):
            # Shorter texts of exactly n words, and of longer ones every run of the full length.
            chosen = [
                [
                    text
                    for text, length in zip(found, counts.tolist(), strict=True)
                    if length == n or (n == self.ngram and length > n)
                ]
                for found, counts in zip(given, lengths, strict=True)
            ]
            if any(chosen):
                tables.append(
                    gram_table([read_texts(pa.array(kept, pa.large_string())) for kept in chosen], n)
                )
        ready = self.model_copy()
        ready._tables = tuple(tables)
        return ready

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Runs that are in a set, and the words in them; the texts without them, where they are cut."""
        from sparkml.kernels.overlap import find_overlaps

        if self._tables is None:
            raise AssertionError("this rule set is prepared on the driver")
        documents = len(batch.texts.offsets) - 1
        grams, share = np.zeros(documents), np.zeros(documents)
        spans = np.zeros((0, 4), np.int64)
        for table in self._tables:
            found: Overlaps = find_overlaps(batch.texts, table, batch.memory)
            grams, share = grams + found.grams, np.maximum(share, found.share)
            spans = np.concatenate([spans, found.spans])
        signals = {"contaminated_ngrams": grams, "contaminated_share": share}
        if not len(spans):
            return signals, batch
        spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
        noted = {**batch.notes, "contaminated_share": self._notes(batch, spans)}
        batch = replace(batch, notes=noted)
        return signals, _without(batch, spans) if self.action == "cut" else batch

    def rules(self) -> tuple[Rule, ...]:
        """None where nothing is dropped."""
        most = self.max_share if self.action == "drop" else None
        return (Rule("contaminated", "contaminated_share", most=most),)

    def _notes(self, batch: Batch, spans: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> dict[int, str]:
        """For each document with such a run its sets, and the characters of the first run."""
        names, notes = list(self.sets), {}
        for doc in np.unique(spans[:, 0]).tolist():
            mine = spans[spans[:, 0] == doc]
            bits = int(np.bitwise_or.reduce(mine[:, 3].view(np.uint64)))
            of_sets = ", ".join(name for bit, name in enumerate(names) if bits >> bit & 1)
            begin = int(batch.texts.offsets[doc])
            head = batch.texts.data[begin : int(mine[0, 1])].tobytes().decode("utf-8", "replace")
            run = batch.texts.data[int(mine[0, 1]) : int(mine[0, 2])].tobytes().decode("utf-8", "replace")
            notes[doc] = (
                f"{of_sets}: {len(mine)} runs, the first of characters {len(head)} to {len(head) + len(run)}"
            )
        return notes


def _without(batch: Batch, spans: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Batch:
    """The texts without these spans."""
    from sparkml.kernels.texts import Texts

    stays = np.ones(len(batch.texts.data), np.bool_)
    for _, start, stop, _ in spans.tolist():
        stays[start:stop] = False
    first, last = int(batch.texts.offsets[0]), int(batch.texts.offsets[-1])
    before = np.concatenate([[0], np.cumsum(stays[first:last])])
    data = batch.texts.data[first:last][stays[first:last]]
    offsets = before[batch.texts.offsets - first].astype(np.int64)
    return batch.of(Texts(data if len(data) else np.zeros(1, np.uint8), offsets))
