"""Gopher's rules about quality (Rae et al. 2021, appendix A.1.1)."""

from __future__ import annotations

from pydantic import Field

from sparkml.kernels.rules import Rule, Signals
from sparkml.kernels.signals import MOST_STOP_WORDS, QUALITY_SIGNALS
from sparkml.stages.clean.rules.rule_set import Batch, Count, Fraction, Ratio, RuleSet

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class GopherQuality(RuleSet):
    """Text that is not running text: too short or long, lists, symbols, no letters, no stop words."""

    signals = QUALITY_SIGNALS

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

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Counts and shares of words, symbols and lines."""
        from sparkml.kernels.quality import measure_quality

        return measure_quality(batch.texts, batch.words, self.stop_words), batch

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
