"""Documents longer than the encoder reads at once: windows, pooled over the whole document."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparkml.inference.scorer import padded
from sparkml.models.bert import BertClassifier
from sparkml.models.classifier import fill_encoder, new_classifier
from sparkml.models.encoder import load_encoder
from tests.tiny import SHAPE

WINDOW = SHAPE.max_length


def classifier(encoder_folder: Path, pooling: str) -> BertClassifier:
    model = new_classifier(encoder_folder, 3, pooling, seed=5)
    fill_encoder(model, encoder_folder)
    with torch.no_grad():
        model.classifier.weight.mul_(40.0)
    return model.eval()


def logits(model: BertClassifier, *documents: list[int]) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(*padded(documents))
    return found


def document(length: int, seed: int) -> list[int]:
    return torch.randint(5, 200, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("length", [WINDOW + 1, 2 * WINDOW, 3 * WINDOW - 5])
def test_the_mean_is_over_the_tokens_of_all_windows(encoder_folder: Path, length: int) -> None:
    model, theirs = classifier(encoder_folder, "mean"), load_encoder(encoder_folder)
    ids = document(length, seed=1)
    with torch.inference_mode():
        vectors = torch.cat(
            [
                theirs(input_ids=torch.tensor([ids[start : start + WINDOW]])).last_hidden_state[0]
                for start in range(0, length, WINDOW)
            ]
        )
        expected = model.classifier(vectors.mean(dim=0))
    torch.testing.assert_close(logits(model, ids)[0], expected, atol=1e-4, rtol=1e-4)


def test_long_and_short_documents_do_not_touch_each_other(encoder_folder: Path) -> None:
    model = classifier(encoder_folder, "mean")
    documents = [document(length, seed=length) for length in (3, WINDOW, 2 * WINDOW + 7, WINDOW + 1, 5)]
    alone = torch.cat([logits(model, ids) for ids in documents])
    torch.testing.assert_close(logits(model, *documents), alone, atol=1e-4, rtol=1e-4)


def test_the_end_of_a_long_document_counts(encoder_folder: Path) -> None:
    start, end, other = document(WINDOW, seed=1), document(WINDOW, seed=2), document(WINDOW, seed=3)
    mean, cls = classifier(encoder_folder, "mean"), classifier(encoder_folder, "cls")
    assert not torch.allclose(logits(mean, start + end), logits(mean, start + other))
    torch.testing.assert_close(logits(cls, start + end), logits(cls, start))


def test_gradients_reach_every_window(encoder_folder: Path) -> None:
    model = classifier(encoder_folder, "mean")
    first, last = document(WINDOW, seed=1), [201] * 3  # a token that only the last window has
    model(*padded([first + last])).sum().backward()
    gradient = model.bert.embeddings.word_embeddings.weight.grad
    assert gradient is not None
    assert gradient[201].abs().sum() > 0
