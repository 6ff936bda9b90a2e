"""The rate of false alarms is what is asked for, and drift is found: thousands of windows that are drawn at random."""

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from sparkml.monitoring.judging import Judge, Rules
from sparkml.monitoring.profile import ALL_ROWS, OTHER, Profile, Signal, Span
from sparkml.monitoring.statistics import chi_square
from sparkml.monitoring.thresholds import Norm, independent_tests, learn, sampling

_START = datetime(2026, 1, 1, tzinfo=timezone.utc)
_SIGNALS = [
    Signal("label", "score", values=("a", "b", "c")),
    Signal("score", "score", edges=tuple(np.arange(1, 20) / 20)),
    Signal("length", "input", edges=tuple(range(10, 200, 10))),
]


def spans(n):
    return [Span(_START + at * timedelta(days=1), _START + (at + 1) * timedelta(days=1)) for at in range(n)]


def drawn(n, rows, chance, *, spread=None, shift=0.0):
    """Windows of about `rows` rows; `spread`: how alike their shares are; `shift` goes from a bin to the next."""
    profile = Profile(spans(n), _SIGNALS, [ALL_ROWS])
    for signal in _SIGNALS:
        bins = len(signal.bins)
        base = np.linspace(2, 1, bins)
        base[-1] = 0
        if OTHER in signal.bins:
            base[signal.bins.index(OTHER)] = 0.02
        base /= base.sum()
        moved = base.copy()
        moved[0] -= shift
        moved[1] += shift
        for at in range(n):
            shares = moved if spread is None else chance.dirichlet(np.maximum(moved, 1e-9) * spread)
            profile.counts[ALL_ROWS, signal.name][at] = chance.multinomial(chance.poisson(rows), shares)
    profile.rows[ALL_ROWS] = chance.poisson(rows, n)
    return profile


def rate(verdicts):
    windows = {one.span for one in verdicts}
    return len({one.span for one in verdicts if one.is_alarm}) / len(windows)


@pytest.mark.parametrize("spread", [None, 2_000, 200])
@pytest.mark.parametrize("learnt_from", [10, 40])
def test_windows_without_drift_raise_as_many_alarms_as_stated(spread, learnt_from):
    chance = np.random.default_rng(5)
    found = []
    for trial in range(12):
        reference = drawn(learnt_from, 500, chance, spread=spread)
        judge = Judge(reference, Rules(false_alarms=0.05, smallest_js=0, seed=trial))
        found.append(rate(judge.verdicts(drawn(200, 500, chance, spread=spread))))
    # Of 2,400 windows the standard error is .0045; thresholds that follow from few windows differ more.
    assert 0.005 <= np.mean(found) <= 0.075


def test_windows_of_another_size_are_judged_by_their_own_rows():
    chance = np.random.default_rng(6)
    found = []
    for trial in range(8):
        judge = Judge(drawn(40, 500, chance, spread=400), Rules(false_alarms=0.05, smallest_js=0, seed=trial))
        larger = judge.verdicts(drawn(200, 4_000, chance, spread=400))
        found.append(np.mean([one.is_alarm for one in larger if one.signal != "rows"]))
    assert np.mean(found) <= 0.05


def test_random_draws_say_how_large_chi_square_is():
    mean, shape = sampling(chi_square, [0.2] * 5, 300, 3_000, seed=3)
    assert mean == pytest.approx(4, rel=0.15)  # as many as degrees of freedom
    assert shape == pytest.approx(2, rel=0.3)  # a half of them


def test_drift_is_found_and_larger_drift_more_often():
    chance = np.random.default_rng(7)
    power = []
    for shift in (0.02, 0.06, 0.12):
        judge = Judge(drawn(30, 1_000, chance, spread=3_000), Rules(seed=1))
        power.append(rate(judge.verdicts(drawn(100, 1_000, chance, spread=3_000, shift=shift))))
    assert power[0] < power[1] <= power[2]
    assert power[2] > 0.95


def test_a_missing_day_and_a_flood_are_alarms():
    chance = np.random.default_rng(8)
    judge = Judge(drawn(30, 1_000, chance), Rules())
    later = drawn(3, 1_000, chance)
    later.rows[ALL_ROWS][:] = [0, 1_010, 3_000]
    alarms = [one.is_alarm for one in judge.verdicts(later) if one.signal == "rows"]
    assert alarms == [True, False, True]


def test_the_limit_is_where_alarms_begin():
    norm = learn([1.0, 2.0, 0.5, 1.5, 0.8, 1.1, 0.9, 1.3, 2.2], [100.0] * 9, mean=1.0, shape=1.0)
    assert norm.is_learnt
    limit = norm.limit(0.001, 100.0)
    assert norm.p_value(limit, 100.0) == pytest.approx(0.001)
    assert norm.p_value(1.01 * limit, 100.0) < 0.001


def test_what_goes_together_is_one_test():
    chance = np.random.default_rng(12)
    values = chance.gamma(2, 0.5, (3, 200))
    norms = [learn(row, [100.0] * 200, mean=1.0, shape=2.0) for row in (*values, values[0], 2 * values[1])]
    assert independent_tests(norms) == pytest.approx(3, abs=0.3)
    assert independent_tests(norms[:3]) == pytest.approx(3, abs=0.1)
    assert independent_tests([]) == 0
    assert independent_tests([Norm(1.0, 1.0), Norm(1.0, 2.0)]) == 2


def test_a_reference_of_one_window_judges_by_random_draws():
    chance = np.random.default_rng(13)
    judge = Judge(drawn(1, 2_000, chance), Rules())
    assert not any(one.is_alarm for one in judge.verdicts(drawn(3, 2_000, chance)))
    assert any(one.is_alarm for one in judge.verdicts(drawn(1, 2_000, chance, shift=0.06)))


def test_few_windows_teach_nothing():
    assert learn([9.0] * 7, [10.0] * 7, mean=1.0, shape=2.0) == Norm(1.0, 2.0, windows=7)


def test_small_differences_are_left_alone_however_sure():
    chance = np.random.default_rng(9)
    reference = drawn(10, 50_000, chance)
    moved = drawn(1, 50_000, chance, shift=0.01)
    loud, quiet = (Judge(reference, Rules(smallest_js=smallest)).verdicts(moved) for smallest in (0.0, 0.01))
    assert any(one.is_alarm for one in loud)
    assert not any(one.is_alarm for one in quiet if one.signal != "rows")
    assert [one.p_value for one in loud] == [one.p_value for one in quiet]


def test_too_few_rows_are_not_judged():
    chance = np.random.default_rng(10)
    judge = Judge(drawn(10, 500, chance), Rules(min_rows=100))
    later = drawn(1, 500, chance)
    later.counts[ALL_ROWS, "label"][0] = [99, 0, 0, 0, 0]
    assert "label" not in {one.signal for one in judge.verdicts(later)}


def test_the_bin_that_moved_most_is_told():
    chance = np.random.default_rng(11)
    judge = Judge(drawn(10, 500, chance), Rules())
    later = drawn(1, 500, chance)
    later.counts[ALL_ROWS, "label"][0] = [0, 0, 50, 0, 50]
    verdict = next(one for one in judge.verdicts(later) if one.signal == "label")
    assert verdict.is_alarm
    assert verdict.detail.startswith("(null): 50.0 % of the rows, 0.0 %")
    assert verdict.value > verdict.limit
