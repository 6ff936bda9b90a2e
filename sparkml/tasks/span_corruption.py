"""Span corruption: T5's pretraining (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4).

Spans of a text are replaced by one sentinel each; an encoder-decoder writes the sentinels with what stood there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sparkml.errors import ConfigError
from sparkml.models.networks import NetworkSpec, decoder_start_of
from sparkml.tasks.draws import Draws, draws_by_content
from sparkml.tasks.language import Int64, Language, LanguageOptions
from sparkml.tasks.task import Batch, Rows
from sparkml.tasks.texts import batch_of, padded

if TYPE_CHECKING:
    from torch import Tensor, nn


class SpanCorruptionOptions(LanguageOptions):
    """Settings of `task:` where its name is `span_corruption`."""

    noise_fraction: float = Field(0.15, gt=0, lt=1, description="Part of the tokens that are taken out")
    mean_span: float = Field(3.0, ge=1, description="Tokens of a span, on average")


class SpanCorruption(Language[SpanCorruptionOptions]):
    """Spans that were taken out of a text."""

    name = "span_corruption"
    summary = "spans taken out of a text, by an encoder-decoder (T5)"
    Options = SpanCorruptionOptions

    def network(self) -> NetworkSpec:
        """transformers' encoder-decoder."""
        if not self.inputs.sentinel_ids:
            raise ConfigError(
                "the tokenizer has no tokens that stand for spans",
                expected="<extra_id_0>, <extra_id_1> and so on, as T5's have",
                next_action="train a tokenizer with some: shard.sentinels=100",
            )
        return NetworkSpec("AutoModelForSeq2SeqLM", settings={"use_cache": False})

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """`input_ids` with sentinels; targets `labels` int64 [rows, time] (-100: none), which the decoder writes."""
        import torch

        given, mask = self.ids_of(rows)
        draws = draws or draws_by_content(given)
        opening = {self.inputs.cls_id, self.inputs.pad_id} - {self.inputs.sep_id}
        sources, targets = [], []
        for row, seen, rng in zip(given, mask, draws, strict=True):
            text = row[(seen > 0) & ~np.isin(row, list(opening))]
            # The end token of the last document is written behind everything.
            text = text[:-1] if len(text) and text[-1] == self.inputs.sep_id else text
            source, target = self._corrupted(text, rng)
            sources.append(source)
            targets.append(target)
        ids, seen = padded(sources, self.inputs.pad_id)
        labels, wanted = padded(targets, 0)
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(seen)}
        labels = np.where(wanted > 0, labels, -100)
        flat = labels.reshape(-1)
        position = np.flatnonzero(flat >= 0)
        answers = {"labels": labels, "position": position, "target": flat[position]}
        return batch_of(tensors, answers, len(ids), int(seen.sum() + wanted.sum()))

    def _corrupted(self, text: Int64, rng: np.random.Generator) -> tuple[Int64, Int64]:
        """A text with sentinels for spans, and the sentinels with the spans; the end token behind both."""
        sentinels, end = self.inputs.sentinel_ids, [self.inputs.sep_id]
        n_noise = int(np.clip(round(len(text) * self.options.noise_fraction), 1, max(len(text) - 1, 1)))
        n_spans = int(np.clip(round(n_noise / self.options.mean_span), 1, len(sentinels)))
        n_spans = min(n_spans, n_noise, len(text) - n_noise)
        if n_spans < 1:  # a text of one token
            return np.array([*text, *end]), np.array(end)
        noise = _partition(n_noise, n_spans, rng)
        kept = _partition(len(text) - n_noise, n_spans, rng)
        source: list[Int64] = []
        target: list[Int64] = []
        place = 0
        for sentinel, before, span in zip(sentinels, kept, noise, strict=False):
            mark = np.array([sentinel])
            source += [text[place : place + before], mark]
            target += [mark, text[place + before : place + before + span]]
            place += before + span
        return np.concatenate([*source, end]), np.concatenate([*target, end])

    def token_losses(self, network: nn.Module, batch: Batch) -> Tensor:
        """See `PredictsTokens`."""
        from torch.nn import functional as F

        # The heads of transformers shift the labels themselves; their own loss is a mean, ours a sum over ranks.
        labels = batch.targets["labels"]
        before = labels.roll(1, dims=1).clamp(min=0)
        before[:, 0] = decoder_start_of(network)
        logits = network(**batch.inputs, decoder_input_ids=before).logits
        chosen = logits.flatten(0, 1)[batch.targets["position"]]
        return F.cross_entropy(chosen.float(), batch.targets["target"], reduction="none")


def _partition(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """`total` items in `parts` runs of one item or more, every way as likely."""
    cuts = (
        np.sort(rng.choice(np.arange(1, total), parts - 1, replace=False)) if parts > 1 else np.array([], int)
    )
    return [int(n) for n in np.diff([0, *cuts.tolist(), total])]


TASK = SpanCorruption
