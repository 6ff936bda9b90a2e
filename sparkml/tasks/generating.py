"""What tasks share whose answers are text: how a network's text travels, and what it is worth."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparkml.errors import ConfigError
from sparkml.models.generation_settings import GenerationSettings
from sparkml.models.writing import WritingEncoder, WritingInputs
from sparkml.tasks.task import Answer, Batch

if TYPE_CHECKING:
    from torch import nn

# Every token that is written reads all weights once more: many texts at once share that.
WRITTEN_TOKENS = 2048
# Of a prompt as many tokens must be left as `max_length` asks for at least.
_SHORTEST = 8


class Text(NamedTuple):
    """A text that was written, and its score, as one array of bytes: what travels of a sample's answer."""

    text: str
    score: float

    def to_array(self) -> npt.NDArray[np.uint8]:
        """The score, 8 bytes little-endian, and the text in UTF-8."""
        return np.frombuffer(struct.pack("<d", self.score) + self.text.encode("utf-8", "replace"), np.uint8)

    @classmethod
    def of_array(cls, values: npt.NDArray[Any]) -> Text:
        """What `to_array` gave."""
        content = values.tobytes()
        return cls(content[8:].decode(), float(struct.unpack("<d", content[:8])[0]))


class Generating:
    """The text side of a task that writes: `options` and `inputs` are the task's."""

    def __init__(self, inputs: WritingInputs, options: GenerationSettings) -> None:
        self.inputs, self.options = inputs, options
        self._encoder: WritingEncoder | None = None

    @property
    def encoder(self) -> WritingEncoder:
        """The tokenizer, made when it is first needed."""
        if self._encoder is None:
            self._encoder = WritingEncoder(self.inputs)
        return self._encoder

    def room(self, max_length: int, behind: int) -> int:
        """Tokens that a text may have, where a decoder alone has to have room for `behind` more.

        ConfigError where that leaves none.
        """
        longest = self.inputs.longest - (behind if self.inputs.alone else 0)
        if behind > self.inputs.longest or longest < _SHORTEST:
            raise ConfigError(
                "what is to be written leaves no room for what is to be read",
                got=f"{behind} tokens to write, of {self.inputs.longest} that the network has positions for",
                expected=f"room for {_SHORTEST} tokens at least",
                next_action="lower task.max_new_tokens or task.max_target_length",
            )
        return min(max_length, longest)

    def outputs(
        self, network: nn.Module, batch: Batch, *, goes_on: bool = False
    ) -> list[npt.NDArray[np.uint8]]:
        """A text for each row, as `Text.to_array`. `batch.targets["length"]`: tokens of `input_ids` to be read."""
        from sparkml.models.generation import write

        ids, lengths = batch.inputs["input_ids"], batch.targets["length"]
        found = write(network, ids, lengths, self.encoder, self.options, goes_on=goes_on)
        return [Text(one.text if goes_on else one.text.strip(), one.score).to_array() for one in found]

    def tokens_held(self, n_tokens: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Every beam holds what is read and what is written."""
        return (n_tokens + self.options.max_new_tokens) * self.options.num_beams


def answer_of(output: npt.NDArray[Any]) -> Answer:
    """The text as `output`; `score` is the geometric mean of its tokens' probabilities."""
    text, score = Text.of_array(output)
    if not np.isfinite(score):
        return Answer(error="the probability of the model's text is not finite")
    return Answer(output=text, score=score)


def texts_moved(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> float:
    """1 for another text; for the same one by how much its score differs."""
    first, second = Text.of_array(before), Text.of_array(after)
    return 1.0 if first.text != second.text else abs(first.score - second.score)
