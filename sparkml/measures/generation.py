"""Figures of generated text: exact match and token F1 here; chrF, BLEU and ROUGE by their reference implementations.

sacrebleu and rouge-score are imported when they are asked for.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sparkml.errors import MissingToolError
from sparkml.measures.arrays import check_lengths

References = Sequence[Sequence[str]]  # for every row at least one right answer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ROUGE = ("rouge1", "rouge2", "rougeL")


def normalise_answer(text: str) -> str:
    """Lower case without ASCII punctuation, English articles and spare white space, as in SQuAD (Rajpurkar 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(outputs: Sequence[str], references: References) -> list[float]:
    """1 for every row whose normalised output is one of its normalised references, else 0."""
    return _best(outputs, references, lambda output, gold: float(output == gold))


def token_f1(outputs: Sequence[str], references: References) -> list[float]:
    """F1 of the normalised tokens that output and reference share, the best of a row's references; SQuAD's measure."""
    return _best(outputs, references, _shared_f1)


def chrf(outputs: Sequence[str], references: References) -> float:
    """Corpus chrF, 0 to 100 (Popović 2015), by sacrebleu's defaults. MissingToolError without the package."""
    check_lengths(outputs=len(outputs), references=len(references))
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as missing:
        raise _missing("chrF", "sacrebleu") from missing
    return float(CHRF().corpus_score(list(outputs), _streams(references)).score) if outputs else 0.0


def bleu(outputs: Sequence[str], references: References) -> float:
    """Corpus BLEU, 0 to 100 (Papineni et al. 2002; Post 2018), by sacrebleu's defaults."""
    check_lengths(outputs=len(outputs), references=len(references))
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as missing:
        raise _missing("BLEU", "sacrebleu") from missing
    return float(BLEU().corpus_score(list(outputs), _streams(references)).score) if outputs else 0.0


def rouge(outputs: Sequence[str], references: References, *, stem: bool = True) -> dict[str, float]:
    """Mean F-measures ROUGE-1, 2 and L, 0 to 1 (Lin 2004), a row's best reference; stemming is for English."""
    check_lengths(outputs=len(outputs), references=len(references))
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as missing:
        raise _missing("ROUGE", "rouge-score") from missing
    scorer = RougeScorer(_ROUGE, use_stemmer=stem)
    rows = [scorer.score_multi(gold, output) for output, gold in zip(outputs, references, strict=True)]
    return {name: sum(row[name].fmeasure for row in rows) / max(len(rows), 1) for name in _ROUGE}


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


def _streams(references: References) -> list[list[Any]]:
    """References by their place in a row, as sacrebleu takes them; None where a row has fewer."""
    most = max((len(row) for row in references), default=0)
    return [[row[place] if place < len(row) else None for row in references] for place in range(most)]


def _missing(measure: str, package: str) -> MissingToolError:
    return MissingToolError(
        f"{measure} needs the package {package}",
        got="it is not installed",
        expected=f"{package} in this Python environment",
        next_action=f"pip install {package}",
    )
