"""How a text becomes token ids: by the tokenizer files of a model directory, without transformers in the workers.

    inputs = read_text_inputs("models/encoder/v1")        # on the driver: token ids and limits come from its files
    inputs.encoder().encode(["a text"], max_length=128)   # in a Spark task: plain `tokenizers`

`TextInputs` is small plain data that travels to Spark tasks; importing transformers costs a process seconds, the
tokenizers library milliseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparkml.errors import InputError
from sparkml.models.folder import TOKENIZER_FILE, check_folder, read_json
from sparkml.models.kept_inputs import kept_inputs
from sparkml.models.text_encoder import TextEncoder, parse

# What transformers stores as "no limit" is a number of thirty digits.
_NO_LIMIT = 1 << 20
_SENTENCE_MARKS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")
# How T5 calls the tokens that stand for spans.
SENTINEL = "<extra_id_{}>"
_WORD_MARKS = ("\u0120", "\u010a", "\u2581")  # blank and newline of byte-level BPE, blank of SentencePiece


@dataclass(frozen=True)
class TextInputs:
    """What a model directory says about its tokens.

    `longest` is the longest sequence that the network reads, special tokens included; `segments` says whether it takes
    segment ids; `mask_id` is -1 where there is no mask token.
    """

    tokenizer_json: str
    pad_id: int
    mask_id: int
    cls_id: int
    sep_id: int
    special_ids: tuple[int, ...]
    vocab_size: int
    longest: int
    segments: bool

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the tokenizer's content, lower-case hex."""
        return hashlib.sha256(self.tokenizer_json.encode()).hexdigest()

    @cached_property
    def begins_word(self) -> npt.NDArray[np.bool_]:
        """bool [vocab_size]: whether a token begins a word, by the marks of WordPiece, byte-level BPE or SentencePiece.

        All true where the vocabulary marks neither: every token is then a word of its own.
        """
        vocabulary = self._vocabulary()
        begins = np.ones(max(self.vocab_size, max(vocabulary.values(), default=0) + 1), np.bool_)
        if any(token.startswith("##") for token in vocabulary):
            for token, number in vocabulary.items():
                begins[number] = not token.startswith("##")
        elif any(token.startswith(_WORD_MARKS) for token in vocabulary):
            for token, number in vocabulary.items():
                begins[number] = token.startswith(_WORD_MARKS)
        begins[list(self.special_ids)] = True
        return begins

    @cached_property
    def ends_sentence(self) -> npt.NDArray[np.bool_]:
        """bool [vocab_size]: whether a token is a mark that ends sentences, alone or at the end of a word."""
        vocabulary = self._vocabulary()
        ends = np.zeros(max(self.vocab_size, max(vocabulary.values(), default=0) + 1), np.bool_)
        for token, number in vocabulary.items():
            ends[number] = token.endswith(_SENTENCE_MARKS)
        ends[list(self.special_ids)] = False
        return ends

    @cached_property
    def sentinel_ids(self) -> tuple[int, ...]:
        """The tokens that stand for spans of a text, in order: `<extra_id_0>` and so on; none in most vocabularies."""
        vocabulary = self._vocabulary()
        found: list[int] = []
        while (number := vocabulary.get(SENTINEL.format(len(found)))) is not None:
            found.append(number)
        return tuple(found)

    def _vocabulary(self) -> dict[str, int]:
        found: dict[str, int] = parse(self.tokenizer_json).get_vocab(with_added_tokens=True)
        return found

    def encoder(self) -> TextEncoder:
        """A tokenizer of this process."""
        return TextEncoder(self.tokenizer_json, self.longest)

    def to_payload(self) -> dict[str, Any]:
        """JSON values."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> TextInputs:
        """What `to_payload` gave."""
        return cls(**{**payload, "special_ids": tuple(payload["special_ids"])})


def read_text_inputs(folder: str | Path) -> TextInputs:
    """What a model directory says about its tokens; InputError where it has no tokenizer that transformers knows."""
    path = check_folder(folder)
    known = kept_inputs(path)
    if known is not None:
        return TextInputs.from_payload(known)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(
            "the model directory has no tokenizer that can be loaded",
            where=str(path),
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected=f"{TOKENIZER_FILE}, or the files of a tokenizer that transformers knows",
            next_action="save the tokenizer into the directory: tokenizer.save_pretrained(DIR)",
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            "the model's tokenizer has no fast form",
            where=str(path),
            got=type(tokenizer).__name__,
            expected=f"a tokenizer that can be written as {TOKENIZER_FILE}",
        )
    file = path / TOKENIZER_FILE
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    return TextInputs(
        tokenizer_json=file.read_text(encoding="utf-8") if file.is_file() else backend.to_str(),
        pad_id=_first(tokenizer.pad_token_id, tokenizer.eos_token_id, 0),
        mask_id=_first(tokenizer.mask_token_id, -1),
        cls_id=_first(tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, -1),
        sep_id=_first(tokenizer.sep_token_id, tokenizer.eos_token_id, -1),
        special_ids=tuple(sorted(tokenizer.all_special_ids)),
        vocab_size=len(tokenizer),
        longest=_longest(config, tokenizer.model_max_length),
        segments=int(config.get("type_vocab_size") or 0) > 1,
    )


def filled(rows: npt.NDArray[Any], inputs: TextInputs) -> npt.NDArray[np.bool_]:
    """bool, as `rows` [rows, time] of token ids: true up to the padding at the end of a row.

    Where a model pads with the token that ends documents, the first one of the end is no padding.
    """
    other = rows != inputs.pad_id
    last = rows.shape[1] - np.argmax(other[:, ::-1], axis=1)
    length = np.where(other.any(axis=1), last, 0) + (inputs.pad_id == inputs.sep_id)
    found: npt.NDArray[np.bool_] = np.arange(rows.shape[1]) < length[:, None]
    return found


def special_fields(inputs: TextInputs) -> dict[str, int]:
    """The token ids that a configuration names."""
    found = {"pad_token_id": inputs.pad_id, "cls_token_id": inputs.cls_id, "sep_token_id": inputs.sep_id}
    found |= {"bos_token_id": inputs.cls_id, "eos_token_id": inputs.sep_id}
    return {name: number for name, number in found.items() if number >= 0}


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _longest(config: dict[str, Any], stated: int) -> int:
    """The longest sequence: of the positions that the network has and what its tokenizer says."""
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
    positions = next((int(config[name]) for name in names if config.get(name)), _NO_LIMIT)
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer"):
        positions -= 2  # these count positions from the padding id on
    return min(positions, int(stated), _NO_LIMIT)
