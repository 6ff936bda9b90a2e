"""FineWeb's own rules (Penedo et al. 2024, section 3.6)."""

from __future__ import annotations

from pydantic import Field

from sparkml.kernels.rules import Rule, Signals
from sparkml.kernels.signals import FINEWEB_SIGNALS
from sparkml.stages.clean.rules.rule_set import Batch, Fraction, Ratio, RuleSet


class FineWeb(RuleSet):
    """Pages of lists, menus and repeated lines."""

    signals = FINEWEB_SIGNALS
    limits = frozenset(
        ("min_line_punct_ratio", "max_short_line_ratio", "max_char_dup_ratio", "max_list_ratio")
    )

    min_line_punct_ratio: Fraction = Field(0.12, description="Lines that end in a terminal mark, at least")
    max_short_line_ratio: Fraction = Field(0.67, description="Short lines, of all")
    short_line_chars: int = Field(30, ge=0, description="The most characters of a short line")
    max_char_dup_ratio: Fraction = Field(0.01, description="Characters in repeated lines")
    max_list_ratio: Ratio = Field(0.3, description="Line feeds per word")

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Shares of lines and characters."""
        from sparkml.kernels.fineweb import measure_fineweb

        return measure_fineweb(batch.texts, batch.words, self.short_line_chars, batch.memory), batch

    def rules(self) -> tuple[Rule, ...]:
        """In the published order."""
        return (
            Rule("empty", "lines", least=1),
            Rule("line_punct_ratio", "line_punct_ratio", least=self.min_line_punct_ratio),
            Rule("short_line_ratio", "short_line_ratio", most=self.max_short_line_ratio),
            Rule("char_dup_ratio", "char_dup_ratio", most=self.max_char_dup_ratio),
            Rule("list_ratio", "list_ratio", most=self.max_list_ratio),
        )
