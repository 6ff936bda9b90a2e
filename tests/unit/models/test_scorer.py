"""The scorer: order, independence of company, float and int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sparkml.errors import InputError
from sparkml.inference.scorer import batches_by_length, load_scorer
from sparkml.models.int8 import Int8Linear
from sparkml.models.tokenizer import encode_batch, load_tokenizer
from sparkml.stages.compress import write_int8

TEXTS = ["win a prize now", "lunch tomorrow", "", "free cash " * 30, "train late home", "x", "click " * 12]


@pytest.fixture(scope="module")
def int8_folder(classifier_folder: Path) -> Path:
    target = classifier_folder.parent / "int8"
    target.mkdir()
    write_int8(classifier_folder, target)
    return target


@pytest.fixture(params=["float", "int8"])
def folder(request: pytest.FixtureRequest, classifier_folder: Path, int8_folder: Path) -> Path:
    return classifier_folder if request.param == "float" else int8_folder


def test_rows_are_probabilities_in_the_order_of_the_texts(folder: Path) -> None:
    scorer = load_scorer(folder)
    together = scorer.score(TEXTS)
    assert scorer.labels == ["a", "b", "c"]
    assert together.dtype == np.float32
    assert together.shape == (7, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(scorer.score(TEXTS[::-1])[::-1], together, atol=1e-5)
    assert len({row.tobytes() for row in together}) == 7


def test_a_row_does_not_depend_on_its_company(folder: Path) -> None:
    scorer = load_scorer(folder)
    alone = np.concatenate([scorer.score([text]) for text in TEXTS])
    np.testing.assert_allclose(scorer.score(TEXTS), alone, atol=1e-5)


def test_no_texts_give_no_rows(folder: Path) -> None:
    assert load_scorer(folder).score([]).shape == (0, 3)


def test_float_scores_are_those_of_the_network_on_one_document(classifier_folder: Path) -> None:
    scorer = load_scorer(classifier_folder)
    ids = encode_batch(load_tokenizer(classifier_folder / "tokenizer.json"), TEXTS[:1], 32)
    row = torch.tensor(ids)
    with torch.inference_mode():
        expected = torch.softmax(scorer._model(row, torch.ones_like(row, dtype=torch.bool)), dim=1)
    np.testing.assert_allclose(scorer.score(TEXTS[:1]), expected.numpy(), atol=1e-6)


def test_int8_agrees_with_float(classifier_folder: Path, int8_folder: Path) -> None:
    exact, quantised = load_scorer(classifier_folder).score(TEXTS), load_scorer(int8_folder).score(TEXTS)
    assert np.abs(exact - quantised).max() < 0.05
    assert not np.array_equal(exact, quantised)


def test_int8_folder_is_small_and_holds_no_pickle(classifier_folder: Path, int8_folder: Path) -> None:
    names = sorted(entry.name for entry in int8_folder.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (classifier_folder, int8_folder)]
    assert sizes[1] < 0.5 * sizes[0]


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


def test_an_int8_folder_cannot_be_compressed_again(int8_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already"):
        write_int8(int8_folder, tmp_path)


def test_an_encoder_is_no_classifier(encoder_folder: Path) -> None:
    with pytest.raises(InputError, match="no classifier"):
        load_scorer(encoder_folder)


def test_batches_keep_the_token_budget_and_every_row() -> None:
    rows = [[0] * length for length in (3, 10, 1, 7, 7, 2, 40)]
    batches = list(batches_by_length(rows, 20))
    assert batches == [[6], [1, 3], [4, 0], [5, 2]]
