"""Text that a network writes, by transformers' `generate` with its cache of keys and values.

A row's text depends on the row alone. Prompts of a decoder alone are padded on the left, where nothing sees the padding
and positions are counted from the first token. What is drawn at random is drawn for each row by a generator of its own,
whose key is the content of the row: the logits plus Gumbel noise have their largest value at token t with the
probability softmax(logits)[t] (Gumbel 1954; Maddison et al. 2014), so the likeliest token is then an exact draw.
What the company changes is rounding: where two tokens are likely alike to 1e-6, either may be written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xxhash
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from sparkml.models.generation_settings import GenerationSettings
from sparkml.models.networks import quiet
from sparkml.models.writing import WritingEncoder, WritingInputs

# Logits that are held at once while texts are scored: 128 MB.
_MOST_LOGITS = 1 << 25


class Written(NamedTuple):
    """A text, and the geometric mean of the probabilities that the network gives to its tokens, the end's included."""

    text: str
    score: float


def write(
    network: Any,
    ids: Tensor,
    lengths: Tensor,
    encoder: WritingEncoder,
    settings: GenerationSettings,
    *,
    goes_on: bool = False,
) -> list[Written]:
    """A text for each row of `ids` int64 [rows, time], which is padded behind its `lengths` [rows].

    `goes_on`: the text continues the row, and begins with a blank where it would there.
    """
    prompts = [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]
    found: list[Written | None] = [None] * len(prompts)
    for places in _together(network, prompts, encoder.inputs):
        part = [prompts[place] for place in places]
        for place, one in zip(
            places, _written(network, part, encoder, settings, ids.device, goes_on), strict=True
        ):
            found[place] = one
    return [one for one in found if one is not None]


def _together(
    network: Any, prompts: Sequence[Sequence[int]], inputs: WritingInputs
) -> Iterator[Sequence[int]]:
    """Which prompts may share a pass: all, but where virtual tokens stand before the padding only those of one length.

    peft then counts positions over the padding.
    """
    if not (inputs.alone and getattr(network, "peft_type", None) == "PROMPT_TUNING"):
        yield range(len(prompts))
        return
    for length in sorted(set(map(len, prompts))):
        yield [place for place, prompt in enumerate(prompts) if len(prompt) == length]


def _written(
    network: Any,
    prompts: Sequence[Sequence[int]],
    encoder: WritingEncoder,
    settings: GenerationSettings,
    device: Any,
    goes_on: bool,
) -> list[Written]:
    inputs = encoder.inputs
    given, mask = _padded(prompts, inputs.pad_id, device, left=inputs.alone)
    start = given.shape[1] if inputs.alone else 1
    stops = _Stops(settings.stop, encoder, start)
    with quiet(), _configured(network, _configuration(inputs, settings)) as inner:
        made = network.generate(
            input_ids=given,
            attention_mask=mask,
            logits_processor=_processors(prompts, inputs, settings, start),
            stopping_criteria=[stops] if settings.stop else None,
            synced_gpus=_is_in_parts(inner),
        )
    rows = [_counted(row, inputs, stops) for row in made[:, start:].tolist()]
    scores = _scores(network, prompts, rows, inputs, device)
    texts = []
    for prompt, row in zip(prompts, rows, strict=True):
        own = [token for token in row if token not in inputs.end_ids]
        texts.append(stops.before(encoder.text(own, prompt if goes_on else ())))
    return [Written(text, score) for text, score in zip(texts, scores, strict=True)]


def _padded(
    rows: Sequence[Sequence[int]], fill: int, device: Any, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Rows as one int64 matrix, and its mask."""
    width = max(map(len, rows), default=0)
    matrix = torch.full((len(rows), width), fill, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        matrix[number, place] = torch.tensor(row, dtype=torch.int64)
        mask[number, place] = 1
    return matrix.to(device), mask.to(device)


def _configuration(inputs: WritingInputs, settings: GenerationSettings) -> GenerationConfig:
    """All that `generate` is told: nothing of a model's own habits (beams, penalties, sampling) applies unseen."""
    beams = {"num_beams": settings.num_beams, "length_penalty": settings.length_penalty}
    made: Any = GenerationConfig  # untyped
    found: GenerationConfig = made(
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=inputs.pad_id,
        eos_token_id=list(inputs.end_ids),
        **(beams if settings.num_beams > 1 else {}),
        **({"decoder_start_token_id": inputs.start_id} if inputs.start_id >= 0 else {}),
        **({"forced_bos_token_id": inputs.first_id} if inputs.first_id >= 0 else {}),
    )
    return found


@contextlib.contextmanager
def _configured(network: Any, configuration: GenerationConfig) -> Iterator[Any]:
    """The network of transformers within what was adapted or compiled; fields left open it would take from its own."""
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    inner = getattr(inner, "_orig_mod", inner)
    before = inner.generation_config
    inner.generation_config = configuration
    try:
        yield inner
    finally:
        inner.generation_config = before


def _is_in_parts(network: nn.Module) -> bool:
    """Ranks that hold parts of one model make all passes together: those that have written all their texts wait so."""
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def _processors(
    prompts: Sequence[Sequence[int]], inputs: WritingInputs, settings: GenerationSettings, start: int
) -> list[Any]:
    """What changes the scores of the next tokens, in order."""
    found: list[Any] = []
    if inputs.pad_id not in inputs.end_ids:
        found.append(_Never(inputs.pad_id))
    if settings.no_repeat_ngram_size:
        found.append(_NoRepeat(settings.no_repeat_ngram_size, start))
    if not settings.sample:
        return found
    if settings.temperature != 1:
        found.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        found.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        found.append(TopPLogitsWarper(settings.top_p))
    return [*found, _Drawn(prompts, settings.seed)]


class _Never:
    """A token that is not written: padding, which would look like the end of a text."""

    def __init__(self, token: int) -> None:
        self._token = token

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, self._token] = -torch.inf
        return scores


class _NoRepeat:
    """No n tokens twice in what is written; transformers' own looks at prompt and padding too."""

    def __init__(self, size: int, start: int) -> None:
        self._size, self._start = size, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for number, row in enumerate(input_ids[:, self._start :].tolist()):
            before = row[len(row) - self._size + 1 :] if len(row) >= self._size else None
            if before is None:
                continue
            banned = [
                row[place + self._size - 1]
                for place in range(len(row) - self._size + 1)
                if row[place : place + self._size - 1] == before
            ]
            scores[number, banned] = -torch.inf
        return scores


class _Drawn:
    """Gumbel noise, -log E with E exponential: of each row from a generator of its own."""

    def __init__(self, prompts: Sequence[Sequence[int]], seed: int) -> None:
        keys = [xxhash.xxh3_64_intdigest(np.asarray(row, "<i4").tobytes()) for row in prompts]
        self._draws = [
            np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64))) for key in keys
        ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn = [draws.standard_exponential(scores.shape[1], np.float32) for draws in self._draws]
        noise = torch.from_numpy(np.stack(drawn)).clamp_min_(torch.finfo(torch.float32).tiny).log_()
        return scores - noise.to(scores.device)


class _Stops:
    """Strings that end a text."""

    def __init__(self, strings: Sequence[str], encoder: WritingEncoder, start: int) -> None:
        self._strings, self._encoder, self._start = tuple(strings), encoder, start

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """bool [rows], by transformers' protocol of stopping criteria."""
        found = [self.in_tokens(row) for row in input_ids[:, self._start :].tolist()]
        return torch.tensor(found, dtype=torch.bool, device=input_ids.device)

    def in_tokens(self, ids: Sequence[int]) -> bool:
        """Whether the text of tokens holds one of the strings."""
        if not self._strings:
            return False
        text = self._encoder.text(ids)
        return any(one in text for one in self._strings)

    def before(self, text: str) -> str:
        """The text up to the first of the strings."""
        ends = [place for one in self._strings if (place := text.find(one)) >= 0]
        return text[: min(ends)] if ends else text


def _counted(row: Sequence[int], inputs: WritingInputs, stops: _Stops) -> list[int]:
    """The tokens that were written, an end token included; what follows is padding."""
    if inputs.pad_id not in inputs.end_ids and inputs.pad_id in row:
        row = row[: row.index(inputs.pad_id)]
    ends = [place for place, token in enumerate(row) if token in inputs.end_ids]
    if not ends:
        return list(row)
    # Behind a string that ends a text there is padding, which may be the end token: nobody has written that.
    return list(row[: ends[0]] if stops.in_tokens(row[: ends[0]]) else row[: ends[0] + 1])


def _scores(
    network: Any,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Sequence[int]],
    inputs: WritingInputs,
    device: Any,
) -> list[float]:
    """exp of the mean log-probability of each row's tokens, computed at once from all that stands before them."""
    width = max((len(prompt) + len(row) for prompt, row in zip(prompts, rows, strict=True)), default=1)
    size = getattr(network.config, "vocab_size", 1) * width
    at_once = len(rows) if _is_in_parts(network) else max(1, _MOST_LOGITS // size)
    found: list[float] = []
    for first in range(0, len(rows), at_once):
        part = slice(first, first + at_once)
        logits, targets, places = _logits(network, prompts[part], rows[part], inputs, device)
        chosen = logits.gather(2, targets[:, :, None]).squeeze(2).float() - logits.float().logsumexp(dim=2)
        means = (chosen * places).sum(dim=1) / places.sum(dim=1).clamp_min(1)
        found += means.exp().tolist()
    return found


def _logits(
    network: Any,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Sequence[int]],
    inputs: WritingInputs,
    device: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [rows, time, vocabulary], the token that was written at each place, and where one was, [rows, time]."""
    if inputs.alone:
        whole = [[*prompt, *row] for prompt, row in zip(prompts, rows, strict=True)]
        ids, mask = _padded(whole, inputs.pad_id, device)
        logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        before = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
        time = torch.arange(logits.shape[1], device=device)
        return logits, ids[:, 1:], (time >= before[:, None]) & (mask[:, 1:] > 0)
    targets, places = _padded(rows, inputs.pad_id, device)
    begun, _ = _padded([[inputs.start_id, *row[:-1]] for row in rows], inputs.pad_id, device)
    given, mask = _padded(prompts, inputs.pad_id, device)
    logits = network(input_ids=given, attention_mask=mask, decoder_input_ids=begun, use_cache=False).logits
    return logits[:, : targets.shape[1]], targets, places > 0
