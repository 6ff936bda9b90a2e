"""Gopher's rules about repetition (Rae et al. 2021, table A1)."""

from __future__ import annotations

from pydantic import Field

from sparkml.kernels.rules import Rule, Signals
from sparkml.kernels.signals import REPETITION_SIGNALS
from sparkml.stages.clean.rules.rule_set import Batch, Fraction, RuleSet


class GopherRepetition(RuleSet):
    """Text that repeats itself: paragraphs, lines, runs of words."""

    signals = REPETITION_SIGNALS
    limits = frozenset(f"max_{name}" for name in REPETITION_SIGNALS)

    max_dup_paragraphs: Fraction = Field(0.30, description="Repeated paragraphs, of all")
    max_dup_paragraph_chars: Fraction = Field(0.20, description="Characters in repeated paragraphs")
    max_dup_lines: Fraction = Field(0.30, description="Repeated lines, of all")
    max_dup_line_chars: Fraction = Field(0.20, description="Characters in repeated lines")
    max_top_2_gram: Fraction = Field(0.20, description="Characters in the most frequent pair of words")
    max_top_3_gram: Fraction = Field(0.18, description="The same of three words")
    max_top_4_gram: Fraction = Field(0.16, description="The same of four words")
    max_dup_5_grams: Fraction = Field(0.15, description="Characters in repeated runs of 5 words")
    max_dup_6_grams: Fraction = Field(0.14, description="The same of 6 words")
    max_dup_7_grams: Fraction = Field(0.13, description="The same of 7 words")
    max_dup_8_grams: Fraction = Field(0.12, description="The same of 8 words")
    max_dup_9_grams: Fraction = Field(0.11, description="The same of 9 words")
    max_dup_10_grams: Fraction = Field(0.10, description="The same of 10 words")

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Shares of a document's characters and blocks."""
        from sparkml.kernels.repetition import measure_repetition

        return measure_repetition(batch.texts, batch.words, batch.memory), batch

    def rules(self) -> tuple[Rule, ...]:
        """A limit for each signal."""
        return tuple(Rule(name, name, most=getattr(self, f"max_{name}")) for name in REPETITION_SIGNALS)
