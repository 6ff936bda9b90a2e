"""The training loop without Spark: it learns, and it learns the same twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sparkml.errors import InputError, TrainingError
from sparkml.frame.progress import Progress
from sparkml.models.bert import BertClassifier
from sparkml.models.classifier import new_classifier
from sparkml.models.evaluation import HeldOut
from sparkml.models.tokenizer import encode_batch, load_tokenizer
from sparkml.stages.finetune.comparison import TrainingPlan, compare
from sparkml.stages.finetune.training import Budget, CurvePoint, LabelledTokens, predict, train_classifier
from tests.tiny import WORDS, tiny_encoder

BUDGET = Budget(
    max_steps=40,
    max_epochs=20,
    batch_size=8,
    learning_rate=3e-3,
    warmup_fraction=0.1,
    weight_decay=0.01,
    seed=3,
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("finetune") / "encoder")


def documents(encoder: Path, n: int, seed: int) -> LabelledTokens:
    """Label 0: words of the first list, label 1: words of the second."""
    random = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 2
    texts = [" ".join(random.choice(WORDS[label].split(), random.integers(3, 9))) for label in labels]
    tokenizer = load_tokenizer(encoder / "tokenizer.json")
    return LabelledTokens(encode_batch(tokenizer, texts, 32), labels)


def trained(encoder: Path, budget: Budget) -> tuple[BertClassifier, list[CurvePoint]]:
    torch.set_num_threads(1)
    model = new_classifier(encoder, 2, "mean", seed=0)
    train, probe = documents(encoder, 80, seed=1), documents(encoder, 20, seed=2)
    return model, train_classifier(model, train, probe, budget, lambda point: None)


def test_a_separable_corpus_is_learnt(encoder: Path) -> None:
    model, curve = trained(encoder, BUDGET)
    held_out = documents(encoder, 60, seed=9)
    assert (predict(model, held_out.input_ids) == held_out.labels).mean() > 0.95
    assert curve[-1].loss < 0.3 < curve[0].loss
    assert [point.step for point in curve] == list(range(1, 41))
    assert [point.step for point in curve if point.held_out_accuracy is not None] == [8, 16, 24, 32, 40]


def test_learning_rate_warms_up_and_decays(encoder: Path) -> None:
    _, curve = trained(encoder, BUDGET)
    rates = [point.learning_rate for point in curve]
    assert rates[:4] == pytest.approx([0.75e-3, 1.5e-3, 2.25e-3, 3e-3])
    assert rates[-1] == pytest.approx(3e-3 / 36)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_equal_seeds_give_equal_weights_others_do_not(encoder: Path) -> None:
    short = replace(BUDGET, max_steps=6)
    torch.manual_seed(1)
    first = trained(encoder, short)[0].state_dict()
    torch.manual_seed(2)  # whatever state the process is in
    second = trained(encoder, short)[0].state_dict()
    other = trained(encoder, replace(short, seed=4))[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_steps_end_with_the_epochs() -> None:
    assert BUDGET.steps(documents=1000) == 40
    assert BUDGET.steps(documents=9) == 40
    assert replace(BUDGET, max_epochs=2).steps(documents=17) == 6


def test_a_diverging_loss_stops_the_training(encoder: Path) -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        trained(encoder, replace(BUDGET, learning_rate=1e30))


def test_both_trainings_are_reported(encoder: Path) -> None:
    train, rest = documents(encoder, 40, seed=1), documents(encoder, 20, seed=2)
    held_out = HeldOut([str(number) for number in range(20)], list(rest.input_ids), rest.labels)
    plan = TrainingPlan(str(encoder), ("spam", "ham"), "cls", 0.0, replace(BUDGET, max_steps=5), True, 1)
    result = compare(plan, train, held_out, Progress())
    assert set(result.metrics()) == {"accuracy", "macro_f1", "random_accuracy", "random_macro_f1"}
    assert result.documents == 60
    assert [(row["weights"], row["step"]) for row in result.curve_rows()] == [
        (name, step) for name in ("pretrained", "random") for step in range(1, 6)
    ]
    assert [row["support"] for row in result.reports["random"]["classes"]] == [10, 10]


def test_nothing_held_out_is_an_error(encoder: Path) -> None:
    plan = TrainingPlan(str(encoder), ("spam", "ham"), "mean", 0.1, BUDGET, False, 1)
    with pytest.raises(InputError, match="validation_fraction"):
        compare(plan, documents(encoder, 10, 1), HeldOut([], [], np.array([], dtype=np.int64)), Progress())
