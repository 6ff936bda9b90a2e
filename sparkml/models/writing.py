"""What a model directory says of a network that writes text, and texts as such a network reads and writes them.

    inputs = read_writing_inputs("models/translator/v1")  # on the driver
    encoder = WritingEncoder(inputs)                      # in a Spark task: plain `tokenizers`, no transformers
    encoder.sources(["a text"], 128), encoder.targets(["ein Text"])

An encoder-decoder reads a text and writes another one, beginning with `start_id`. A decoder alone goes on with what it
has read: text and target are one sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sparkml.errors import InputError
from sparkml.models.folder import CONFIG_FILE, GENERATION_FILE, read_json
from sparkml.models.inputs import TextInputs, read_text_inputs
from sparkml.models.text_encoder import CHARACTERS_PER_TOKEN, parse


@dataclass(frozen=True)
class WritingInputs(TextInputs):
    """Tokens, and how the network writes.

    `alone`: it is a decoder without an encoder. `start_id`: what an encoder-decoder begins with; `first_id`: what it
    has to write first; -1: nothing. A text ends with any of `end_ids`; with `sep_id`, which is among them, in training.
    """

    alone: bool
    start_id: int
    first_id: int
    end_ids: tuple[int, ...]


def read_writing_inputs(folder: str | Path) -> WritingInputs:
    """See `WritingInputs`; InputError where the directory does not say what its network writes with."""
    path = Path(folder)
    tokens = read_text_inputs(path)
    said = _Said(path)
    alone = not said.of("is_encoder_decoder")
    start = None if alone else said.of("decoder_start_token_id")
    if tokens.sep_id < 0 or (start is None and not alone):
        missing = "token that ends a text" if tokens.sep_id < 0 else "token with which its decoder begins"
        raise InputError(
            f"the model does not name the {missing}",
            where=str(path),
            expected="a tokenizer with an end token (eos or sep)"
            if tokens.sep_id < 0
            else f"decoder_start_token_id in {CONFIG_FILE} or {GENERATION_FILE}",
            next_action="save the model with its tokenizer again, and name it there",
        )
    ends = said.of("eos_token_id")
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    first = None if alone else said.of("forced_bos_token_id")
    return WritingInputs(
        **tokens.to_payload(),
        alone=alone,
        start_id=-1 if start is None else int(start),
        first_id=-1 if first is None else int(first),
        end_ids=tuple(sorted({tokens.sep_id, *map(int, listed)})),
    )


class _Said:
    """Fields of generation_config.json, else of config.json, else what the architecture has without being told."""

    def __init__(self, path: Path) -> None:
        files = [path / name for name in (GENERATION_FILE, CONFIG_FILE) if (path / name).is_file()]
        self._files = [read_json(file) for file in files]
        self._path = path

    @cached_property
    def _default(self) -> Any:
        """The configuration with what the architecture has without being told; None where there is none."""
        if not (self._path / CONFIG_FILE).is_file():
            return None
        from transformers import AutoConfig  # seconds of imports; most directories say all there is to say

        try:
            return AutoConfig.from_pretrained(self._path, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError):
            return None  # whoever loads the network says what is wrong

    def of(self, name: str) -> Any:
        """None where nobody says it."""
        for one in self._files:
            if one.get(name) is not None:
                return one[name]
        return getattr(self._default, name, None)


class Source(NamedTuple):
    """Token ids of a text, and whether some of it is left out."""

    ids: list[int]
    is_cut: bool


class WritingEncoder:
    """Texts to token ids and back; what a text gives depends on that text alone."""

    def __init__(self, inputs: WritingInputs) -> None:
        self.inputs = inputs
        self._tokenizer = parse(inputs.tokenizer_json)

    def sources(self, texts: Sequence[str], length: int, separator: str | None = None) -> list[Source]:
        """The beginning of each text with its special tokens, at most `length` tokens.

        A decoder alone reads no special tokens behind a text but the separator's tokens (empty: the end token), which
        tell it that the target begins.
        """
        found = []
        between = self._between(separator or "") if self.inputs.alone else None
        for text, lead, body, tail in self._parts(texts, lambda text: text[: self._characters(length)]):
            behind = tail if between is None else between
            room = max(length - len(lead) - len(behind), 0)
            cut = len(body) > room or len(text) > self._characters(length)
            found.append(Source([*lead, *body[:room], *behind] if body else [], cut))
        return found

    def beginnings(self, texts: Sequence[str], length: int) -> list[Source]:
        """What a decoder alone is to go on with: the end of each text, and nothing that says that it is over."""
        found = []
        for text, lead, body, _ in self._parts(texts, lambda text: text[-self._characters(length) :]):
            room = max(length - len(lead), 0)
            cut = len(body) > room or len(text) > self._characters(length)
            found.append(Source([*lead, *body[max(len(body) - room, 0) :]] if body else [], cut))
        return found

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        """What is to be written: the texts' tokens, and the end token."""
        first = [self.inputs.first_id] if self.inputs.first_id >= 0 else []
        return [[*first, *body, self.inputs.sep_id] for _, _, body, _ in self._parts(texts, str)]

    def text(self, ids: Sequence[int], behind: Sequence[int] = ()) -> str:
        """The text of tokens without special ones; with `behind`, as it stands behind the text of those.

        Some tokenizers drop the blank before a text that stands alone.
        """
        if behind:
            before = str(self._tokenizer.decode(list(behind)))
            whole = str(self._tokenizer.decode([*behind, *ids]))
            if whole.startswith(before):
                return whole[len(before) :]
        return str(self._tokenizer.decode(list(ids)))

    def _between(self, separator: str) -> list[int]:
        if not separator:
            return [self.inputs.sep_id]
        return list(self._tokenizer.encode(separator, add_special_tokens=False).ids)

    def _characters(self, length: int) -> int:
        return length * CHARACTERS_PER_TOKEN

    def _parts(self, texts: Sequence[str], cut: Any) -> list[tuple[str, list[int], list[int], list[int]]]:
        """Each text with the special tokens before it, its own tokens, and those behind it."""
        found = []
        for text, one in zip(texts, self._tokenizer.encode_batch([cut(text) for text in texts]), strict=True):
            own = [place for place, special in enumerate(one.special_tokens_mask) if not special]
            start, stop = (own[0], own[-1] + 1) if own else (len(one.ids), len(one.ids))
            found.append((text, one.ids[:start], one.ids[start:stop], one.ids[stop:]))
        return found
