"""Find what answers a query: one unit vector a text, near to that of its answer.

    scorer = load_scorer("models/minilm", task="retrieve")     # a pretrained encoder answers as it is
    vectors = [answer.embedding for answer in scorer.answer(["who is at risk?"])]

Trained by in-batch negatives: of the passages of a micro batch a query's own is to be the nearest one (InfoNCE, van
den Oord et al. 2018, arXiv:1807.03748; Henderson et al. 2017, arXiv:1705.00652). So what is learnt from a row depends
on the others of its micro batch: on `batch_size`, `micro_batch_tokens` and the number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.errors import NotApplicableError
from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws
from sparkml.tasks.pair_samples import PAIR_COLUMNS, SECOND, Places, pair_places, pair_samples
from sparkml.tasks.retrieve_options import PASSAGE, QUERY, RetrieveOptions, resolved
from sparkml.tasks.task import Answer, Batch, Encoded, Loss, Purpose, Rows, Targets, Task
from sparkml.tasks.texts import IDS, TYPES, Texts, as_bytes, batch_of, missing_texts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparkml.measures.evaluation import Evaluation
    from sparkml.measures.judged import Judged
    from sparkml.measures.retrieval import Ranked
    from sparkml.models.text_encoder import Window

_SHOWN_CHARACTERS = 200
_SMALLEST = 1e-12
_PAIRS = "pairs"


class Retrieve(Task[RetrieveOptions]):
    """A unit vector per text."""

    name = "retrieve"
    summary = "a vector per text, near to that of what answers it"
    reads = ("text", "text_b")
    target_columns = ("text_b",)
    columns = PAIR_COLUMNS
    needs_training = False
    Options = RetrieveOptions

    def __init__(self, options: RetrieveOptions, targets: Targets, inputs: Any) -> None:
        super().__init__(resolved(options, inputs), targets, inputs)
        self._texts = Texts(inputs, self.options)

    @classmethod
    def read_inputs(cls, folder: str) -> Any:
        """The tokens of a model directory, and what it says of its vectors."""
        from sparkml.models.embedding import read_embedding_inputs

        return read_embedding_inputs(folder)

    @classmethod
    def count(cls, options: RetrieveOptions, examples: pa.RecordBatch) -> Mapping[str, float]:
        """Rows with a passage."""
        return {_PAIRS: sum(bool((text or "").strip()) for text in examples.column("text_b").to_pylist())}

    @classmethod
    def fit(cls, options: RetrieveOptions, counts: Mapping[str, Mapping[str, float]]) -> Targets:
        """Nothing; NotApplicableError where no training row has a passage."""
        if not counts.get("train", {}).get(_PAIRS):
            raise NotApplicableError(
                "there are no pairs to learn",
                where="column `text_b` of the training rows",
                expected="texts that answer those of column `text`",
                next_action="name the field: columns.text_b=COLUMN, or ingest.source.text_b_field",
            )
        return Targets()

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """A sample holds the first windows of query and passage, further samples one later window of either.

        To be trained on, the first windows alone. To be answered: a text, as what `side` says, without a passage.
        """
        sides = {"text": self.options.side} if purpose == "answer" else {"text": QUERY, "text_b": PASSAGE}
        texts = [examples.column(name).to_pylist() for name in sides]
        rejects = missing_texts(texts, list(sides))
        used = [place for place in range(examples.num_rows) if place not in rejects]
        windows = [
            self._windows([column[place] for place in used], side)
            for column, side in zip(texts, sides.values(), strict=True)
        ]
        is_learnt = [False] * examples.num_rows
        if purpose == "train":
            is_learnt = [split == "train" for split in examples.column("split").to_pylist()]
        return Encoded(pair_samples(used, windows, is_learnt), list(rejects.values()))

    def _windows(self, texts: Sequence[str], side: str) -> list[list[Window]]:
        prefix = self.options.query_prefix if side == QUERY else self.options.passage_prefix
        return self._texts.windows([f"{prefix or ''}{text}" for text in texts])

    def network(self) -> NetworkSpec:
        """The encoder without a head, and how its vectors become one."""
        return NetworkSpec("AutoModel", pooling=self.options.pooling, vector=True)

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """Padded ids of the queries; those of the passages are targets. See `_places` for the others."""
        queries, tokens, of_first = self._side(rows, "")
        if SECOND + IDS[0] not in rows:
            return batch_of(queries, {}, len(rows[IDS[0]]), tokens)
        passages, more, of_second = self._side(rows, SECOND)
        batch = batch_of(queries, pair_places(rows, of_first, of_second), len(rows[IDS[0]]), tokens + more)
        batch.targets.update({SECOND + name: tensor for name, tensor in passages.items()})
        return batch

    def _side(self, rows: Rows, prefix: str) -> tuple[dict[str, Tensor], int, Places]:
        """Tensors of the texts of one side, their tokens, and the samples that they are of.

        A side without any text gets one that is of no sample: ranks that share a model call it alike.
        """
        ids, types = (rows[prefix + name] for name in (IDS[0], TYPES[0]))
        of = np.flatnonzero([len(row) > 0 for row in ids])
        if not len(of):
            ids, types = (np.array([as_bytes([one])], object) for one in (self.inputs.pad_id, 0))
            return self._texts.tensors({IDS[0]: ids, TYPES[0]: types})[0], 0, of
        return *self._texts.tensors({IDS[0]: ids[of], TYPES[0]: types[of]}), of

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy of each query's passage among those of the micro batch, summed over pairs.

        `symmetric`: half of it, and half of that of each passage's query among the queries.
        """
        losses, _ = self._compared(network, batch)
        return Loss(losses.sum(), float(len(losses)))

    def _compared(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the pairs of a batch: losses [pairs], and whether no wrong passage is as near as the right one."""
        import torch

        queries, passages = self._vectors(network, batch)
        places = batch.targets
        logits = queries[places["pair_first"]] @ passages[places["pair_second"]].T / self.options.temperature
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(~(places["apart"] | own), -torch.inf)
        right = logits.diagonal()
        losses = logits.logsumexp(dim=1) - right
        if self.options.symmetric:
            losses = (losses + logits.logsumexp(dim=0) - right) / 2
        return losses, ~((logits >= right[:, None]) & ~own).any(dim=1)

    def _vectors(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit vectors, float32 [queries, width] and [passages, width]."""
        passages = {
            name: batch.targets[SECOND + name] for name in batch.inputs if SECOND + name in batch.targets
        }
        return _unit(network, batch.inputs), _unit(network, passages)

    @property
    def n_sums(self) -> int:
        """Loss, pairs whose passage is the nearest, pairs."""
        return 3

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """Over the pairs of a micro batch: it decides among how many passages one is to be found."""
        import torch

        losses, right = self._compared(network, batch)
        return torch.stack([losses.sum(), right.sum(), losses.new_tensor(len(losses))]).double()

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """Loss, and the share of queries that find their passage within their micro batch."""
        loss, right, _ = sums / max(sums[2], 1.0)
        return {"loss": float(loss), "in_batch_recall_at_1": float(right)}

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """Two unit vectors, float32 [2 width] a sample: of query and passage, not numbers where it has none."""
        import torch

        if not batch.targets:
            queries = _unit(network, batch.inputs).cpu().numpy()
            return list(np.concatenate([queries, np.full_like(queries, np.nan)], axis=1))
        sides = self._vectors(network, batch)
        found = torch.full((batch.rows, 2, sides[0].shape[1]), torch.nan, device=sides[0].device)
        for side, (vectors, name) in enumerate(zip(sides, ("of_first", "of_second"), strict=True)):
            of = batch.targets[name]
            found[of, side] = vectors[: len(of)]
        return list(found.flatten(1).cpu().numpy())

    def combine(self, windows: Rows, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The mean of the unit vectors of a text's windows, as a unit vector."""
        if len(outputs) == 1:
            return outputs[0]
        both = np.stack(outputs).reshape(len(outputs), 2, -1).astype(np.float64)
        sums = np.nansum(both, axis=0)
        sums[np.isnan(both).all(axis=0)] = np.nan
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray((sums / np.maximum(lengths, _SMALLEST)).astype(np.float32).ravel())

    def answer(self, example: Mapping[str, Any], output: npt.NDArray[Any]) -> Answer:
        """The vector as `embedding`."""
        vector = _sides(output)[0]
        if not np.isfinite(vector).all():
            return Answer(error="the model's vector is not finite")
        if not vector.any():
            return Answer(error="the model's vector has no direction")
        return Answer(embedding=vector.tolist())

    def evaluate(
        self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]], seed: int
    ) -> Evaluation | None:
        """Recall@1, 5 and 10, MRR@10 and nDCG@10 among all passages of the examples, equal ones counted once."""
        passages, gold, firsts = _passages_of(examples)
        return _evaluation(examples, _ranked(outputs, gold, firsts), gold, passages, seed)

    def judged(self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]]) -> Judged:
        """MRR@10; another answer is another passage in the first place."""
        from sparkml.measures.retrieval import judged_retrieval

        _, gold, firsts = _passages_of(examples)
        return judged_retrieval(_ranked(outputs, gold, firsts))

    def baseline(self, train: pa.Table, held_out: pa.Table, seed: int) -> Evaluation | None:
        """BM25 over the passages of the held-out examples; it learns nothing of the others."""
        from sparkml.measures.retrieval import rank_passages
        from sparkml.tasks.bm25 import bm25_scores

        passages, gold, _ = _passages_of(held_out)
        scores = bm25_scores([text or "" for text in held_out.column("text").to_pylist()], passages)
        return _evaluation(held_out, rank_passages(scores, gold, len(passages)), gold, passages, seed)


def _unit(network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    from torch.nn import functional as F

    return F.normalize(network(**inputs).logits.float(), dim=1)


def _sides(output: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[2, width]: the vectors of query and passage."""
    return output.reshape(2, -1)


def _passages_of(examples: pa.Table) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The different passages, which one each example has, and the first example that each of them is of."""
    texts = examples.column("text_b").to_pylist()
    number: dict[str, int] = {}
    gold = np.array([number.setdefault(text or "", len(number)) for text in texts], np.int64)
    return list(number), gold, np.unique(gold, return_index=True)[1]


def _ranked(outputs: Sequence[npt.NDArray[Any]], gold: npt.NDArray[Any], firsts: npt.NDArray[Any]) -> Ranked:
    from sparkml.measures.retrieval import nearest, rank_passages

    vectors = np.stack([_sides(output) for output in outputs])
    return rank_passages(nearest(vectors[:, 0], vectors[firsts, 1]), gold, len(firsts))


def _evaluation(
    examples: pa.Table, ranked: Ranked, gold: npt.NDArray[Any], passages: Sequence[str], seed: int
) -> Evaluation:
    from sparkml.measures.retrieval import evaluate_retrieval
    from sparkml.tasks.evaluating import settings_of, slices_of

    ids = examples.column("doc_id").to_pylist()
    shown = [text[:_SHOWN_CHARACTERS] for text in passages]
    return evaluate_retrieval(
        ranked, gold, ids, shown, slices=slices_of(examples), settings=settings_of(seed)
    )


TASK = Retrieve
