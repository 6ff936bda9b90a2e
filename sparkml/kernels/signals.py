"""Names of the measured signals: what the columns of the kernels mean. Kept apart for code that needs no kernel."""

from __future__ import annotations

QUALITY_SIGNALS = (
    "n_words",  # words that are not wholly punctuation
    "mean_word_length",  # code points of those words
    "hash_ratio",  # `#` per word
    "ellipsis_ratio",  # `...` and `…` per word
    "bullet_lines",  # fraction of lines that begin with a bullet or a hyphen
    "ellipsis_lines",  # fraction of lines that end with an ellipsis
    "alpha_words",  # fraction of words with a letter
    "stop_words",  # distinct stop words
)
C4_SIGNALS = (
    "lorem_ipsum",  # 1: a line that could stay has `lorem ipsum`
    "curly_bracket",  # 1: a line that could stay has `{`
    "sentences",  # in the lines that stay
)
MC4_SIGNALS = ("paragraphs",)  # long lines
FINEWEB_SIGNALS = (
    "lines",  # lines with anything visible; all of the following are of these
    "line_punct_ratio",  # fraction that end in a terminal mark
    "short_line_ratio",  # fraction of short ones
    "char_dup_ratio",  # characters in repeated ones, of all characters but line feeds
    "list_ratio",  # line feeds per word
)
MOST_STOP_WORDS = 62  # the kernel keeps one bit for each

TOP_GRAMS = (2, 3, 4)
REPEATED_GRAMS = (5, 6, 7, 8, 9, 10)
REPETITION_SIGNALS = (
    "dup_paragraphs",  # repeated paragraphs, of all paragraphs
    "dup_paragraph_chars",  # characters in them, of all characters
    "dup_lines",
    "dup_line_chars",
    *(f"top_{n}_gram" for n in TOP_GRAMS),  # characters in the most frequent run of n words
    *(f"dup_{n}_grams" for n in REPEATED_GRAMS),  # characters in runs of n words that repeat an earlier one
)
