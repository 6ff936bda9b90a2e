"""Masked language modelling with next sentence prediction: BERT's own pretraining (Devlin et al. 2019, section 3.1).

A sample gives a pair: a text of it is cut in two behind a sentence; every other second part is taken from another
sample of the step. Pairs are made anew at every step, so that packed samples serve as they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sparkml.errors import ConfigError
from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws, draws_by_content
from sparkml.tasks.language import Int64
from sparkml.tasks.masked_lm import MaskedLM
from sparkml.tasks.task import Batch, Loss, Rows
from sparkml.tasks.texts import batch_of, padded

if TYPE_CHECKING:
    from torch import Tensor, nn

_MOST_NATS = 50.0
_FEWEST_TOKENS = 8  # a shorter text has no two parts


class NextSentence(MaskedLM):
    """Hidden tokens, and whether the second part follows on the first."""

    name = "next_sentence"
    summary = "hidden tokens, and whether a part of a text follows another (BERT's pretraining)"

    def network(self) -> NetworkSpec:
        """transformers' network with both heads."""
        self.check_mask()
        if not self.inputs.segments:
            raise ConfigError(
                "next sentences need a network with segments",
                got="a configuration whose type_vocab_size is below 2",
                next_action="take a BERT network (network.type_vocab_size=2), or task.name=masked_lm",
            )
        return NetworkSpec("AutoModelForPreTraining")

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """Pairs as `[CLS] a [SEP] b [SEP]`; `follows` int64 [pairs]: 0 where b follows a, else 1."""
        import torch

        given, mask = self.ids_of(rows)
        draws = draws or draws_by_content(given)
        firsts, seconds, used = self._parts(given, mask, draws)
        follows, seconds = _exchanged(seconds, used)
        room = min(given.shape[1], self.inputs.longest) - 3
        pairs, kinds = (
            zip(
                *(self._pair(first, second, room) for first, second in zip(firsts, seconds, strict=True)),
                strict=True,
            )
            if firsts
            else ((), ())
        )
        ids, seen = padded(pairs, self.inputs.pad_id)
        segments, _ = padded(kinds, 0)
        positions, targets = self.masked(ids, used)
        tensors = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(seen),
            "token_type_ids": torch.from_numpy(segments),
        }
        wanted = {"position": positions, "target": targets, "follows": follows}
        return batch_of(tensors, wanted, len(ids), int(seen.sum()))

    def _parts(
        self, ids: Int64, mask: Int64, draws: Draws
    ) -> tuple[list[Int64], list[Int64], list[np.random.Generator]]:
        """The longest text of each sample, cut in two behind a sentence where one ends in its middle half.

        And the draws of the samples whose text is long enough.
        """
        special = np.array(self.inputs.special_ids)
        firsts, seconds, used = [], [], []
        for row, seen, rng in zip(ids, mask, draws, strict=True):
            text = _longest_run(row[seen > 0], special)
            if len(text) < _FEWEST_TOKENS:
                continue
            low, high = len(text) // 4, len(text) - len(text) // 4
            ends = low + 1 + np.flatnonzero(self.inputs.ends_sentence[text[low:high]])
            cut = int(rng.choice(ends)) if len(ends) else int(rng.integers(low, high)) + 1
            firsts.append(text[:cut])
            seconds.append(text[cut:])
            used.append(rng)
        return firsts, seconds, used

    def _pair(self, first: Int64, second: Int64, room: int) -> tuple[Int64, Int64]:
        """Ids and segments; of the longer part the far end is cut off until both fit."""
        n_first, n_second = len(first), len(second)
        over = n_first + n_second - room
        if over > 0:
            from_longer = min(over, abs(n_first - n_second))
            halves = (over - from_longer, (over - from_longer) // 2)
            cut_first = (from_longer if n_first > n_second else 0) + halves[1]
            n_first, n_second = n_first - cut_first, n_second - (over - cut_first)
        cls, sep = [self.inputs.cls_id], [self.inputs.sep_id]
        ids = np.concatenate([cls, first[len(first) - n_first :], sep, second[:n_second], sep])
        kinds = np.repeat([0, 1], [n_first + 2, n_second + 1])
        return ids.astype(np.int64), kinds

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """Sum of the mean losses of both tasks, times the hidden tokens."""
        from torch.nn import functional as F

        units = float(len(batch.targets["target"]))
        tokens, follows = self._logits(network, batch)
        hidden = F.cross_entropy(tokens, batch.targets["target"], reduction="sum")
        return Loss(hidden + units * F.cross_entropy(follows, batch.targets["follows"]), units)

    def _logits(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        found = network(**batch.inputs)
        if getattr(found, "seq_relationship_logits", None) is None:
            raise ConfigError(
                "this network does not tell whether sentences follow each other",
                got=type(network).__name__,
                expected="an architecture whose pretraining does, such as bert",
                next_action="task.name=masked_lm",
            )
        tokens = found.prediction_logits.flatten(0, 1)[batch.targets["position"]]
        return tokens.float(), found.seq_relationship_logits.float()

    @property
    def n_sums(self) -> int:
        """Both losses, tokens, right answers, pairs."""
        return 5

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """Losses of tokens and pairs, tokens, pairs that are told right, pairs."""
        import torch
        from torch.nn import functional as F

        tokens, follows = self._logits(network, batch)
        told = batch.targets["follows"]
        hidden = F.cross_entropy(tokens, batch.targets["target"], reduction="sum")
        pairs = F.cross_entropy(follows, told, reduction="sum")
        right = (follows.argmax(dim=1) == told).sum()
        numbers = [float(hidden), float(pairs), len(tokens), float(right), len(told)]
        return torch.tensor(numbers, dtype=torch.float64)

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """Mean loss of both tasks, perplexity of the tokens, accuracy of the pairs."""
        hidden, pairs = float(sums[0] / max(sums[2], 1.0)), float(sums[1] / max(sums[4], 1.0))
        return {
            "loss": hidden + pairs,
            "perplexity": math.exp(min(hidden, _MOST_NATS)),
            "next_sentence_accuracy": float(sums[3] / max(sums[4], 1.0)),
        }


def _longest_run(row: Int64, special: npt.NDArray[Any]) -> Int64:
    """The longest text of a row: what stands between two special tokens."""
    borders = np.concatenate([[-1], np.flatnonzero(np.isin(row, special)), [len(row)]])
    longest = int(np.argmax(np.diff(borders)))
    return row[borders[longest] + 1 : borders[longest + 1]]


def _exchanged(parts: list[Int64], draws: Draws) -> tuple[Int64, list[Int64]]:
    """About half of the second parts replaced by those of other samples of the batch; 1 where one was."""
    n = len(parts)
    other = np.array([rng.random() < 0.5 for rng in draws], np.bool_) & (n > 1)
    shift = [int(rng.integers(1, max(n, 2))) for rng in draws]
    chosen = [
        parts[(place + step) % n] if is_other else part
        for place, (part, step, is_other) in enumerate(zip(parts, shift, other, strict=True))
    ]
    return other.astype(np.int64), chosen


TASK = NextSentence
