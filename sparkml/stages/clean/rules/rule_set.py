"""What rule sets have in common: they measure a batch of documents, may change their texts, and say what drops one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from sparkml.kernels.rules import Rule, Signals

if TYPE_CHECKING:
    import pyarrow as pa

    from sparkml.kernels.texts import Texts
    from sparkml.kernels.words import Memory, Words

# Columns that rule sets may change besides the text.
CHANGEABLE = ("title", "url", "text_b", "meta")
# And that they see, where the source or a set before has them.
SEEN = (*CHANGEABLE, "lang")

# Limits; null turns a rule off.
Fraction = Annotated[float, Field(ge=0.0, le=1.0)] | None
Ratio = Annotated[float, Field(ge=0.0)] | None
Count = Annotated[int, Field(ge=1)] | None


@dataclass(frozen=True)
class Batch:
    """Documents as the rule sets before have left them. Of a memory the words of one batch are good at a time."""

    texts: Texts
    memory: Memory
    # Columns of the table besides the text, as they may change or make them.
    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    # Signal -> row -> what a reject for it says beside its value.
    notes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    @cached_property
    def words(self) -> Words:
        """The words of each document, found when they are first needed."""
        from sparkml.kernels.words import (
            find_words,
        )  # numba takes a second to import: in the Python workers alone

        return find_words(self.texts, self.memory)

    def of(self, texts: Texts) -> Batch:
        """The same documents with other texts."""
        return replace(self, texts=texts)


class RuleSet(BaseModel, ABC):
    """A block of the configuration, and what it does. Kernels are imported where they run, in the Python workers.

    To add one: a module here, a kernel that measures (`sparkml/kernels`), the names of its signals
    (`kernels/signals.py`), and a field of `CleanConfig` by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # True: it sees texts as they were read; all others see them normalised, if the configuration says so.
    reads_markup: ClassVar[bool] = False
    # True: it also judges sentences that are given as words, whose number it keeps: see `words_left`.
    judges_words: ClassVar[bool] = False
    # Fields of `signals`: what `measure` measures.
    signals: ClassVar[tuple[str, ...]]
    # Settings that only `rules` looks at: with other ones the signals, and what is left of a text, stay.
    limits: ClassVar[frozenset[str]] = frozenset()

    @property
    def places(self) -> tuple[str, ...]:
        """Files and tables that it looks things up in."""
        return ()

    def prepared(self) -> RuleSet:
        """The same as the workers need it, with what only the driver can look up."""
        return self

    @abstractmethod
    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Each signal by document, and the batch that later rule sets see: the same, or with what is left of each."""

    def words_left(self, words: Sequence[str]) -> list[str]:
        """What is left of a sentence that is given as words; as many."""
        return list(words)

    @abstractmethod
    def rules(self) -> tuple[Rule, ...]:
        """What drops a document, in order."""
