"""C4's line filter (Raffel et al. 2020, section 2.2), and the paragraphs of mC4 (Xue et al. 2021, section 3.1)."""

from __future__ import annotations

from pydantic import Field

from sparkml.kernels.rules import Rule, Signals
from sparkml.kernels.signals import C4_SIGNALS, MC4_SIGNALS
from sparkml.stages.clean.rules.rule_set import Batch, Count, RuleSet


class C4(RuleSet):
    """Lines that are no sentences go; so do documents with few sentences left, with code, with dummy text."""

    signals = C4_SIGNALS
    limits = frozenset(("min_sentences",))

    lines_end_in_punctuation: bool = Field(
        True, description="Drop lines that do not end in . ? ! or a quote; FineWeb keeps them"
    )
    min_line_words: Count = Field(3, description="Drop lines of fewer words, by white space")
    max_line_word_chars: Count = Field(1000, description="Drop lines with a longer word")
    drop_javascript_lines: bool = Field(True, description="Drop lines that name JavaScript")
    drop_policy_lines: bool = Field(True, description="Drop lines about cookies, privacy and terms of use")
    drop_lorem_ipsum: bool = Field(True, description="Drop documents with `lorem ipsum`")
    drop_curly_bracket: bool = Field(True, description="Drop documents with `{`")
    min_sentences: Count = Field(5, description="Sentences in the lines that stay, at least")

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """What drops a document; its lines that stay."""
        from sparkml.kernels import c4

        watched = {
            c4.LOREM_IPSUM: self.drop_lorem_ipsum,
            c4.CURLY_BRACKET: self.drop_curly_bracket,
            c4.JAVASCRIPT: self.drop_javascript_lines,
            c4.POLICY: self.drop_policy_lines,
        }
        texts, dropped = c4.keep_lines(
            batch.texts,
            terminal=self.lines_end_in_punctuation,
            min_words=self.min_line_words or 0,
            max_word_chars=self.max_line_word_chars or int(batch.texts.offsets[-1]),
            watched=sum(what for what, is_watched in watched.items() if is_watched),
        )
        left = batch.of(texts)
        signals = {
            "lorem_ipsum": (dropped == c4.LOREM_IPSUM).astype(float),
            "curly_bracket": (dropped == c4.CURLY_BRACKET).astype(float),
            "sentences": c4.count_sentences(texts, left.words),
        }
        return signals, left

    def rules(self) -> tuple[Rule, ...]:
        """In the order in which the filter comes upon them."""
        return (
            Rule("lorem_ipsum", "lorem_ipsum", most=0),
            Rule("curly_bracket", "curly_bracket", most=0),
            Rule("too_few_sentences", "sentences", least=self.min_sentences),
        )


class MC4(RuleSet):
    """Pages without some long lines."""

    signals = MC4_SIGNALS
    limits = frozenset(("min_paragraphs",))

    min_paragraphs: Count = Field(3, description="Long lines, at least")
    paragraph_chars: int = Field(200, ge=0, description="The least characters of a long line")

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """How many long lines there are."""
        from sparkml.kernels.c4 import count_paragraphs

        return {"paragraphs": count_paragraphs(batch.texts, self.paragraph_chars)}, batch

    def rules(self) -> tuple[Rule, ...]:
        """The one."""
        return (Rule("too_few_paragraphs", "paragraphs", least=self.min_paragraphs),)
