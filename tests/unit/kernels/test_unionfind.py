"""Components beside a breadth-first search."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.unionfind import components


def components_slowly(edges: list[tuple[str, str]]) -> dict[str, str]:
    neighbours: dict[str, set[str]] = {}
    for a, b in edges:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    found: dict[str, str] = {}
    for start in sorted(neighbours):
        waiting = [start] if start not in found else []
        while waiting:
            node = waiting.pop()
            if node not in found:
                found[node] = start
                waiting.extend(neighbours[node])
    return found


def solved(edges: list[tuple[str, str]]) -> dict[str, str]:
    batch = components(
        pa.array([a for a, _ in edges], pa.string()), pa.array([b for _, b in edges], pa.string())
    )
    return {row["node"]: row["component"] for row in batch.to_pylist()}


nodes = st.sampled_from([*"abcdefghijkl", "B", "é", "日", "aa", "\U0001f600"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(nodes, nodes), max_size=25))
def test_components_are_those_of_the_slow_reading(edges: list[tuple[str, str]]) -> None:
    assert solved(edges) == components_slowly(edges)


def test_a_long_path_in_the_worst_order() -> None:
    names = [f"{number:06d}" for number in range(50_000)]
    path = list(pairwise(names))[::-1]
    assert set(solved(path).values()) == {"000000"}


def test_no_edges() -> None:
    assert solved([]) == {}
