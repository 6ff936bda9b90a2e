"""The scorer: order, independence of company, float and int8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from sparkml.errors import InputError, UsageError
from sparkml.feed.batches import parts_of
from sparkml.inference.scorer import Scorer, load_scorer
from sparkml.models.int8 import Int8Linear, quantise_rows
from sparkml.models.networks import load_network
from sparkml.tasks.task import make_task, task_spec
from tests.forms import compressed

TEXTS = ["win a prize now", "lunch tomorrow", "?", "free cash " * 30, "train late home", "x", "click " * 12]


@pytest.fixture(scope="module")
def int8_folder(classifier_folder: Path) -> Path:
    return compressed(classifier_folder, classifier_folder.parent / "int8")


@pytest.fixture(params=["float", "int8"])
def folder(request: pytest.FixtureRequest, classifier_folder: Path, int8_folder: Path) -> Path:
    return classifier_folder if request.param == "float" else int8_folder


def scores(scorer: Scorer, texts: list[str]) -> npt.NDArray[np.float64]:
    """[texts, labels] in the order of the labels."""
    return np.array(
        [[dict(one.scores or [])[label] for label in scorer.labels] for one in scorer.answer(texts)]
    )


def test_answers_are_probabilities_in_the_order_of_the_texts(folder: Path) -> None:
    scorer = load_scorer(folder)
    together = scores(scorer, TEXTS)
    assert scorer.labels == ("a", "b", "c")
    assert together.shape == (7, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(scores(scorer, TEXTS[::-1])[::-1], together, atol=1e-5)
    assert len({row.tobytes() for row in together}) == 7
    for answer, row in zip(scorer.answer(TEXTS), together, strict=True):
        assert answer.prediction == scorer.labels[int(row.argmax())]
        assert answer.score == row.max()
        assert [score for _, score in answer.scores] == sorted(row, reverse=True)


def test_an_answer_does_not_depend_on_its_company(folder: Path) -> None:
    scorer = load_scorer(folder)
    alone = np.concatenate([scores(scorer, [text]) for text in TEXTS])
    np.testing.assert_allclose(scores(scorer, TEXTS), alone, atol=1e-5)


def test_nor_on_the_size_of_forward_passes_or_on_other_windows(classifier_folder: Path) -> None:
    scorer = load_scorer(classifier_folder)
    spec = task_spec(scorer.task)
    spec["options"] |= {"max_length": 12, "max_windows": 4, "overlap": 2}
    found = []
    for budget in (1, 40, 10_000):
        task = make_task(spec, scorer.task.inputs)
        found.append(scores(Scorer(task, scorer.network, token_budget=budget), TEXTS))
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)
    np.testing.assert_allclose(found[1], found[2], atol=1e-5)


class Hungry(nn.Module):
    """A network that wants more memory than there is for more than `most` rows."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.rows = network, most, []

    def forward(self, input_ids: Tensor, **others: Tensor) -> SimpleNamespace:
        self.rows.append(len(input_ids))
        if len(input_ids) > self.most:
            torch.empty(1 << 60, dtype=torch.int8)
        return self.network(input_ids, **others)


def test_where_memory_does_not_suffice_a_forward_pass_is_halved(classifier_folder: Path) -> None:
    scorer = load_scorer(classifier_folder, engine_name="torch")
    expected, network = scores(scorer, TEXTS), Hungry(scorer.network, 2)
    frugal = Scorer(scorer.task, network, token_budget=10_000)
    np.testing.assert_allclose(scores(frugal, TEXTS), expected, atol=1e-5)
    assert network.rows[0] == 7
    assert max(network.rows[2:]) <= 4
    with pytest.raises(RuntimeError, match="memory"):
        Scorer(scorer.task, Hungry(scorer.network, 0)).answer(TEXTS)


def test_other_errors_of_a_network_are_not_tried_again(classifier_folder: Path) -> None:
    scorer = load_scorer(classifier_folder, engine_name="torch")
    calls = []

    def fails(**inputs: Tensor) -> None:
        calls.append(1)
        raise RuntimeError("wrong shape")

    with pytest.raises(RuntimeError, match="wrong shape"):
        Scorer(scorer.task, fails).answer(TEXTS)
    assert len(calls) == 1


@pytest.mark.parametrize("engine", ["encoder", "torch"])
def test_weights_are_mapped_so_that_workers_share_them(classifier_folder: Path, engine: str) -> None:
    code = (
        "import sys; from sparkml.inference.scorer import load_scorer\n"
        f"scorer = load_scorer(sys.argv[1], engine_name={engine!r}); scorer.answer(['win a prize'])\n"
        "parts = open('/proc/self/smaps').read().split('VmFlags')\n"
        "mapped = [part for part in parts if 'model.safetensors' in part]\n"
        "print(*(sum(int(line.split()[1]) for part in mapped for line in part.splitlines()"
        " if line.startswith(name)) for name in ('Size', 'Private_Dirty')))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(classifier_folder)], capture_output=True, text=True, check=True
    )
    size, changed = map(int, said.stdout.split())
    assert size * 1024 >= (classifier_folder / "model.safetensors").stat().st_size
    assert changed == 0


def test_no_texts_give_no_answers(folder: Path) -> None:
    assert load_scorer(folder).answer([]) == []


def test_a_text_that_is_missing_has_an_error_and_others_have_answers(folder: Path) -> None:
    found = load_scorer(folder).answer([None, "win a prize", "  "])
    assert [one.error for one in found] == ["text_missing null", None, "text_missing empty"]
    assert [one.prediction is None for one in found] == [True, False, True]
    assert [one.n_tokens > 0 for one in found] == [False, True, False]


def test_other_columns_than_the_tasks_are_wrong_use(classifier_folder: Path) -> None:
    scorer = load_scorer(classifier_folder)
    with pytest.raises(UsageError, match=r"got: text_b[\s\S]*expected: text"):
        scorer.answer(text_b=["a"])


def test_scores_are_those_of_the_network_on_one_text(classifier_folder: Path) -> None:
    scorer = load_scorer(classifier_folder)
    ((window,),) = scorer.task.inputs.encoder().encode(TEXTS[:1], max_length=32)
    network = load_network(
        classifier_folder, "AutoModelForSequenceClassification", labels=("a", "b", "c")
    ).network
    with torch.inference_mode():
        expected = network.eval()(input_ids=torch.tensor([window.ids])).logits.softmax(dim=1)
    np.testing.assert_allclose(scores(scorer, TEXTS[:1]), expected.numpy(), atol=1e-6)
    assert scorer.answer(TEXTS[:1])[0].n_tokens == len(window.ids)


def test_the_end_of_a_long_text_counts(classifier_folder: Path) -> None:
    scorer = load_scorer(classifier_folder)
    spec = task_spec(scorer.task)
    spec["options"] |= {"max_length": 32, "max_windows": 8}
    long = Scorer(make_task(spec, scorer.task.inputs), scorer.network)
    start, end = "free cash " * 20, "meeting friend " * 9
    assert np.abs(scores(long, [start + end]) - scores(long, [start])).max() > 3e-5
    np.testing.assert_array_equal(scores(scorer, [start + end]), scores(scorer, [start]))


def test_int8_agrees_with_float(classifier_folder: Path, int8_folder: Path) -> None:
    exact, quantised = (scores(load_scorer(folder), TEXTS) for folder in (classifier_folder, int8_folder))
    assert np.abs(exact - quantised).max() < 0.05
    assert not np.array_equal(exact, quantised)


def test_int8_folder_is_small_and_holds_no_pickle(classifier_folder: Path, int8_folder: Path) -> None:
    names = sorted(entry.name for entry in int8_folder.iterdir())
    assert names == [
        "compression.json",
        "config.json",
        "inputs.json",
        "int8",
        "task.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [entry.name for entry in (int8_folder / "int8").iterdir()] == ["model.safetensors"]
    small = (int8_folder / "int8" / "model.safetensors").stat().st_size
    assert small < 0.5 * (classifier_folder / "model.safetensors").stat().st_size


def test_int8_linear_is_the_rounded_product() -> None:
    random = torch.Generator().manual_seed(0)
    linear = nn.Linear(24, 10)
    hidden = torch.randn(2, 5, 24, generator=random)
    got = Int8Linear.of(linear)(hidden)
    for batch in range(2):
        for token in range(5):
            row = hidden[batch, token].double()
            scale = row.abs().max() / 127
            rounded = (row / scale).round() * scale
            weight = linear.weight.detach().double()
            weight_scale = weight.abs().amax(dim=1, keepdim=True) / 127
            expected = rounded @ ((weight / weight_scale).round() * weight_scale).T + linear.bias.double()
            torch.testing.assert_close(got[batch, token].double(), expected.detach(), atol=2e-3, rtol=0)


def test_a_token_has_its_own_scale() -> None:
    token = torch.tensor([[0.5, -0.25, 0.1]])
    loud = torch.tensor([[900.0, -3.0, 5.0]])
    alone, _ = quantise_rows(token)
    together, scales = quantise_rows(torch.cat([token, loud]))
    assert torch.equal(together[:1], alone)
    torch.testing.assert_close(scales, torch.tensor([0.5, 900.0]) / 127)
    linear = Int8Linear.of(nn.Linear(3, 2))
    assert torch.equal(linear(torch.cat([token, loud]))[:1], linear(token))


def test_an_int8_folder_cannot_be_compressed_again(int8_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already"):
        compressed(int8_folder, tmp_path / "again")


def test_parts_keep_the_token_budget_and_every_row() -> None:
    rows = {"n_tokens": np.array([3, 10, 1, 7, 7, 2, 40]), "place": np.arange(7)}
    parts = [part["place"].tolist() for part in parts_of(rows, 20)]
    assert parts == [[6], [1, 3], [4, 0], [5, 2]]
    assert list(parts_of({}, 20)) == []
    packed = {"input_ids": np.zeros((5, 8), np.int32)}
    assert [len(part["input_ids"]) for part in parts_of(packed, 16)] == [2, 2, 1]
