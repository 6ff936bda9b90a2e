"""Windows beside a reference: which signals of which slices are further away than they are without drift."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparkml.monitoring.profile import (
    ALL_ROWS,
    ROWS,
    Counts,
    Kind,
    Profile,
    Signal,
    Span,
    largest_move,
    shares,
)
from sparkml.monitoring.statistics import STATISTICS, effective_rows, in_rows, of_rows
from sparkml.monitoring.thresholds import Norm, independent_tests, learn, sampling

# Of the false alarms, where there are slices.
_SHARE_OF_ALL = 0.75


@dataclass(frozen=True)
class Rules:
    """When a window raises an alarm.

    `false_alarms`: the chance that a window without drift raises any. `ordered`, `unordered`: the statistics that
    decide (`ks`, `js`, `psi`, `chi_square`); of several the one that is rarest without drift. `smallest_js`:
    divergences in bits that nobody wants to hear of, however sure they are.
    """

    false_alarms: float = 0.01
    ordered: tuple[str, ...] = ("ks", "js")
    unordered: tuple[str, ...] = ("js",)
    min_rows: int = 30
    smallest_js: float = 0.0005
    seed: int = 17


@dataclass(frozen=True)
class Verdict:
    """What is said of a signal of a slice in a window. `limit`: the value from which it is an alarm."""

    span: Span
    slice: str
    signal: str
    kind: Kind
    rows: int
    statistic: str
    value: float
    limit: float
    p_value: float
    is_alarm: bool
    statistics: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""


class Judge:
    """What the windows of a reference teach, applied to others.

    `extra`: tests beside those of the profile's signals that share the rate of false alarms.
    """

    def __init__(self, reference: Profile, rules: Rules, extra: int = 0) -> None:
        self._reference = reference
        self._rules = rules
        self._pooled = {key: counts.sum(0) for key, counts in reference.counts.items()}
        self._norms: dict[tuple[str, str], dict[str, Norm]] = {}
        for (name, signal), counts in reference.counts.items():
            if self._pooled[name, signal].sum() >= rules.min_rows:
                self._norms[name, signal] = self._norms_of(name, _named(reference, signal), counts)
        self._volumes = {name: _volume(rows) for name, rows in reference.rows.items() if len(rows) > 1}
        self.tests = len(self._volumes) + sum(map(len, self._norms.values())) + extra
        self._limits = self._p_limits(extra)

    def p_limit(self, name: str) -> float:
        """How rare a value of a slice must be without drift to be an alarm."""
        return self._limits[name != ALL_ROWS]

    def _p_limits(self, extra: int) -> tuple[float, float]:
        """For all rows, and for slices: so rare that all tests together are as rare as asked (Sidak 1967).

        What is true of all rows matters most: it has three quarters of the false alarms where there are slices.
        """
        found = []
        has_slices = any(name != ALL_ROWS for name, _ in self._norms)
        for is_slice, share in ((False, _SHARE_OF_ALL if has_slices else 1.0), (True, 1 - _SHARE_OF_ALL)):
            norms = [
                norm
                for (name, _), of in self._norms.items()
                if (name != ALL_ROWS) == is_slice
                for norm in of.values()
            ]
            norms += [norm for name, (_, norm) in self._volumes.items() if (name != ALL_ROWS) == is_slice]
            tests = max(1.0, independent_tests(norms) + (0 if is_slice else extra))
            found.append(1 - (1 - share * self._rules.false_alarms) ** (1 / tests))
        return found[0], found[1]

    @property
    def learnt_windows(self) -> int:
        """Windows that the thresholds follow from."""
        return len(self._reference.spans)

    def verdicts(self, windows: Profile) -> list[Verdict]:
        """Of every signal that has enough rows, window by window."""
        found: list[Verdict] = []
        for at, span in enumerate(windows.spans):
            found.extend(self._of_volume(span, name, int(rows[at])) for name, rows in windows.rows.items()
                         if name in self._volumes)  # fmt: skip
            for (name, signal), counts in windows.counts.items():
                n = int(counts[at].sum())
                if n >= self._rules.min_rows and (name, signal) in self._norms:
                    found.append(self._of_counts(span, name, _named(windows, signal), counts[at], n))
        return found

    def _norms_of(self, name: str, signal: Signal, counts: Counts) -> dict[str, Norm]:
        """Of each statistic that decides, from every window of the reference beside the others."""
        pooled, sizes = self._pooled[name, signal.name], counts.sum(1)
        used = counts[sizes >= self._rules.min_rows]
        others = pooled - used
        rows = effective_rows(used.sum(1), others.sum(1))
        enough = rows > 0
        typical = int(np.median(used.sum(1))) if len(used) else self._rules.min_rows
        seed = self._rules.seed ^ zlib.crc32(f"{name}/{signal.name}".encode())
        found = {}
        for chosen in self._rules.ordered if signal.is_ordered else self._rules.unordered:
            scaled = _scaled(chosen)
            mean, shape = sampling(scaled, pooled / pooled.sum(), typical, int(pooled.sum()), seed)
            found[chosen] = learn(scaled(used, others)[enough], rows[enough], mean=mean, shape=shape)
        return found

    def _of_counts(self, span: Span, name: str, signal: Signal, counts: Counts, n: int) -> Verdict:
        pooled, norms = self._pooled[name, signal.name], self._norms[name, signal.name]
        rows = float(effective_rows(n, pooled.sum()))
        statistics = {which: float(of(counts, pooled)) for which, of in STATISTICS.items()}
        if not signal.is_ordered:
            del statistics["ks"]
        p_values = {
            chosen: norm.p_value(float(in_rows(chosen, statistics[chosen], rows)), rows)
            for chosen, norm in norms.items()
        }
        chosen = min(p_values, key=lambda one: p_values[one])
        is_large = statistics["js"] >= self._rules.smallest_js
        return Verdict(
            span,
            name,
            signal.name,
            signal.kind,
            n,
            chosen,
            statistics[chosen],
            of_rows(chosen, norms[chosen].limit(self.p_limit(name), rows), rows),
            p_values[chosen],
            is_alarm=p_values[chosen] < self.p_limit(name) and is_large,
            statistics=statistics if signal.is_ordered else statistics | shares(signal, counts),
            detail=largest_move(signal, counts, pooled),
        )

    def _of_volume(self, span: Span, name: str, n: int) -> Verdict:
        mean, norm = self._volumes[name]
        p_value = norm.p_value((n - mean) ** 2 / mean, mean)
        limit = float(np.sqrt(norm.limit(self.p_limit(name), mean) * mean))
        return Verdict(
            span,
            name,
            ROWS,
            "quality",
            n,
            ROWS,
            float(n),
            mean + limit if n >= mean else max(0.0, mean - limit),
            p_value,
            is_alarm=p_value < self.p_limit(name),
            detail=f"{n:,} rows, {mean:,.0f} on average in the reference",
        )


def _scaled(chosen: str) -> Callable[[Counts, Counts], NDArray[np.float64]]:
    def scaled(first: Counts, second: Counts) -> NDArray[np.float64]:
        rows = effective_rows(first.sum(-1), second.sum(-1))
        return in_rows(chosen, STATISTICS[chosen](first, second), rows)

    return scaled


def _volume(rows: Counts) -> tuple[float, Norm]:
    """The mean number of rows of a window, and how far from it windows are (Poisson, and what they have more)."""
    mean = max(float(rows.mean()), 0.5)
    others = np.maximum((rows.sum() - rows) / (len(rows) - 1), 0.5)
    return mean, learn((rows - others) ** 2 / others, others, mean=1.0, shape=0.5)


def _named(profile: Profile, name: str) -> Signal:
    return next(signal for signal in profile.signals if signal.name == name)
