"""Causal language modelling: every token from those before it (Radford et al. 2018). Its answers go on with a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from sparkml.models.generation_settings import GenerationSettings
from sparkml.models.networks import NetworkSpec
from sparkml.models.writing import WritingInputs, read_writing_inputs
from sparkml.tasks.draws import Draws
from sparkml.tasks.generating import WRITTEN_TOKENS, Generating, answer_of
from sparkml.tasks.language import Language, LanguageOptions
from sparkml.tasks.task import Answer, Batch, Encoded, Purpose, Reject, Rows, Targets
from sparkml.tasks.texts import IDS, as_bytes, batch_of, missing_texts, sample_batch

if TYPE_CHECKING:
    from torch import nn


class CausalLMOptions(LanguageOptions, GenerationSettings):
    """Settings of `task:` where its name is `causal_lm`."""

    max_length: int = Field(
        128,
        ge=8,
        description="Tokens of a window, special tokens included; of a text to go on with so many, the last ones",
    )


class CausalLM(Language[CausalLMOptions]):
    """The next token; to be answered is what comes after a text."""

    name = "causal_lm"
    summary = "every token from those before it (GPT); its answers go on with a text"
    has_answers = True
    needs_training = False
    Options = CausalLMOptions
    token_budget = WRITTEN_TOKENS

    def __init__(self, options: CausalLMOptions, targets: Targets, inputs: WritingInputs) -> None:
        super().__init__(options, targets, inputs)
        self._generating = Generating(inputs, options)

    @classmethod
    def read_inputs(cls, folder: str) -> WritingInputs:
        """Tokens, and how the network writes."""
        return read_writing_inputs(folder)

    def network(self) -> NetworkSpec:
        """transformers' causal language model."""
        return NetworkSpec("AutoModelForCausalLM", settings={"use_cache": False})

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """One sample a window of a text; to be answered, its end without an end token: it is not over."""
        if purpose != "answer":
            return super().encode(examples, purpose=purpose)
        texts = examples.column("text").to_pylist()
        rejects = missing_texts([texts], ["text"])
        used = [place for place in range(examples.num_rows) if place not in rejects]
        length = self._generating.room(self.options.max_length, self.options.max_new_tokens)
        found = self._generating.encoder.beginnings([texts[place] for place in used], length)
        rows = [(place, one.ids) for place, one in zip(used, found, strict=True) if one.ids]
        silent = set(used) - {place for place, _ in rows}
        rejects |= {place: Reject(place, "text_without_tokens") for place in silent}
        columns: dict[str, list[Any]] = {
            "example": [place for place, _ in rows],
            "window": [0] * len(rows),
            "n_tokens": [len(ids) for _, ids in rows],
            IDS[0]: [as_bytes(ids) for _, ids in rows],
        }
        return Encoded(sample_batch(columns, self.columns), [rejects[place] for place in sorted(rejects)])

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """`position` of a token in the flattened batch and `target`, the token after it: int64 [tokens].

        `length` [rows]: the tokens of each row.
        """
        import torch

        ids, mask = self.ids_of(rows)
        follows = (mask[:, 1:] > 0) & (mask[:, :-1] > 0)
        if (
            self.options.attend_within_documents
        ):  # what comes after a document's end is not to be guessed from it
            follows &= ids[:, :-1] != self.inputs.sep_id
        row, place = np.nonzero(follows)
        targets = {
            "position": row * ids.shape[1] + place,
            "target": ids[row, place + 1],
            "length": mask.sum(axis=1),
        }
        tensors = {"input_ids": torch.from_numpy(ids), **self.attention(ids, mask, causal=True)}
        return batch_of(tensors, targets, len(ids), int(mask.sum()))

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """What the network goes on with, as bytes: `Text.to_array`."""
        return [*self._generating.outputs(network, batch, goes_on=True)]

    def tokens_held(self, n_tokens: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is read and what is written, of every beam."""
        return self._generating.tokens_held(n_tokens)

    def answer(self, example: Mapping[str, Any], output: npt.NDArray[Any]) -> Answer:
        """The continuation as `output`; it begins with a blank where the text would go on with one."""
        return answer_of(output)


TASK = CausalLM
