"""Where training starts: frequencies in the bias, topics in the embeddings."""

from __future__ import annotations

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM

from sparkml.models.spectral import spectral_embeddings, start_bias, start_embeddings

# Tokens 5..14 occur in samples of one topic, 15..24 in those of the other, 25 never.
TOPICS = (range(5, 15), range(15, 25))
VOCABULARY = 26
CLS_ID = 2
SPECIAL = (0, 1, 2, 3, 4)


def network() -> BertForMaskedLM:
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    return BertForMaskedLM(config)


def topic_rows(samples: int = 40, length: int = 12) -> np.ndarray:
    rng = np.random.default_rng(3)
    words = [rng.choice(TOPICS[sample % 2], length) for sample in range(samples)]
    return np.column_stack([np.full(samples, CLS_ID), words]).astype(np.int32)


def cosines(vectors: torch.Tensor, first: range, second: range) -> torch.Tensor:
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return unit[list(first)] @ unit[list(second)].T


def test_tokens_of_one_topic_lie_together():
    vectors = spectral_embeddings(topic_rows(), SPECIAL, VOCABULARY, width=2, seed=1)
    assert vectors.shape == (VOCABULARY, 2)
    for topic, other in (TOPICS, TOPICS[::-1]):
        assert cosines(vectors, topic, topic).mean() > 0.9
        assert cosines(vectors, topic, other).abs().mean() < 0.1
    # What is in every sample, or in none, tells nothing.
    assert vectors[CLS_ID].norm() == vectors[25].norm() == 0


def test_equal_seeds_give_equal_vectors_and_leave_the_random_state():
    before = torch.get_rng_state()
    first, second = (
        spectral_embeddings(topic_rows(), SPECIAL, VOCABULARY, width=8, seed=1) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_takes_them_in_its_own_spread():
    model = network()
    weight = model.bert.embeddings.word_embeddings.weight
    untouched = weight[[CLS_ID, 25]].clone()
    start_embeddings(model, topic_rows(), SPECIAL, seed=1)
    told = weight[5:25]  # as many samples and tokens as dimensions, and more
    torch.testing.assert_close(told.square().mean().sqrt(), torch.tensor(model.config.initializer_range))
    assert torch.equal(weight[[CLS_ID, 25]], untouched)


def test_fewer_samples_than_dimensions_leave_the_rest_random():
    model = network()
    weight = model.bert.embeddings.word_embeddings.weight
    before = weight.clone()
    start_embeddings(model, topic_rows(samples=4), SPECIAL, seed=1)
    assert torch.equal(weight[:, 4:], before[:, 4:])
    assert not torch.equal(weight[5:25, :4], before[5:25, :4])


def test_one_sample_tells_nothing():
    model = network()
    before = model.bert.embeddings.word_embeddings.weight.clone()
    start_embeddings(model, topic_rows(samples=1), SPECIAL, seed=1)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, before)


def test_special_tokens_alone_tell_nothing():
    vectors = spectral_embeddings(
        np.full((3, 4), CLS_ID, dtype=np.int32), SPECIAL, VOCABULARY, width=2, seed=1
    )
    assert vectors.shape == (VOCABULARY, 0)


def test_the_bias_is_the_log_frequency():
    model = network()
    rows = np.array([[7, 7, 7, 8]], dtype=np.int32)
    start_bias(model, rows)
    bias = model.cls.predictions.bias
    # Every token counts once more than it occurs.
    torch.testing.assert_close(bias[7] - bias[8], torch.tensor(np.log(4 / 2)).float())
    torch.testing.assert_close(bias.exp().sum(), torch.tensor(1.0))
