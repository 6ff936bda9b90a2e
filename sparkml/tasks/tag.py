"""Tag the words of a text with IOB2 labels, such as named entities: a linear layer on the vector of every word.

A word is answered by its first token. Long texts are read in overlapping windows; a word belongs to the one that reads
most on its nearer side, so that it is learnt, counted and answered once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from sparkml.errors import NotApplicableError
from sparkml.measures.span_counts import span_counts
from sparkml.measures.spans import Tags, spans_of
from sparkml.models.networks import NetworkSpec
from sparkml.models.text_encoder import Window
from sparkml.tasks.draws import Draws
from sparkml.tasks.task import Answer, Batch, Encoded, Loss, Purpose, Reject, Rows, Targets, Task
from sparkml.tasks.texts import IDS, TYPES, Texts, WindowOptions, as_bytes, batch_of, padded, sample_batch
from sparkml.tasks.word_tags import (
    OUTSIDE,
    allowed_in_iob2,
    as_iob2,
    best_path,
    tag_names,
    tags_of,
    tokens_of,
    words_of,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparkml.measures.evaluation import Evaluation
    from sparkml.measures.judged import Judged

# In a sample's `target`: a token without a tag to learn, and the tags of kinds that no training row has.
_NONE, _UNKNOWN = -1, {-2: "B-(not learnt)", -3: "I-(not learnt)"}


class TagOptions(WindowOptions):
    """Settings of `task:` where its name is `tag`."""

    max_windows: int = Field(8, ge=1, description="Windows of a longer text; words beyond them are O")
    overlap: int = Field(
        32, ge=0, description="Tokens that two neighbouring windows share; a quarter of a window at most"
    )
    constrained: bool = Field(
        True,
        description="Answer the most probable sequence that IOB2 allows; false: each word by itself,"
        " as models need whose labels follow another scheme",
    )


class Tag(Task[TagOptions]):
    """One label a word: spans of words, each of a kind."""

    name = "tag"
    summary = "words by label: named entities and other spans, as IOB2 tags"
    reads = ("tokens", "tags")
    target_columns = ("tags",)
    counted_columns = ("tokens", "tags")
    columns = (IDS, TYPES, ("words", pa.binary()), ("target", pa.binary()))
    Options = TagOptions

    def __init__(self, options: TagOptions, targets: Targets, inputs: Any) -> None:
        super().__init__(options, targets, inputs)
        self._texts = Texts(inputs, options)
        self._tags = tag_names(targets.labels)
        self._index = {tag: number for number, tag in enumerate(self._tags)}
        self._allowed = allowed_in_iob2(self._tags) if options.constrained else None

    @classmethod
    def count(cls, options: TagOptions, examples: pa.RecordBatch) -> Mapping[str, float]:
        """How often each tag stands at a word of the usable rows."""
        rows = [row for row in tags_of(examples, {}) if row is not None]
        return Counter(tag for row in rows for tag in row)

    @classmethod
    def fit(cls, options: TagOptions, counts: Mapping[str, Mapping[str, float]]) -> Targets:
        """O, then B- and I- of every kind of the training rows, in alphabetical order."""
        train = counts.get("train", {})
        kinds = {tag[2:] for tag, n in train.items() if tag != OUTSIDE and n > 0}
        if not kinds:
            raise NotApplicableError(
                "there are no tags to learn",
                where="column `tags` of the training rows",
                got="no tag but O" if train else "no row with as many tags as tokens",
                expected="tags such as B-PER, I-PER",
                next_action="name the columns: columns.tokens=COLUMN columns.tags=COLUMN",
            )
        labels = sorted(f"{mark}-{kind}" for mark in "BI" for kind in kinds)
        spans = {kind: int(train.get(f"B-{kind}", 0)) for kind in sorted(kinds)}
        return Targets(labels=(OUTSIDE, *labels), counts=spans)

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """One sample a window; rows without words, or with tags that do not fit them, are left out.

        A held-out span of a kind that is not learnt stays: the model misses it.
        """
        rejects: dict[int, Reject] = {}
        tokens = tokens_of(examples, rejects)
        tags: Sequence[Sequence[str] | None] = [None] * examples.num_rows
        if purpose != "answer":
            tags = tags_of(examples, rejects)
        used = [place for place in range(examples.num_rows) if place not in rejects]
        samples: dict[str, list[Any]] = {
            name: [] for name in ("example", "window", "n_tokens", *dict(self.columns))
        }
        for place, windows in zip(used, self._windows([tokens[place] for place in used]), strict=True):
            codes = self._codes(tags[place])
            for number, (window, words) in enumerate(
                zip(windows, words_of(windows, self._overlap), strict=True)
            ):
                target = None if codes is None else as_bytes([_NONE if w < 0 else codes[w] for w in words])
                own = (as_bytes(window.ids), as_bytes(window.type_ids), as_bytes(words), target)
                for column, value in zip(
                    samples.values(), (place, number, len(window.ids), *own), strict=True
                ):
                    column.append(value)
        return Encoded(sample_batch(samples, self.columns), list(rejects.values()))

    @property
    def _overlap(self) -> int:
        longest: int = min(self.options.max_length, self.inputs.longest)
        return min(self.options.overlap, longest // 4)

    def _windows(self, rows: Sequence[Sequence[str]]) -> list[list[Window]]:
        options, most = self.options, self.options.max_length * self.options.max_windows
        # Hardly a word is without a token: what lies beyond so many words would not be read.
        return self._texts.encoder.encode_words(
            [row[:most] for row in rows],
            max_length=options.max_length,
            max_windows=options.max_windows,
            overlap=self._overlap,
        )

    def _codes(self, tags: Sequence[str] | None) -> list[int] | None:
        """The number of each tag; below -1 those of kinds that are not learnt."""
        if tags is None:
            return None
        return [self._index.get(tag, -2 if tag.startswith("B") else -3) for tag in tags]

    def network(self) -> NetworkSpec:
        """transformers' token classifier."""
        return NetworkSpec("AutoModelForTokenClassification", self.targets.labels)

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """Padded ids; `words` and `target` int64 [rows, longest], -1: none."""
        tensors, tokens = self._texts.tensors(rows)
        targets = {
            name: padded([np.frombuffer(row, np.int32) for row in rows[name]], _NONE)[0]
            for name in ("words", "target")
            if name in rows
        }
        return batch_of(tensors, targets, len(rows["input_ids"]), tokens)

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy, summed over the words with a tag that is learnt."""
        return self._loss(network(**batch.inputs).logits.float(), batch.targets["target"])

    def _loss(self, logits: Tensor, target: Tensor) -> Loss:
        from torch.nn import functional as F

        known = target >= 0
        return Loss(F.cross_entropy(logits[known], target[known], reduction="sum"), float(known.sum()))

    def answering(self, batch: Batch) -> Tensor:
        """At the first token of each word that a window answers."""
        return batch.targets["words"] >= 0

    @property
    def n_sums(self) -> int:
        """Seven numbers."""
        return 7

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """Loss and its words; words that are right, words; spans that are right, predicted and gold."""
        import torch

        logits, target = network(**batch.inputs).logits.float(), batch.targets["target"]
        loss = self._loss(logits, target)
        names = {**dict(enumerate(self._tags)), **_UNKNOWN}
        gold: list[list[str]] = []
        guessed: list[list[str]] = []
        for row, numbers in zip(logits.softmax(dim=2).cpu().numpy(), target.cpu().numpy(), strict=True):
            tagged = numbers != _NONE
            gold.append([names[number] for number in numbers[tagged].tolist()])
            guessed.append([self._tags[number] for number in self._path(row[tagged]).tolist()])
        right = sum(a == b for rows in zip(gold, guessed, strict=True) for a, b in zip(*rows, strict=True))
        counts = span_counts(gold, guessed).counts
        figures = [
            right,
            sum(map(len, gold)),
            *(n.sum() for n in (counts.hits, counts.predicted, counts.gold)),
        ]
        return torch.tensor([float(loss.total), loss.units, *map(float, figures)], dtype=torch.float64).to(
            logits.device
        )

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """Loss, F1 of whole spans of all kinds together (within windows), and the share of right tags."""
        loss, units, right, words, hits, predicted, gold = sums.tolist()
        return {
            "loss": loss / max(units, 1.0),
            "span_f1": 2 * hits / max(predicted + gold, 1.0),
            "token_accuracy": right / max(words, 1.0),
        }

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """For each word that a window answers its number and probabilities, float32 [words, 1 + labels]."""
        probabilities = network(**batch.inputs).logits.float().softmax(dim=2).cpu().numpy()
        words = batch.targets["words"].cpu().numpy()
        return [
            np.column_stack([numbers[numbers >= 0], row[numbers >= 0]]).astype(np.float32)
            for numbers, row in zip(words, probabilities, strict=True)
        ]

    def combine(self, windows: Rows, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The words of all windows: each is answered by one."""
        return np.concatenate([self._table(output) for output in outputs])

    def _table(self, output: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return output.reshape(-1, 1 + len(self._tags))

    def _path(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return best_path(probabilities, self._allowed)

    def _answered(
        self, output: npt.NDArray[Any], n_words: int | None
    ) -> tuple[list[str], npt.NDArray[np.float64]]:
        """The tag of each word, and its probability; O and NaN where no token was read."""
        table = self._table(output)
        words = table[:, 0].astype(np.int64)
        n = n_words if n_words is not None else int(words.max(initial=-1)) + 1
        probabilities = np.zeros((n, len(self._tags)))
        probabilities[:, self._index.get(OUTSIDE, 0)] = 1.0
        probabilities[words] = table[:, 1:]
        path = self._path(probabilities)
        unread = np.ones(n, bool)
        unread[words] = False
        tags = [OUTSIDE if unread[word] else self._tags[number] for word, number in enumerate(path.tolist())]
        return tags, np.where(unread, np.nan, probabilities[np.arange(n), path])

    def answer(self, example: Mapping[str, Any], output: npt.NDArray[Any]) -> Answer:
        """The tags, joined by blanks, and the spans with their characters in the tokens joined by blanks.

        A span's score is the mean probability of its tags; the row's is the lowest of all its tags.
        """
        if not np.isfinite(output).all():
            return Answer(error="the model's scores are not finite")
        tokens: Sequence[str] | None = example.get("tokens")
        tags, sure = self._answered(output, None if tokens is None else len(tokens))
        spans: list[dict[str, Any]] | None = None
        if tokens is not None:
            lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
            ends = np.cumsum(lengths + 1) - 1
            spans = [
                {
                    "start": int(ends[span.start] - lengths[span.start]),
                    "end": int(ends[span.end - 1]),
                    "label": span.label,
                    "score": float(sure[span.start : span.end].mean()),
                }
                for span in spans_of(tags)
            ]
        return Answer(" ".join(as_iob2([tags])[0]), _lowest(sure), spans=spans)

    def judged(self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]]) -> Judged:
        """F1 of whole spans."""
        from sparkml.measures.judged import f1_of_spans
        from sparkml.measures.span_counts import SpanRows, match_spans

        gold = as_iob2(examples.column("tags").to_pylist())
        tags = [self._answered(output, len(row))[0] for output, row in zip(outputs, gold, strict=True)]
        rows = SpanRows(match_spans(gold, as_iob2(tags)))
        counts = rows[0 : len(rows)].reshape(len(rows), 3, -1).sum(axis=2)
        return f1_of_spans(counts.astype(np.float64), np.array([" ".join(row) for row in tags], object))

    def evaluate(
        self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]], seed: int
    ) -> Evaluation | None:
        """Precision, recall and F1 of whole spans, by kind and slice; kinds that were never learnt are missed."""
        gold = as_iob2(examples.column("tags").to_pylist())
        found = [self._answered(output, len(row)) for output, row in zip(outputs, gold, strict=True)]
        sure = np.array([_lowest(sure) or 0.0 for _, sure in found])
        return _evaluation(examples, gold, as_iob2([tags for tags, _ in found]), seed, sure)

    def baseline(self, train: pa.Table, held_out: pa.Table, seed: int) -> Evaluation | None:
        """Each word's most frequent tag of the training rows; O for other words."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for batch in train.to_batches():
            for tokens, tags in zip(batch.column("tokens").to_pylist(), tags_of(batch, {}), strict=True):
                for token, tag in zip(tokens, tags, strict=True) if tags is not None else ():
                    counts[token][tag] += 1
        usual = {token: min(tags, key=lambda tag: (-tags[tag], tag)) for token, tags in counts.items()}
        guessed = [
            [usual.get(token, OUTSIDE) for token in row] for row in held_out.column("tokens").to_pylist()
        ]
        gold = as_iob2(held_out.column("tags").to_pylist())
        return _evaluation(held_out, gold, guessed, seed)


def _lowest(sure: npt.NDArray[np.float64]) -> float | None:
    read = sure[~np.isnan(sure)]
    return float(read.min()) if len(read) else None


def _evaluation(
    examples: pa.Table,
    gold: Tags,
    guessed: Tags,
    seed: int,
    confidences: npt.NDArray[np.float64] | None = None,
) -> Evaluation:
    from sparkml.measures.slices import length_buckets
    from sparkml.measures.tag_evaluation import evaluate_tags
    from sparkml.tasks.evaluating import settings_of, slices_of

    slices = {
        **slices_of(examples),
        "n_words": length_buckets(np.fromiter(map(len, gold), np.int64, len(gold))),
    }
    ids = examples.column("doc_id").to_pylist()
    return evaluate_tags(
        gold, guessed, ids, confidences=confidences, slices=slices, settings=settings_of(seed)
    )


TASK = Tag
