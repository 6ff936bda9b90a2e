"""Statistics of two samples beside scipy's, and beside what they are by hand."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from sparkml.monitoring.statistics import (
    STATISTICS,
    chi_square,
    effective_rows,
    in_rows,
    jensen_shannon,
    kolmogorov_smirnov,
    of_rows,
    population_stability,
)

FIRST, SECOND = [30, 50, 20, 0], [300, 350, 310, 40]


def test_chi_square_is_that_of_the_contingency_table():
    expected = stats.chi2_contingency([FIRST, SECOND], correction=False).statistic
    assert chi_square(FIRST, SECOND) == pytest.approx(expected)


def test_chi_square_leaves_empty_bins_out():
    assert chi_square([3, 0, 5], [10, 0, 5]) == pytest.approx(chi_square([3, 5], [10, 5]))


def test_jensen_shannon_is_scipys_squared_distance():
    p, q = np.array(FIRST) / 100, np.array(SECOND) / 1000
    assert jensen_shannon(FIRST, SECOND) == pytest.approx(distance.jensenshannon(p, q, 2) ** 2)
    assert jensen_shannon([1, 0], [0, 7]) == pytest.approx(1.0)
    assert jensen_shannon([2, 4], [10, 20]) == pytest.approx(0.0)


def test_kolmogorov_smirnov_is_the_largest_distance_of_cumulated_shares():
    # .3 .8 1 1 against .3 .65 .96 1
    assert kolmogorov_smirnov(FIRST, SECOND) == pytest.approx(0.15)


def test_population_stability_by_hand():
    p, q = np.array([2.5, 8.5]) / 11, np.array([5.5, 5.5]) / 11
    assert population_stability([2, 8], [5, 5]) == pytest.approx(((p - q) * np.log(p / q)).sum())


def test_many_pairs_at_once_are_each_by_itself():
    several = np.array([FIRST, SECOND])
    for statistic in STATISTICS.values():
        assert statistic(several, SECOND) == pytest.approx([statistic(row, SECOND) for row in several])


def test_no_rows_are_no_distance():
    for name, statistic in STATISTICS.items():
        assert np.isfinite(statistic([0, 0], [3, 4])), name
    assert effective_rows(0, 0) == 0


@pytest.mark.parametrize("name", STATISTICS)
def test_what_grows_with_the_rows_goes_back(name):
    assert of_rows(name, float(in_rows(name, 0.2, 70.0)), 70.0) == pytest.approx(0.2)
