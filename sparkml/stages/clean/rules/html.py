"""The main text of web pages."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import Batch, Count, Fraction, RuleSet


class HTML(RuleSet):
    """Of a text that is markup, what its page is about: without menus, footers, forms, comments and scripts.

    The title goes to `title` where there is none; the date and the language that the page says of itself to `meta`.
    """

    signals = ("main_chars", "main_share", "link_share")
    limits = frozenset(("min_main_chars", "max_link_share"))
    reads_markup: ClassVar[bool] = True

    mode: Literal["fast", "precise"] = Field(
        "fast", description="fast: by resiliparse; precise: by trafilatura, which takes ten times as long"
    )
    min_main_chars: Count = Field(1, description="Characters of the main text, at least")
    max_link_share: Fraction = Field(
        None,
        description="Of the page's visible characters those in links, at most: a list of links has .7 and more",
    )
    max_seconds: float = Field(
        10, gt=0, description="precise: time for a page; beyond that it has no main text"
    )

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Characters of the main text, its share of the markup, that of links; the main texts."""
        from sparkml.stages.clean.pages import main_texts

        texts, columns, signals = main_texts(batch.texts, batch.columns, self.mode, self.max_seconds)
        return signals, replace(batch, texts=texts, columns={**batch.columns, **columns})

    def rules(self) -> tuple[Rule, ...]:
        """Both."""
        return (
            Rule("no_main_text", "main_chars", least=self.min_main_chars),
            Rule("mostly_links", "link_share", most=self.max_link_share),
        )
