"""What is drawn for a sample does not depend on its company, on any task that draws."""

from __future__ import annotations

import numpy as np

from sparkml.tasks.draws import draws_by_content, draws_of


def drawn(draws) -> list[list[float]]:
    return [rng.random(3).tolist() for rng in draws]


def test_a_sample_draws_the_same_whatever_is_beside_it_and_anew_in_each_step() -> None:
    whole = drawn(draws_of(1, 7, [4, 5, 6]))
    assert drawn(draws_of(1, 7, [6])) == whole[2:]
    others = [draws_of(1, 8, [4]), draws_of(2, 7, [4]), draws_of(1, 7, [5])]
    assert all(drawn(other)[0] != whole[0] for other in others)


def test_a_row_that_is_measured_draws_by_what_it_holds() -> None:
    ids = np.array([[1, 2], [3, 4]])
    assert drawn(draws_by_content(ids))[1:] == drawn(draws_by_content(ids[1:]))
    assert drawn(draws_by_content(ids))[0] != drawn(draws_by_content(ids))[1]
