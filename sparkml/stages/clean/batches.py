"""The work on one batch of documents: normalise, find the words, measure, decide. Arrow in, Arrow out; no Spark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sparkml.kernels.normalise import normalise
from sparkml.kernels.rules import Failures, Rule, Signals, first_failures
from sparkml.kernels.texts import as_column, pieces, read_texts
from sparkml.kernels.words import Memory, count_proper_words
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.reasons import EMPTY, NO_LINE_STAYS, NOTHING_VISIBLE, NULL_TEXT, TOO_LARGE
from sparkml.stages.clean.rules.rule_set import SEEN, Batch, RuleSet

# The words of a piece take six times its size: they should stay in the processor's cache.
_PIECE_BYTES = 1 << 20


def clean_batches(
    config: CleanConfig, passed: tuple[str, ...], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Each document with what was measured and the rule that it fails; rejected text is left out.

    The columns `passed` go through as they are, but for those that `decide` gives.
    """
    memory = Memory()
    for batch in batches:
        for start, stop in pieces(batch.column("text"), _PIECE_BYTES):
            rows = batch.slice(start, stop - start)
            columns = {name: rows.column(name) for name in passed}
            if config.normalise:
                columns["text_b"] = normalise(columns["text_b"])
            kinds = of_rows(rows)
            decided = columns | decide(rows.column("text"), config, memory, kinds, columns)
            whole = pa.RecordBatch.from_pydict(decided)
            yield _with_words(whole, rows, kinds.tokens, columns, config, memory)


def _with_words(
    decided: pa.RecordBatch,
    rows: pa.RecordBatch,
    which: NDArray[np.bool_],
    given: Mapping[str, pa.Array],
    config: CleanConfig,
    memory: Memory,
) -> pa.RecordBatch:
    """The same, where the rows `which` are words: judged, and changed, by the rule sets that are for these."""
    config = config.for_words()
    if not config.rules or not which.any():
        return decided
    mask = pa.array(which)
    mine = {name: column.filter(mask) for name, column in given.items()}
    found = mine | decide(rows.column("text").filter(mask), config, memory, given=mine)
    words = before = found["tokens"].to_pylist()
    for one in config.rule_sets:
        words = [one.words_left(sentence) for sentence in words]
    stays = found["drop_reason"].is_null()
    # A text that differs from its words in blanks stays as it is, where they do.
    texts = [
        text if left == given else " ".join(left)
        for text, left, given in zip(found["text"].to_pylist(), words, before, strict=True)
    ]
    joined = pa.array(texts, found["text"].type)
    found |= {
        "tokens": pa.array(words, decided.schema.field("tokens").type),
        "text": pc.if_else(stays, joined, pa.scalar(None, joined.type)),
    }
    signals = decided.schema.field("signals").type
    measured = found["signals"]
    names = {field.name for field in measured.type}
    found["signals"] = pa.StructArray.from_arrays(
        [
            measured.field(one.name) if one.name in names else pa.nulls(len(joined), one.type)
            for one in signals
        ],
        fields=list(signals),
    )
    both = pa.concat_tables(
        [
            pa.Table.from_batches([decided]),
            pa.table({name: found[name] for name in decided.schema.names}, decided.schema),
        ]
    )
    places = np.arange(len(which))
    places[which] = len(which) + np.arange(int(which.sum()))
    return both.take(pa.array(places)).combine_chunks().to_batches()[0]


@dataclass(frozen=True)
class Kinds:
    """Which rows are not running text: media without a text, and tokens, whose text is theirs."""

    media: NDArray[np.bool_]
    tokens: NDArray[np.bool_]


def of_rows(rows: pa.RecordBatch) -> Kinds:
    """The kinds of the rows of a batch."""
    has = {name: _is_valid(rows.column(name)) for name in ("text", "tokens", "media")}
    return Kinds(has["media"] & ~has["text"], has["tokens"] & has["text"])


def decide(
    original: pa.Array,
    config: CleanConfig,
    memory: Memory,
    kinds: Kinds | None = None,
    given: Mapping[str, pa.Array] = MappingProxyType({}),
) -> dict[str, pa.Array]:
    """Normalised text and signals of documents; reason, value, threshold and detail of those that fail a rule.

    `given`: the other columns; those that rule sets change or make are in the answer too.

    The rules are for running text: media and tokens pass as they are, without signals.
    """
    none = np.zeros(len(original), np.bool_)
    kinds = kinds or Kinds(none, none)
    as_given = kinds.media | kinds.tokens
    sizes = np.diff(read_texts(original).offsets)
    too_large = sizes > config.max_text_bytes
    read = pc.if_else(pa.array(too_large), pa.scalar("", original.type), original)
    work = Batch(read_texts(read), memory, {name: given[name] for name in SEEN if name in given})
    signals: dict[str, NDArray[np.float64]] = {}
    rules: list[Rule] = []
    work = _applied([one for one in config.rule_sets if one.reads_markup], work, signals, rules)
    n_markup_rules = len(rules)
    text = as_column(work.texts, read.type) if rules else read
    text = pc.if_else(pa.array(as_given), read, normalise(text) if config.normalise else text)
    texts = read_texts(text)
    work = work.of(texts)
    signals["n_words"] = count_proper_words(work.words)
    work = _applied([one for one in config.rule_sets if not one.reads_markup], work, signals, rules)
    failed = _judged(first_failures(signals, rules, len(text)), as_given)
    reasons, details = _named(failed, rules, work.notes)
    left = (
        text
        if work.texts is texts
        else pc.if_else(pa.array(as_given), text, as_column(work.texts, text.type))
    )
    is_left = np.diff(read_texts(left).offsets) > 0
    nothing = np.full(len(text), np.nan)
    for rows, reason, value, threshold, detail in (
        (
            # A page without a main text has failed the rule that says so.
            (np.diff(texts.offsets) == 0) & ~kinds.media & ~np.isin(failed.rule, range(n_markup_rules)),
            EMPTY,
            np.zeros(len(text)),
            0.0,
            NOTHING_VISIBLE,
        ),
        (
            ~is_left & (np.diff(texts.offsets) > 0) & (failed.rule < 0),
            EMPTY,
            np.zeros(len(text)),
            0.0,
            NO_LINE_STAYS,
        ),
        (too_large, TOO_LARGE, sizes, config.max_text_bytes, f"text_bytes > {config.max_text_bytes}"),
        (~_is_valid(original) & ~kinds.media, NULL_TEXT, nothing, np.nan, "no text"),
    ):
        reasons[rows], details[rows] = reason, detail
        failed.value[rows], failed.threshold[rows] = value[rows], threshold
    reason = pa.array(reasons, pa.string())
    judged = pa.array(~as_given)
    return {
        **{
            name: pc.if_else(judged, column, given.get(name, pa.nulls(len(text), column.type)))
            for name, column in work.columns.items()
        },
        "text": pc.if_else(reason.is_null(), left, pa.scalar(None, text.type)),
        "text_bytes": pa.array(sizes),
        "n_words": pa.array(count_proper_words(work.words).astype(np.int32)),
        "signals": _struct(signals, config, as_given),
        "drop_reason": reason,
        "value": pa.array(failed.value, from_pandas=True),
        "threshold": pa.array(failed.threshold, from_pandas=True),
        "detail": pa.array(details, pa.string()),
    }


def _applied(
    sets: Sequence[RuleSet], work: Batch, signals: dict[str, NDArray[np.float64]], rules: list[Rule]
) -> Batch:
    """What rule sets leave of a batch; what they measure, and their rules, are added."""
    for one in sets:
        measured, work = one.measure(work)
        signals |= measured
        rules += one.rules()
    return work


def _named(
    failed: Failures, rules: list[Rule], notes: Mapping[str, Mapping[int, str]]
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Name of the failed rule, and in words what was compared, or what the rule set has noted."""
    reasons = np.full(len(failed.rule), None, object)
    details = reasons.copy()
    for index in np.unique(failed.rule[failed.rule >= 0]):
        rule = rules[index]
        for limit, sign in ((rule.least, "<"), (rule.most, ">")):
            rows = (failed.rule == index) & (failed.threshold == limit)
            reasons[rows], details[rows] = rule.reason, f"{rule.signal} {sign} {limit}"
        for row, note in notes.get(rule.signal, {}).items():
            if failed.rule[row] == index:
                details[row] = note
    return reasons, details


def _judged(failed: Failures, as_given: NDArray[np.bool_]) -> Failures:
    """The failures, but for rows that no rule judges."""
    return Failures(
        np.where(as_given, -1, failed.rule),
        np.where(as_given, np.nan, failed.value),
        np.where(as_given, np.nan, failed.threshold),
    )


def _struct(signals: Signals, config: CleanConfig, as_given: NDArray[np.bool_]) -> pa.StructArray:
    names = config.signal_names
    # Not a number: not measured, as the main text of what is no page.
    values = [pa.array(signals[name], mask=as_given | np.isnan(signals[name])) for name in names]
    return pa.StructArray.from_arrays(values, names)


def _is_valid(column: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return found
