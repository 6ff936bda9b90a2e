"""What the pretraining tasks share: rows of token ids, packed or of one text each, without labels."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from sparkml.models.inputs import filled
from sparkml.tasks.task import Batch, Encoded, Loss, OptionsT, Purpose, Rows, Targets, Task
from sparkml.tasks.texts import IDS, TextOptions, Texts, missing_texts, padded, samples_of_windows

if TYPE_CHECKING:
    from torch import Tensor, nn

Int64 = npt.NDArray[np.int64]
_MOST_NATS = 50.0


class LanguageOptions(TextOptions):
    """Settings of a pretraining task. `max_length` and windows count where texts are not packed by the shard stage."""

    max_windows: int = Field(
        64, ge=1, description="Windows of a longer text; what is beyond them is not read"
    )
    attend_within_documents: bool = Field(
        False, description="Packed samples: tokens see those of their own document alone"
    )


class PredictsTokens(Task[OptionsT]):
    """Base of the tasks that learn which token stands at a place; `target` of a batch: those that are to be told."""

    @abstractmethod
    def token_losses(self, network: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of every token to predict, [tokens]."""

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy summed over the tokens to predict."""
        return Loss(self.token_losses(network, batch).sum(), float(len(batch.targets["target"])))

    @property
    def n_sums(self) -> int:
        """Loss and tokens."""
        return 2

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """Loss and tokens."""
        import torch

        total = float(self.token_losses(network, batch).sum().detach())
        return torch.tensor([total, float(len(batch.targets["target"]))], dtype=torch.float64)

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """Mean loss and perplexity."""
        mean = float(sums[0] / max(sums[1], 1.0))
        return {"loss": mean, "perplexity": math.exp(min(mean, _MOST_NATS))}


class Language(PredictsTokens[OptionsT]):
    """Base of the pretraining tasks."""

    reads = ("text",)
    has_answers = False
    has_figures = False
    columns: ClassVar[tuple[tuple[str, pa.DataType], ...]] = (IDS,)

    def __init__(self, options: OptionsT, targets: Targets, inputs: Any) -> None:
        super().__init__(options, targets, inputs)
        assert_options: LanguageOptions = options  # type: ignore[assignment]  # every pretraining task's options are
        self._language = assert_options
        self._texts = Texts(inputs, assert_options)

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """One sample a window of a text."""
        texts = examples.column("text").to_pylist()
        rejects = missing_texts([texts], ["text"])
        used = [place for place in range(examples.num_rows) if place not in rejects]
        windows = self._texts.windows([texts[place] for place in used])
        return Encoded(samples_of_windows(used, windows, self.columns), list(rejects.values()))

    def ids_of(self, rows: Rows) -> tuple[Int64, Int64]:
        """Token ids and mask, int64 [rows, time] each, of packed or single rows."""
        ids = rows["input_ids"]
        if ids.ndim == 2:
            matrix = ids.astype(np.int64)
            return matrix, filled(matrix, self.inputs).astype(np.int64)
        return padded([np.frombuffer(row, "<i4") for row in ids], self.inputs.pad_id)

    def attention(self, ids: Int64, mask: Int64, *, causal: bool) -> dict[str, Tensor]:
        """What the network is told of padding, and of documents where they must not see each other."""
        import torch

        if self._language.attend_within_documents:
            seen = same_document(ids, mask, self.inputs.sep_id)
            if causal:
                seen &= np.tril(np.ones(seen.shape[-2:], np.bool_))
            return {"attention_mask": torch.from_numpy(seen[:, None])}
        if mask.all():
            return {}  # without a mask the kernels are the fastest
        return {"attention_mask": torch.from_numpy(mask)}

    def token_losses(self, network: nn.Module, batch: Batch) -> Tensor:
        """See `PredictsTokens`; the head looks at these places alone where it can."""
        from torch.nn import functional as F

        logits = logits_at(network, batch.inputs, batch.targets["position"])
        return F.cross_entropy(logits.float(), batch.targets["target"], reduction="none")


def same_document(ids: Int64, mask: Int64, end_id: int) -> npt.NDArray[np.bool_]:
    """bool [rows, time, time]: whether two tokens are of one document, each of which ends with `end_id`.

    Padding sees itself alone: a row of a softmax without any entry would not be a number.
    """
    ended = np.cumsum(ids == end_id, axis=1)
    document = np.concatenate([np.zeros((len(ids), 1), ended.dtype), ended[:, :-1]], axis=1)
    seen = (document[:, :, None] == document[:, None, :]) & (mask[:, None, :] > 0)
    found: npt.NDArray[np.bool_] = seen | np.eye(ids.shape[1], dtype=np.bool_)
    return found


def logits_at(network: nn.Module, inputs: dict[str, Tensor], positions: Tensor) -> Tensor:
    """Logits [positions, vocabulary] at places of the flattened batch; the head sees these alone where it can.

    With a seventh of the tokens to predict, a head over the whole vocabulary is otherwise most of a small network's
    work.
    """
    head = _head_of(network)
    if head is None:
        whole: Tensor = network(**inputs).logits
        return whole.flatten(0, 1)[positions]
    hidden: Tensor = network.base_model(**inputs)[0]  # type: ignore[operator]  # a module of transformers
    logits: Tensor = head(hidden.flatten(0, 1)[positions])
    return logits


def _head_of(network: nn.Module) -> Any:
    """What turns hidden states into logits, for architectures whose forward does nothing else with it."""
    name = type(network).__name__
    if name in ("BertForMaskedLM", "RobertaForMaskedLM", "XLMRobertaForMaskedLM", "CamembertForMaskedLM"):
        return network.cls if hasattr(network, "cls") else network.lm_head
    if name in ("GPT2LMHeadModel", "LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM"):
        return network.lm_head
    if name == "ModernBertForMaskedLM":
        return lambda hidden: network.decoder(network.head(hidden))  # type: ignore[operator]
    return None
