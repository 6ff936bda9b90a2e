"""Gopher's rules about quality (Rae et al. 2021, appendix A.1.1)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from sparkml.kernels.rules import Rule, Signals
from sparkml.kernels.signals import MOST_STOP_WORDS, QUALITY_SIGNALS
from sparkml.stages.clean.rules.rule_set import Batch, Count, Fraction, Ratio, RuleSet
from sparkml.stages.clean.stop_words import STOP_WORDS_OF, WITHOUT_SPACES

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class GopherQuality(RuleSet):
    """Text that is not running text: too short or long, lists, symbols, no letters, no stop words."""

    signals = QUALITY_SIGNALS
    limits = frozenset(
        (
            *("min_words", "max_words", "min_mean_word_length", "max_mean_word_length", "max_hash_ratio"),
            *("max_ellipsis_ratio", "max_bullet_lines", "max_ellipsis_lines"),
            *("min_alpha_words", "min_stop_words"),
        )
    )

    min_words: Count = Field(50, description="Drop documents of fewer words")
    max_words: Count = Field(100_000, description="Drop documents of more words")
    min_mean_word_length: Ratio = Field(3.0, description="Mean characters of a word, at least")
    max_mean_word_length: Ratio = Field(10.0, description="Mean characters of a word, at most")
    max_hash_ratio: Ratio = Field(0.1, description="`#` per word")
    max_ellipsis_ratio: Ratio = Field(0.1, description="`...` and `…` per word")
    max_bullet_lines: Fraction = Field(0.9, description="Lines that begin with a bullet or hyphen")
    max_ellipsis_lines: Fraction = Field(0.3, description="Lines that end with an ellipsis")
    min_alpha_words: Fraction = Field(0.8, description="Words with a letter, at least")
    min_stop_words: Count = Field(2, description="Distinct stop words, at least")
    stop_words: tuple[str, ...] = Field(
        STOP_WORDS, max_length=MOST_STOP_WORDS, description="Stop words, in exactly this case"
    )

    by_language: bool = Field(
        False,
        description="Stop words of the document's language (`lang`); without spaces a character is a word",
    )

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Counts and shares of words, symbols and lines."""
        from sparkml.kernels.quality import measure_quality

        if not self.by_language:
            return measure_quality(batch.texts, batch.words, (self.stop_words,)), batch
        return self._of_languages(batch), batch

    def _of_languages(self, batch: Batch) -> Signals:
        """What a language has no rule for is not measured (nan), so that no limit drops for it."""
        from sparkml.kernels.overlap import word_hashes
        from sparkml.kernels.quality import measure_quality

        documents = len(batch.texts.offsets) - 1
        column = batch.columns.get("lang")
        langs = np.array([None] * documents if column is None else column.to_pylist(), object)
        lists = {**STOP_WORDS_OF, "en": self.stop_words}
        numbers = {lang: number for number, lang in enumerate(lists)}
        which = np.array([numbers.get(lang, numbers["en"]) for lang in langs], np.int64)
        signals = measure_quality(batch.texts, batch.words, tuple(lists.values()), which)
        unknown = np.array([lang not in numbers for lang in langs], np.bool_)
        spaceless = np.array([lang in WITHOUT_SPACES for lang in langs], np.bool_)
        signals["stop_words"][unknown] = np.nan
        if spaceless.any():
            counts = np.diff(word_hashes(batch.texts)[1])
            signals["n_words"][spaceless] = counts[spaceless]
            for name in ("mean_word_length", "alpha_words", "hash_ratio", "ellipsis_ratio"):
                signals[name][spaceless] = np.nan
        return signals

    def rules(self) -> tuple[Rule, ...]:
        """In the published order."""
        return (
            Rule("gopher_short_doc", "n_words", least=self.min_words),
            Rule("gopher_long_doc", "n_words", most=self.max_words),
            Rule(
                "gopher_mean_word_length",
                "mean_word_length",
                least=self.min_mean_word_length,
                most=self.max_mean_word_length,
            ),
            Rule("gopher_symbol_ratio_hash", "hash_ratio", most=self.max_hash_ratio),
            Rule("gopher_symbol_ratio_ellipsis", "ellipsis_ratio", most=self.max_ellipsis_ratio),
            Rule("gopher_bullet_lines", "bullet_lines", most=self.max_bullet_lines),
            Rule("gopher_ellipsis_lines", "ellipsis_lines", most=self.max_ellipsis_lines),
            Rule("gopher_alpha_words", "alpha_words", least=self.min_alpha_words),
            Rule("gopher_stop_words", "stop_words", least=self.min_stop_words),
        )
