"""What tasks that answer by label share: one label an example or several (`a|b`), whatever the example is."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.models.networks import NetworkSpec
from sparkml.tasks.hashing import unit_hash
from sparkml.tasks.label_counts import SEVERAL, LabelOptions, labels_of, learnt_labels
from sparkml.tasks.task import Answer, Batch, Float32, Loss, Purpose, Reject, Rows, Targets, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparkml.measures.evaluation import Evaluation
    from sparkml.measures.judged import Judged

TARGET = ("target", pa.binary())
_UNKNOWN = -1
_TIE = 1e-6


LabelOptionsT = TypeVar("LabelOptionsT", bound=LabelOptions)


class Labels(Task[LabelOptionsT]):
    """Base: a task adds what an example is, how it is encoded, collated and described to a linear model."""

    target_columns = ("label",)
    sample_targets = ("target",)

    def __init__(self, options: LabelOptionsT, targets: Targets, inputs: Any) -> None:
        super().__init__(options, targets, inputs)
        self._index = {label: number for number, label in enumerate(targets.labels)}

    @classmethod
    def count(cls, options: LabelOptionsT, examples: pa.RecordBatch) -> Mapping[str, float]:
        """Rows of each label."""
        found: Counter[str] = Counter()
        for label in examples.column("label").to_pylist():
            found.update(labels_of(label, several=options.several))
        return found

    @classmethod
    def fit(cls, options: LabelOptionsT, counts: Mapping[str, Mapping[str, float]]) -> Targets:
        """See `learnt_labels`."""
        return learnt_labels(options, counts)

    def classifier(self, head: str, pooling: str = "") -> NetworkSpec:
        """A network that answers the labels, under transformers' Auto class `head`."""
        kind = f"{'multi' if self.options.several else 'single'}_label_classification"
        return NetworkSpec(head, self.targets.labels, {"problem_type": kind}, pooling)

    def targets_of(
        self, examples: pa.RecordBatch, rejects: dict[int, Reject], purpose: Purpose
    ) -> list[bytes | None]:
        """Column `target` by example; to `rejects` come those without a label that is learnt, and those over a cap."""
        targets: list[bytes | None] = [None] * examples.num_rows
        if purpose != "answer":
            self._label(examples, rejects, targets, capped=purpose == "train")
        return targets

    def _label(
        self,
        examples: pa.RecordBatch,
        rejects: dict[int, Reject],
        targets: list[bytes | None],
        *,
        capped: bool,
    ) -> None:
        if capped:
            ids, splits = examples.column("doc_id").to_pylist(), examples.column("split").to_pylist()
        for place, label in enumerate(examples.column("label").to_pylist()):
            if place in rejects:
                continue
            names = labels_of(label, several=self.options.several)
            known = [self._index[name] for name in names if name in self._index]
            if not names and not self.options.several:
                rejects[place] = Reject(place, "label_missing")
            elif not known and names:
                rejects[place] = Reject(place, "label_not_learnt", names[0])
            elif capped and (over := self._over_cap(place, ids[place], splits[place], known)) is not None:
                rejects[place] = over
            else:
                targets[place] = np.asarray(known, "<i4").tobytes()

    def _over_cap(self, place: int, doc_id: str, split: str, known: Sequence[int]) -> Reject | None:
        part = "train" if split == "train" else "held_out"
        shares = [self.targets.numbers.get(f"{part}:{self.targets.labels[number]}", 1.0) for number in known]
        if not shares or max(shares) >= 1:
            return None
        drawn = unit_hash(doc_id)
        if drawn < max(shares):
            return None
        return Reject(place, "over_label_cap", self.targets.labels[known[0]], drawn, max(shares))

    def gold_of(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """`target` int64 [rows], or float32 [rows, labels] for several labels; nothing of rows to be answered."""
        if "target" not in rows:
            return {}
        known = [np.frombuffer(row or b"", "<i4") for row in rows["target"]]
        if not self.options.several:
            firsts = (labels[0] if len(labels) else _UNKNOWN for labels in known)
            return {"target": np.fromiter(firsts, np.int64, len(known))}
        matrix = np.zeros((len(known), len(self.targets.labels)), np.float32)
        for number, labels in enumerate(known):
            matrix[number, labels] = 1.0
        return {"target": matrix}

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy (binary with several labels), summed over rows; weighted or focal where asked for."""
        logits = network(**batch.inputs).logits.float()
        return Loss(self._row_losses(logits, batch.targets["target"]).sum(), float(batch.rows))

    def _row_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        from torch.nn import functional as F

        options, weights = self.options, self._weights(logits)
        if options.several:
            losses = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none")
            if options.focal_gamma:
                sure = (logits.sigmoid() - (1 - target)).abs()
                losses = losses * (1 - sure) ** options.focal_gamma
            return losses.mean(dim=1)
        losses = F.cross_entropy(
            logits, target, weight=weights, reduction="none", label_smoothing=options.label_smoothing
        )
        if options.focal_gamma:
            shares = target if target.dim() == 2 else F.one_hot(target, logits.shape[1])  # mixed examples
            losses = losses * (1 - (logits.softmax(dim=1) * shares).sum(dim=1)) ** options.focal_gamma
        return losses

    def _weights(self, like: Tensor) -> Tensor | None:
        if not self.options.class_weights:
            return None
        counts = np.array([self.targets.counts[label] for label in self.targets.labels], np.float64)
        return like.new_tensor(counts.sum() / (len(counts) * counts))

    def distance(self, logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """See `Task`; with several labels the mean over the labels, each a yes or no."""
        if not self.options.several:
            return super().distance(logits, taught, temperature)
        from torch.nn import functional as F

        ours, theirs = logits / temperature, (taught / temperature).sigmoid()
        crossed = F.binary_cross_entropy_with_logits(ours, theirs, reduction="none")
        least = F.binary_cross_entropy_with_logits(taught / temperature, theirs, reduction="none")
        return (crossed - least).mean(dim=1).sum() * temperature**2

    @property
    def n_sums(self) -> int:
        """Three numbers, and three a label."""
        return 3 + 3 * len(self.targets.labels)

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """Loss, rows, rows that are right, and per label hits, predicted, gold."""
        import torch

        target = batch.targets["target"]
        logits = network(**batch.inputs).logits.float()
        gold, guess = self._marks(target), self._marks_of(logits)
        right = (gold == guess).all(dim=1).sum()
        head = torch.stack(
            [self._row_losses(logits, target).sum(), logits.new_tensor(batch.rows), right.float()]
        )
        per_label = torch.cat([(gold & guess).sum(0), guess.sum(0), gold.sum(0)])
        return torch.cat([head.double(), per_label.double()])

    def _marks(self, target: Tensor) -> Tensor:
        from torch.nn import functional as F

        return target.bool() if self.options.several else F.one_hot(target, len(self.targets.labels)).bool()

    def _marks_of(self, logits: Tensor) -> Tensor:
        from torch.nn import functional as F

        if self.options.several:
            return logits.sigmoid() >= self.options.threshold
        return F.one_hot(logits.argmax(dim=1), len(self.targets.labels)).bool()

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """Loss, accuracy (of the whole set of labels) and macro F1."""
        loss, rows, right = sums[:3]
        hits, guessed, gold = sums[3:].reshape(3, -1)
        both = guessed + gold
        f1 = np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0)
        present = gold > 0
        return {
            "loss": float(loss / max(rows, 1)),
            "accuracy": float(right / max(rows, 1)),
            "macro_f1": float(f1[present].mean()) if present.any() else 0.0,
        }

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """Probabilities, float32 [labels] a sample."""
        logits = network(**batch.inputs).logits.float()
        probabilities = logits.sigmoid() if self.options.several else logits.softmax(dim=1)
        return list(probabilities.cpu().numpy())

    def combine(self, windows: Rows, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """What the windows say together, by `task.combine`; probabilities of one label sum up to 1."""
        if len(outputs) == 1:
            return outputs[0]
        said, options = np.stack(outputs), self.options
        if options.combine == "vote" and options.several:
            said = said >= options.threshold
        elif options.combine == "vote":
            # Of labels with as many votes the more probable one is ahead.
            said = (np.eye(said.shape[1])[said.argmax(axis=1)] + _TIE * said) / (1 + _TIE)
        if options.combine == "highest":
            highest: Float32 = said.max(axis=0)
            return highest if options.several else highest / highest.sum()
        weights = windows["n_tokens"] if options.combine == "mean" else None
        return np.average(said, axis=0, weights=weights).astype(np.float32)

    def answer(self, example: Mapping[str, Any], output: npt.NDArray[Any]) -> Answer:
        """Labels by falling probability."""
        if not np.isfinite(output).all():
            return Answer(error="the model's scores are not finite")
        order = np.argsort(-output, kind="stable")  # of equal scores the first label comes first
        ranked = [(self.targets.labels[number], float(output[number])) for number in order]
        if not self.options.several:
            return Answer(ranked[0][0], ranked[0][1], ranked)
        named = sorted(label for label, score in ranked if score >= self.options.threshold)
        return Answer(SEVERAL.join(named), ranked[0][1], ranked)

    def evaluate(
        self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]], seed: int
    ) -> Evaluation | None:
        """Precision, recall and F1 by label, averages, confusion, calibration, intervals, worst mistakes."""
        from sparkml.measures.label_evaluation import evaluate_labels
        from sparkml.measures.multilabel_evaluation import evaluate_multilabel
        from sparkml.tasks.evaluating import settings_of, slices_of

        ids = examples.column("doc_id").to_pylist()
        shared: dict[str, Any] = {"slices": slices_of(examples), "settings": settings_of(seed)}
        probabilities = np.stack(outputs)
        if self.options.several:
            gold = self._gold_sets(examples)
            return evaluate_multilabel(
                gold, probabilities, self.targets.labels, ids, threshold=self.options.threshold, **shared
            )
        return evaluate_labels(self._gold(examples), probabilities, self.targets.labels, ids, **shared)

    def judged(self, examples: pa.Table, outputs: Sequence[npt.NDArray[Any]]) -> Judged:
        """Accuracy, of the whole set where a row has several labels."""
        from sparkml.measures.judged import share_right

        said = np.array([self.answer({}, output).prediction for output in outputs], object)
        probabilities = np.stack(outputs)
        if self.options.several:
            right = ((probabilities >= self.options.threshold) == self._gold_sets(examples)).all(axis=1)
        else:
            right = probabilities.argmax(axis=1) == self._gold(examples)
        return share_right(right, said)

    @abstractmethod
    def features(self, train: pa.Table, held_out: pa.Table) -> tuple[Any, Any]:
        """What the linear model sees of the examples: two matrices of a row each."""

    def baseline(self, train: pa.Table, held_out: pa.Table, seed: int) -> Evaluation | None:
        """Logistic regression on `features`; None where its weights would be too many."""
        from sparkml.tasks.baselines import MOST_WEIGHTS, linear_classes, linear_sets

        train = self._known(train)
        if not train.num_rows:
            return None
        train_x, held_x = self.features(train, held_out)
        if train_x.shape[1] * len(self.targets.labels) > MOST_WEIGHTS:
            return None
        if self.options.several:
            found = linear_sets(train_x, self._gold_sets(train), held_x, seed)
        else:
            found = linear_classes(train_x, self._gold(train), held_x, len(self.targets.labels), seed)
        return self.evaluate(held_out, list(found), seed)

    def _known(self, examples: pa.Table) -> pa.Table:
        """The examples whose label is learnt."""
        several = self.options.several
        names = [labels_of(label, several=several) for label in examples.column("label").to_pylist()]
        known = [any(name in self._index for name in row) or (several and not row) for row in names]
        return examples.filter(pa.array(known))

    def _gold(self, examples: pa.Table) -> npt.NDArray[np.int64]:
        labels = examples.column("label").to_pylist()
        return np.fromiter((self._index[label.strip()] for label in labels), np.int64, len(labels))

    def _gold_sets(self, examples: pa.Table) -> npt.NDArray[np.bool_]:
        gold = np.zeros((examples.num_rows, len(self.targets.labels)), np.bool_)
        for row, label in enumerate(examples.column("label").to_pylist()):
            for name in labels_of(label, several=True):
                if name in self._index:
                    gold[row, self._index[name]] = True
        return gold
