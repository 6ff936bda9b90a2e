"""What `conf/base/clean.yaml` holds. Every limit may be null, which turns its rule off."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from sparkml.frame.stage import Reads, Shares, StageConfig, Writes
from sparkml.kernels.signals import MOST_STOP_WORDS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)] | None
Ratio = Annotated[float, Field(ge=0.0)] | None
Count = Annotated[int, Field(ge=1)] | None

GOPHER = ("gopher_repetition", "gopher_quality")
RULE_SETS = (*GOPHER, "c4", "mc4", "fineweb")
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class CleanConfig(StageConfig):
    """Which rules run, in which order, and their limits; the defaults are the published constants."""

    source: Reads = Field("bronze", description="Documents as they were read")
    target: Writes = Field("clean", description="Normalised documents that passed every rule")
    rejects: Shares = Field("rejects", description="The others, with the rule that they failed")
    normalise: bool = Field(True, description="Normalise Unicode and white space before the rules")
    rules: tuple[str, ...] = Field(GOPHER, description="Rule sets in order; the first failure is the reason")
    drop_when: str | None = Field(
        None, description="SQL over `text`, `n_words`, `signals` and what else a document has: true drops it"
    )
    max_text_bytes: int = Field(10_000_000, ge=1, description="Larger documents are rejected unmeasured")

    max_dup_paragraph_fraction: Fraction = Field(0.30, description="Repeated paragraphs, of all")
    max_dup_paragraph_char_fraction: Fraction = Field(0.20, description="Characters in repeated paragraphs")
    max_dup_line_fraction: Fraction = Field(0.30, description="Repeated lines, of all")
    max_dup_line_char_fraction: Fraction = Field(0.20, description="Characters in repeated lines")
    max_top_2_gram_fraction: Fraction = Field(
        0.20, description="Characters in the most frequent pair of words"
    )
    max_top_3_gram_fraction: Fraction = Field(0.18, description="The same of three words")
    max_top_4_gram_fraction: Fraction = Field(0.16, description="The same of four words")
    max_dup_5_gram_fraction: Fraction = Field(0.15, description="Characters in repeated runs of 5 words")
    max_dup_6_gram_fraction: Fraction = Field(0.14, description="The same of 6 words")
    max_dup_7_gram_fraction: Fraction = Field(0.13, description="The same of 7 words")
    max_dup_8_gram_fraction: Fraction = Field(0.12, description="The same of 8 words")
    max_dup_9_gram_fraction: Fraction = Field(0.11, description="The same of 9 words")
    max_dup_10_gram_fraction: Fraction = Field(0.10, description="The same of 10 words")

    min_words: Count = Field(50, description="Drop documents of fewer words")
    max_words: Count = Field(100_000, description="Drop documents of more words")
    min_mean_word_length: Ratio = Field(3.0, description="Mean characters of a word, at least")
    max_mean_word_length: Ratio = Field(10.0, description="Mean characters of a word, at most")
    max_hash_ratio: Ratio = Field(0.1, description="`#` per word")
    max_ellipsis_ratio: Ratio = Field(0.1, description="`...` and `…` per word")
    max_bullet_line_fraction: Fraction = Field(0.9, description="Lines that begin with a bullet or hyphen")
    max_ellipsis_line_fraction: Fraction = Field(0.3, description="Lines that end with an ellipsis")
    min_alpha_word_fraction: Fraction = Field(0.8, description="Words with a letter, at least")
    min_stop_words: Count = Field(2, description="Distinct stop words, at least")
    stop_words: tuple[str, ...] = Field(
        STOP_WORDS, max_length=MOST_STOP_WORDS, description="Stop words, in exactly this case"
    )

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

    min_paragraphs: Count = Field(3, description="Long lines, at least")
    paragraph_chars: int = Field(200, ge=0, description="The least characters of a long line")

    min_line_punct_fraction: Fraction = Field(0.12, description="Lines that end in a terminal mark, at least")
    max_short_line_fraction: Fraction = Field(0.67, description="Short lines, of all")
    short_line_chars: int = Field(30, ge=0, description="The most characters of a short line")
    max_char_dup_fraction: Fraction = Field(0.01, description="Characters in repeated lines")
    max_list_ratio: Ratio = Field(0.3, description="Line feeds per word")

    @field_validator("rules")
    @classmethod
    def _rules_are_known(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in rules if name not in RULE_SETS]
        if unknown or len(set(rules)) < len(rules):
            raise ValueError(f"each of {', '.join(RULE_SETS)} at most once; got {', '.join(rules)}")
        return rules
