"""The rule sets: the signals that each measures, and the rules over them in their published order.

A rule set is one `RuleSet` below. To add one: a kernel that measures its signals (`sparkml/kernels`), their names in
`kernels/signals.py`, its limits in `CleanConfig`, its name in `config.RULE_SETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparkml.kernels.rules import Rule, Signals
from sparkml.kernels.signals import (
    C4_SIGNALS,
    FINEWEB_SIGNALS,
    MC4_SIGNALS,
    QUALITY_SIGNALS,
    REPETITION_SIGNALS,
)
from sparkml.stages.clean.config import CleanConfig

if TYPE_CHECKING:
    from sparkml.kernels.texts import Texts
    from sparkml.kernels.words import Memory, Words

EMPTY, NULL_TEXT, TOO_LARGE, DROP_WHEN = "empty", "null_text", "too_large", "drop_when"


@dataclass(frozen=True)
class Batch:
    """Documents with their words: what every rule set measures."""

    texts: Texts
    words: Words
    memory: Memory


@dataclass(frozen=True)
class RuleSet:
    """What is measured, how, and which limits drop a document.

    `measure` also gives the batch that later rule sets see: the same, or with what it leaves of each document.
    """

    signals: tuple[str, ...]
    measure: Callable[[Batch, CleanConfig], tuple[Signals, Batch]]
    rules: Callable[[CleanConfig], tuple[Rule, ...]]


def rule_sets(config: CleanConfig) -> tuple[RuleSet, ...]:
    """The configured rule sets, in order."""
    return tuple(_RULE_SETS[name] for name in config.rules)


def signal_names(config: CleanConfig) -> tuple[str, ...]:
    """Fields of `signals`: the number of words, then what the configured rule sets measure."""
    return tuple(dict.fromkeys(("n_words", *(name for one in rule_sets(config) for name in one.signals))))


# Kernels are imported where they run, in the Python workers: numba takes a second to import.
def _measure_repetition(batch: Batch, _: CleanConfig) -> tuple[Signals, Batch]:
    from sparkml.kernels.repetition import measure_repetition

    return measure_repetition(batch.texts, batch.words, batch.memory), batch


def _measure_quality(batch: Batch, config: CleanConfig) -> tuple[Signals, Batch]:
    from sparkml.kernels.quality import measure_quality

    return measure_quality(batch.texts, batch.words, config.stop_words), batch


def _keep_lines(batch: Batch, config: CleanConfig) -> tuple[Signals, Batch]:
    from sparkml.kernels import c4
    from sparkml.kernels.words import find_words

    watched = {
        c4.LOREM_IPSUM: config.drop_lorem_ipsum,
        c4.CURLY_BRACKET: config.drop_curly_bracket,
        c4.JAVASCRIPT: config.drop_javascript_lines,
        c4.POLICY: config.drop_policy_lines,
    }
    texts, dropped = c4.keep_lines(
        batch.texts,
        terminal=config.lines_end_in_punctuation,
        min_words=config.min_line_words or 0,
        max_word_chars=config.max_line_word_chars or int(batch.texts.offsets[-1]),
        watched=sum(what for what, is_watched in watched.items() if is_watched),
    )
    left = Batch(texts, find_words(texts, batch.memory), batch.memory)
    signals = {
        "lorem_ipsum": (dropped == c4.LOREM_IPSUM).astype(float),
        "curly_bracket": (dropped == c4.CURLY_BRACKET).astype(float),
        "sentences": c4.count_sentences(texts, left.words),
    }
    return signals, left


def _count_paragraphs(batch: Batch, config: CleanConfig) -> tuple[Signals, Batch]:
    from sparkml.kernels.c4 import count_paragraphs

    return {"paragraphs": count_paragraphs(batch.texts, config.paragraph_chars)}, batch


def _measure_fineweb(batch: Batch, config: CleanConfig) -> tuple[Signals, Batch]:
    from sparkml.kernels.fineweb import measure_fineweb

    return measure_fineweb(batch.texts, batch.words, config.short_line_chars, batch.memory), batch


def _repetition_rules(config: CleanConfig) -> tuple[Rule, ...]:
    limits = {
        "dup_paragraphs": config.max_dup_paragraph_fraction,
        "dup_paragraph_chars": config.max_dup_paragraph_char_fraction,
        "dup_lines": config.max_dup_line_fraction,
        "dup_line_chars": config.max_dup_line_char_fraction,
        "top_2_gram": config.max_top_2_gram_fraction,
        "top_3_gram": config.max_top_3_gram_fraction,
        "top_4_gram": config.max_top_4_gram_fraction,
        "dup_5_grams": config.max_dup_5_gram_fraction,
        "dup_6_grams": config.max_dup_6_gram_fraction,
        "dup_7_grams": config.max_dup_7_gram_fraction,
        "dup_8_grams": config.max_dup_8_gram_fraction,
        "dup_9_grams": config.max_dup_9_gram_fraction,
        "dup_10_grams": config.max_dup_10_gram_fraction,
    }
    return tuple(Rule(name, name, most=limits[name]) for name in REPETITION_SIGNALS)


def _quality_rules(config: CleanConfig) -> tuple[Rule, ...]:
    return (
        Rule("gopher_short_doc", "n_words", least=config.min_words),
        Rule("gopher_long_doc", "n_words", most=config.max_words),
        Rule(
            "gopher_mean_word_length",
            "mean_word_length",
            least=config.min_mean_word_length,
            most=config.max_mean_word_length,
        ),
        Rule("gopher_symbol_ratio_hash", "hash_ratio", most=config.max_hash_ratio),
        Rule("gopher_symbol_ratio_ellipsis", "ellipsis_ratio", most=config.max_ellipsis_ratio),
        Rule("gopher_bullet_lines", "bullet_lines", most=config.max_bullet_line_fraction),
        Rule("gopher_ellipsis_lines", "ellipsis_lines", most=config.max_ellipsis_line_fraction),
        Rule("gopher_alpha_words", "alpha_words", least=config.min_alpha_word_fraction),
        Rule("gopher_stop_words", "stop_words", least=config.min_stop_words),
    )


def _line_rules(config: CleanConfig) -> tuple[Rule, ...]:
    return (
        Rule("lorem_ipsum", "lorem_ipsum", most=0),
        Rule("curly_bracket", "curly_bracket", most=0),
        Rule("too_few_sentences", "sentences", least=config.min_sentences),
    )


def _paragraph_rules(config: CleanConfig) -> tuple[Rule, ...]:
    return (Rule("too_few_paragraphs", "paragraphs", least=config.min_paragraphs),)


def _fineweb_rules(config: CleanConfig) -> tuple[Rule, ...]:
    return (
        Rule(EMPTY, "lines", least=1),
        Rule("line_punct_ratio", "line_punct_ratio", least=config.min_line_punct_fraction),
        Rule("short_line_ratio", "short_line_ratio", most=config.max_short_line_fraction),
        Rule("char_dup_ratio", "char_dup_ratio", most=config.max_char_dup_fraction),
        Rule("list_ratio", "list_ratio", most=config.max_list_ratio),
    )


_RULE_SETS = {
    "gopher_repetition": RuleSet(REPETITION_SIGNALS, _measure_repetition, _repetition_rules),
    "gopher_quality": RuleSet(QUALITY_SIGNALS, _measure_quality, _quality_rules),
    "c4": RuleSet(C4_SIGNALS, _keep_lines, _line_rules),
    "mc4": RuleSet(MC4_SIGNALS, _count_paragraphs, _paragraph_rules),
    "fineweb": RuleSet(FINEWEB_SIGNALS, _measure_fineweb, _fineweb_rules),
}
