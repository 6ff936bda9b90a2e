"""The rule sets: the signals that each measures, and the rules over them in their published order.

A rule set is one `RuleSet` below. To add one: a kernel that measures its signals (`sparkml/kernels`), their names in
`kernels/signals.py`, its limits in `CleanConfig`, its name in `config.RULE_SETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparkml.kernels.rules import Rule, Signals
from sparkml.kernels.signals import QUALITY_SIGNALS, REPETITION_SIGNALS
from sparkml.stages.clean.config import CleanConfig

if TYPE_CHECKING:
    from sparkml.kernels.texts import Texts
    from sparkml.kernels.words import Memory, Words

EMPTY, NULL_TEXT, TOO_LARGE = "empty", "null_text", "too_large"


@dataclass(frozen=True)
class Batch:
    """Documents with their words: what every rule set measures."""

    texts: Texts
    words: Words
    memory: Memory


@dataclass(frozen=True)
class RuleSet:
    """What is measured, how, and which limits drop a document."""

    signals: tuple[str, ...]
    measure: Callable[[Batch, CleanConfig], Signals]
    rules: Callable[[CleanConfig], tuple[Rule, ...]]


def rule_sets(config: CleanConfig) -> tuple[RuleSet, ...]:
    """The configured rule sets, in order."""
    return tuple(_RULE_SETS[name] for name in config.rules)


def signal_names(config: CleanConfig) -> tuple[str, ...]:
    """Fields of `signals`: the number of words, then what the configured rule sets measure."""
    return tuple(dict.fromkeys(("n_words", *(name for one in rule_sets(config) for name in one.signals))))


# Kernels are imported where they run, in the Python workers: numba takes a second to import.
def _measure_repetition(batch: Batch, _: CleanConfig) -> Signals:
    from sparkml.kernels.repetition import measure_repetition

    return measure_repetition(batch.texts, batch.words, batch.memory)


def _measure_quality(batch: Batch, config: CleanConfig) -> Signals:
    from sparkml.kernels.quality import measure_quality

    return measure_quality(batch.texts, batch.words, config.stop_words)


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


_RULE_SETS = {
    "gopher_repetition": RuleSet(REPETITION_SIGNALS, _measure_repetition, _repetition_rules),
    "gopher_quality": RuleSet(QUALITY_SIGNALS, _measure_quality, _quality_rules),
}
