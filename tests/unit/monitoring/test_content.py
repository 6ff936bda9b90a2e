"""The classifier that tells a window from the reference."""

import numpy as np
import pyarrow as pa
import pytest

from sparkml.monitoring.content import area_of, scaled_area, tell_apart, unit, word_vectors


def test_samples_of_one_distribution_cannot_be_told_apart():
    chance = np.random.default_rng(1)
    areas = [
        tell_apart(*(chance.normal(size=(n, 16)).astype(np.float32) for n in (150, 600)), seed).area
        for seed in range(30)
    ]
    scaled = [scaled_area(area, 150, 600) for area in areas]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)
    assert 1 < np.mean(scaled) < 2.5  # up to twice a squared standard normal


def test_a_shift_is_seen_and_the_rows_that_show_it_rank_first():
    chance = np.random.default_rng(2)
    reference = chance.normal(size=(400, 8)).astype(np.float32)
    window = chance.normal(size=(200, 8)).astype(np.float32)
    window[:100, 0] += 4
    told = tell_apart(window, reference, 3)
    assert told.area > 0.65
    assert told.ranks[:100].mean() > told.ranks[100:].mean() + 0.2


def test_the_area_is_that_of_the_rank_sum():
    chance = np.random.default_rng(4)
    window, reference = chance.normal(0.5, 1, (60, 3)), chance.normal(size=(90, 3))
    told = tell_apart(window.astype(np.float32), reference.astype(np.float32), 5)
    assert 0.5 < told.area < 1
    assert area_of(scaled_area(told.area, 60, 90), 60, 90) == pytest.approx(told.area)
    deviation = np.sqrt((60 + 90 + 1) / (12 * 60 * 90))
    assert scaled_area(0.5 + deviation, 60, 90) == pytest.approx(1)


def test_words_are_hashed_to_vectors_of_length_one():
    vectors = word_vectors(pa.array(["a b a", None, "", "c"]))
    assert vectors.shape == (4, 512)
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1, 0, 0, 1])
    assert vectors[0] @ vectors[3] == 0


def test_other_words_are_seen():
    old = pa.array([f"the film number {n} was good" for n in range(300)])
    new = pa.array([f"the kettle number {n} was loud" for n in range(100)])
    assert tell_apart(word_vectors(new), word_vectors(old), 1).area > 0.99
    assert unit(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]
