"""Write a text from a text: a translation, a summary, a reply, a correction.

An encoder-decoder (T5, BART) reads `text` and writes `text_b`. A decoder alone (GPT-2, Llama) reads the text, a
separator and what it has written so far: one sequence, of which the target's tokens alone are learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from sparkml.errors import NotApplicableError
from sparkml.models.generation_settings import GenerationSettings
from sparkml.models.networks import NetworkSpec
from sparkml.models.writing import WritingInputs, read_writing_inputs
from sparkml.tasks.draws import Draws
from sparkml.tasks.generating import WRITTEN_TOKENS, Generating, Text, answer_of, texts_moved
from sparkml.tasks.language import PredictsTokens, logits_at
from sparkml.tasks.task import (
    Answer,
    Batch,
    Encoded,
    Loss,
    Purpose,
    Reject,
    Rows,
    Targets,
    TaskOptions,
)
from sparkml.tasks.texts import IDS, as_bytes, batch_of, missing_texts, padded, sample_batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparkml.measures.evaluation import Evaluation
    from sparkml.measures.judged import Judged

TARGET_IDS = ("target_ids", pa.binary())


class Seq2SeqOptions(TaskOptions, GenerationSettings):
    """Settings of `task:` where its name is `seq2seq`."""

    max_length: int = Field(
        128, ge=8, description="Tokens of a text that are read, prefix and special tokens included"
    )
    max_target_length: int = Field(
        64,
        ge=2,
        description="Tokens of a target, its end included; a longer one is no training example, and of a held-out one "
        "the loss sees the beginning, the figures all",
    )
    max_new_tokens: int = Field(
        0, ge=0, description="Tokens that are written at most; 0: as many as max_target_length"
    )
    long_texts: Literal["cut", "reject"] = Field(
        "cut", description="Of a longer text the beginning is read, or it is no example and gets no answer"
    )
    prefix: str = Field(
        "", description="What is put before every text, such as `translate English to French: `"
    )
    separator: str = Field(
        "", description="Decoders alone: what stands between text and target; empty: the end token"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Training: this part of a target is spread over all tokens"
    )

    @model_validator(mode="before")
    @classmethod
    def _writes_as_it_learns(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("max_new_tokens"):
            learnt = values.get("max_target_length", cls.model_fields["max_target_length"].default)
            return {**values, "max_new_tokens": learnt}
        return values


class Seq2Seq(PredictsTokens[Seq2SeqOptions]):
    """A text from a text."""

    name = "seq2seq"
    summary = "a text from a text: translations, summaries, replies"
    reads = ("text", "text_b")
    target_columns = ("text_b",)
    columns = (IDS, TARGET_IDS)
    Options = Seq2SeqOptions
    token_budget = WRITTEN_TOKENS

    def __init__(self, options: Seq2SeqOptions, targets: Targets, inputs: WritingInputs) -> None:
        super().__init__(options, targets, inputs)
        self._generating = Generating(inputs, options)

    @classmethod
    def read_inputs(cls, folder: str) -> WritingInputs:
        """Tokens, and how the network writes."""
        return read_writing_inputs(folder)

    @classmethod
    def count(cls, options: Seq2SeqOptions, examples: pa.RecordBatch) -> Mapping[str, float]:
        """Rows with a target."""
        texts = examples.column("text_b").to_pylist()
        return {"targets": float(sum(1 for text in texts if text and text.strip()))}

    @classmethod
    def fit(cls, options: Seq2SeqOptions, counts: Mapping[str, Mapping[str, float]]) -> Targets:
        """Nothing but the tokens, where there are targets."""
        if not counts.get("train", {}).get("targets"):
            raise NotApplicableError(
                "there are no texts to learn to write",
                where="column `text_b` of the training rows",
                got="no row with a target",
                next_action="name the targets' field: columns.text_b=COLUMN, or ingest.source.text_b_field=FIELD",
            )
        return Targets()

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """One sample an example: `input_ids` to read and, unless it is to be answered, `target_ids` to write."""
        with_targets = purpose != "answer"
        names = ["text", "text_b"] if with_targets else ["text"]
        texts = [examples.column(name).to_pylist() for name in names]
        rejects = missing_texts(texts, names)
        used = [place for place in range(examples.num_rows) if place not in rejects]
        sources = self._sources([texts[0][place] for place in used], used, rejects)
        targets: list[list[int]] = [[]] * len(used)
        if with_targets:
            learnt = self._learnt(examples, purpose)
            targets = self._targets([texts[1][place] for place in used], used, learnt, rejects)
        rows = [
            row for row in zip(used, sources, targets, strict=True) if row[0] not in rejects
        ]  # those that are too long are rejects by now
        columns: dict[str, list[Any]] = {
            "example": [place for place, _, _ in rows],
            "window": [0] * len(rows),
            "n_tokens": [len(source) + len(target) for _, source, target in rows],
            IDS[0]: [as_bytes(source) for _, source, _ in rows],
            TARGET_IDS[0]: [as_bytes(target) if with_targets else None for _, _, target in rows],
        }
        return Encoded(sample_batch(columns, self.columns), [rejects[place] for place in sorted(rejects)])

    @staticmethod
    def _learnt(examples: pa.RecordBatch, purpose: Purpose) -> list[bool]:
        """Whether each example is one to train on; held-out ones are encoded beside those."""
        if purpose != "train":
            return [False] * examples.num_rows
        if "split" not in examples.schema.names:
            return [True] * examples.num_rows
        return [split == "train" for split in examples.column("split").to_pylist()]

    def _sources(
        self, texts: Sequence[str], places: Sequence[int], rejects: dict[int, Reject]
    ) -> list[list[int]]:
        options, found = self.options, []
        behind = max(options.max_target_length, options.max_new_tokens)
        length = self._generating.room(options.max_length, behind)
        given = [options.prefix + text for text in texts]
        for place, one in zip(
            places, self._generating.encoder.sources(given, length, options.separator), strict=True
        ):
            if not one.ids:
                rejects[place] = Reject(place, "text_without_tokens")
            elif one.is_cut and options.long_texts == "reject":
                rejects[place] = Reject(
                    place, "text_too_long", f"more than {length} tokens", None, float(length)
                )
            found.append(one.ids)
        return found

    def _targets(
        self,
        texts: Sequence[str],
        places: Sequence[int],
        learnt: Sequence[bool],
        rejects: dict[int, Reject],
    ) -> list[list[int]]:
        most, found = self.options.max_target_length, []
        for place, ids in zip(places, self._generating.encoder.targets(texts), strict=True):
            # Cut, it would teach that a text ends there, or how to begin one that never ends.
            if len(ids) > most and learnt[place] and place not in rejects:
                rejects[place] = Reject(place, "text_b_too_long", "tokens", float(len(ids)), float(most))
            found.append(ids[:most])
        return found

    def network(self) -> NetworkSpec:
        """transformers' encoder-decoder, or its causal language model."""
        head = "AutoModelForCausalLM" if self.inputs.alone else "AutoModelForSeq2SeqLM"
        return NetworkSpec(head, settings={"use_cache": False})

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """`input_ids` and `attention_mask` int64 [rows, time], behind a decoder's texts its targets.

        Targets: `length` [rows], tokens that are read; `position` [tokens] in the flattened logits and `target`, the
        token to be written there; of an encoder-decoder `before` [rows, time], what its decoder is given.
        """
        import torch

        sources = [np.frombuffer(row, np.int32) for row in rows[IDS[0]]]
        targets = [np.frombuffer(row, np.int32) for row in rows.get(TARGET_IDS[0], [b""] * len(sources))]
        lengths = np.array([len(source) for source in sources])
        whole = sources
        if self.inputs.alone:
            whole = [np.concatenate(pair) for pair in zip(sources, targets, strict=True)]
        ids, mask = padded(whole, self.inputs.pad_id)
        labels, wanted = padded(targets, self.inputs.pad_id)
        row, place = np.nonzero(wanted)
        found: dict[str, npt.NDArray[np.int64]] = {"length": lengths, "target": labels[row, place]}
        if self.inputs.alone:
            found["position"] = row * ids.shape[1] + lengths[row] - 1 + place
        else:
            found["position"] = row * labels.shape[1] + place
            starts = np.full((len(labels), 1), self.inputs.start_id)
            found["before"] = np.concatenate([starts, labels[:, :-1]], axis=1)
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        n_tokens = int(mask.sum()) + (0 if self.inputs.alone else int(wanted.sum()))
        return batch_of(tensors, found, len(ids), n_tokens)

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy summed over the targets' tokens, smoothed; what is measured is not."""
        total = self.token_losses(network, batch, self.options.label_smoothing).sum()
        return Loss(total, float(len(batch.targets["target"])))

    def token_losses(self, network: nn.Module, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """Of every token of the targets."""
        from torch.nn import functional as F

        position, target = batch.targets["position"], batch.targets["target"]
        if self.inputs.alone:
            logits = logits_at(network, batch.inputs, position)
        else:
            whole = network(**batch.inputs, decoder_input_ids=batch.targets["before"]).logits
            logits = whole.flatten(0, 1)[position]
        return F.cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """A text a sample, as bytes: `Text.to_array`."""
        return [*self._generating.outputs(network, batch)]

    def tokens_held(self, n_tokens: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is read and what is written, of every beam."""
        return self._generating.tokens_held(n_tokens)

    def moved(self, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> float:
        """Whether the text is another one."""
        return texts_moved(before, after)

    def answer(self, example: Mapping[str, Any], output: npt.NDArray[Any]) -> Answer:
        """The text as `output`."""
        return answer_of(output)

    def judged(self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]]) -> Judged:
        """chrF."""
        from sparkml.measures.text_evaluation import judged_texts

        return judged_texts([Text.of_array(one).text for one in outputs], _references(examples))

    def evaluate(
        self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]], seed: int
    ) -> Evaluation | None:
        """chrF, BLEU, ROUGE and exact matches, with intervals and slices."""
        from sparkml.measures.text_evaluation import evaluate_texts
        from sparkml.tasks.evaluating import settings_of, slices_of

        found = [Text.of_array(one) for one in outputs]
        return evaluate_texts(
            [one.text for one in found],
            _references(examples),
            examples.column("doc_id").to_pylist(),
            confidences=np.array([one.score for one in found]),
            slices=slices_of(examples),
            settings=settings_of(seed),
        )

    def baseline(self, train: pa.Table, held_out: pa.Table, seed: int) -> Evaluation | None:
        """The target of the training text that is most alike, by TF-IDF."""
        from sparkml.tasks.baselines import joined_texts, nearest_rows, text_features

        features = text_features(joined_texts(train, ("text",)), joined_texts(held_out, ("text",)))
        nearest, likeness = nearest_rows(*features)
        targets = train.column("text_b").to_pylist()
        found = [
            Text(targets[row], float(like)).to_array() for row, like in zip(nearest, likeness, strict=True)
        ]
        return self.evaluate(held_out, found, seed)


def _references(examples: pa.Table) -> list[list[str]]:
    return [[text] for text in examples.column("text_b").to_pylist()]


TASK = Seq2Seq
