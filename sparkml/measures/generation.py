"""Figures of generated text: exact match and token F1; chrF, BLEU and ROUGE as sums over rows, so that any rows add up.

Counts of chrF and BLEU come from sacrebleu, which is imported when they are asked for; their figures are parts of 1,
a hundredth of what sacrebleu prints.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparkml.errors import MissingToolError
from sparkml.measures.arrays import F64, check_lengths, ratio

References = Sequence[Sequence[str]]  # for every row at least one right answer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORDS = re.compile(r"[^\W_]+")
ROUGE = ("rouge1", "rouge2", "rougeL")
_CHRF_BETA = 2.0  # recall counts twice as much
_CHRF_ORDERS, _BLEU_ORDERS = 6, 4


def normalise_answer(text: str) -> str:
    """Lower case without ASCII punctuation, English articles and spare white space, as in SQuAD (Rajpurkar 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(outputs: Sequence[str], references: References) -> list[float]:
    """1 for every row whose normalised output is one of its normalised references, else 0."""
    return _best(outputs, references, lambda output, gold: float(output == gold))


def token_f1(outputs: Sequence[str], references: References) -> list[float]:
    """F1 of the normalised tokens that output and reference share, the best of a row's references; SQuAD's measure."""
    return _best(outputs, references, _shared_f1)


def chrf_sums(outputs: Sequence[str], references: References) -> F64:
    """What `chrf_of` needs of each row, [rows, 18]: n-grams of output, reference and both, of 1 to 6 characters.

    By sacrebleu's defaults, with the best of a row's references. MissingToolError without the package.
    """
    check_lengths(outputs=len(outputs), references=len(references))
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as missing:
        raise _missing("chrF", "sacrebleu") from missing
    return _counted(CHRF(), outputs, references, 3 * _CHRF_ORDERS)


def chrf_of(sums: F64) -> F64:
    """Corpus chrF, 0 to 1 (Popović 2015), of sums [..., 18]."""
    said, right, both = (sums[..., place::3] for place in range(3))
    used = (said > 0) & (right > 0)
    n_used = used.sum(axis=-1)
    precision, recall = (ratio((ratio(both, of) * used).sum(axis=-1), n_used) for of in (said, right))
    factor = _CHRF_BETA**2
    return ratio((1 + factor) * precision * recall, factor * precision + recall)


def bleu_sums(outputs: Sequence[str], references: References) -> F64:
    """What `bleu_of` needs of each row, [rows, 10]: words of output and reference, right and all n-grams of 1 to 4.

    By sacrebleu's defaults (13a). MissingToolError without the package.
    """
    check_lengths(outputs=len(outputs), references=len(references))
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as missing:
        raise _missing("BLEU", "sacrebleu") from missing
    return _counted(BLEU(), outputs, references, 2 + 2 * _BLEU_ORDERS)


def bleu_of(sums: F64) -> F64:
    """Corpus BLEU, 0 to 1 (Papineni et al. 2002; Post 2018), of sums [..., 10].

    An order without any right n-gram counts as half a one, the next such as a quarter ("exp" smoothing).
    """
    said, right = sums[..., 0], sums[..., 1]
    hits, every = np.split(sums[..., 2:], 2, axis=-1)
    halvings = np.cumsum(hits == 0, axis=-1)
    precision = ratio(np.where(hits > 0, hits, 0.5**halvings), every)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precision).mean(axis=-1))
    short = np.exp(np.minimum(0.0, 1.0 - ratio(right, said)))  # the brevity penalty
    return np.asarray(np.where(hits.any(axis=-1) & (said > 0), short * mean, 0.0))


def rouge_rows(outputs: Sequence[str], references: References) -> F64:
    """F-measures ROUGE-1, 2 and L of each row, 0 to 1, [rows, 3] (Lin 2004): each of a row's best reference.

    Words are runs of letters and digits of any script, in lower case and as they are (no stemming).
    """
    check_lengths(outputs=len(outputs), references=len(references))
    found = np.zeros((len(outputs), len(ROUGE)))
    for row, (output, right) in enumerate(zip(outputs, references, strict=True)):
        said = _words(output)
        for gold in map(_words, right):
            best = (_ngram_f1(said, gold, 1), _ngram_f1(said, gold, 2), _common_f1(said, gold))
            found[row] = np.maximum(found[row], best)
    return found


def perplexity(loss_sum: float, n_tokens: int) -> float:
    """exp of the mean loss a token, from a sum in nats; infinite above what a float holds, NaN without tokens."""
    if not n_tokens:
        return math.nan
    mean = loss_sum / n_tokens
    return math.exp(mean) if mean < 709 else math.inf


def _best(
    outputs: Sequence[str], references: References, similarity: Callable[[str, str], float]
) -> list[float]:
    check_lengths(outputs=len(outputs), references=len(references))
    found = []
    for output, right in zip(outputs, references, strict=True):
        normal = normalise_answer(output)
        found.append(max((similarity(normal, normalise_answer(gold)) for gold in right), default=0.0))
    return found


def _shared_f1(output: str, gold: str) -> float:
    said, right = output.split(), gold.split()
    if not said or not right:
        return float(said == right)
    shared = sum((Counter(said) & Counter(right)).values())
    return 2 * shared / (len(said) + len(right))


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def _ngram_f1(said: Sequence[str], gold: Sequence[str], n: int) -> float:
    first, second = (
        Counter(zip(*(words[place:] for place in range(n)), strict=False)) for words in (said, gold)
    )
    every = sum(first.values()) + sum(second.values())
    return 2 * sum((first & second).values()) / every if every else 0.0


def _common_f1(said: Sequence[str], gold: Sequence[str]) -> float:
    """Of the longest common subsequence, by a row of its table for every word of the output."""
    if not said or not gold:
        return 0.0
    number = {word: place for place, word in enumerate(dict.fromkeys(gold))}
    right = np.array([number[word] for word in gold])
    longest = np.zeros(len(gold) + 1, np.int64)
    for word in said:
        taken = np.where(right == number.get(word, -1), longest[:-1] + 1, longest[1:])
        longest[1:] = np.maximum.accumulate(np.maximum(taken, longest[1:]))
    return 2 * int(longest[-1]) / (len(said) + len(gold))


def _counted(metric: Any, outputs: Sequence[str], references: References, width: int) -> F64:
    """What sacrebleu counts of every row: the numbers that it adds up itself for its own intervals."""
    if not len(outputs):
        return np.zeros((0, width))
    most = max(map(len, references))
    streams = [[row[place] if place < len(row) else None for row in references] for place in range(most)]
    return np.array(metric._extract_corpus_statistics(list(outputs), streams), np.float64)


def _missing(measure: str, package: str) -> MissingToolError:
    return MissingToolError(
        f"{measure} needs the package {package}",
        got="it is not installed",
        expected=f"{package} in this Python environment",
        next_action=f"pip install {package}",
    )
