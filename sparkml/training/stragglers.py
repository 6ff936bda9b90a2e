"""The parts of a step, and which rank holds the others up."""

from __future__ import annotations

PARTS = ("feed", "forward", "backward", "allreduce", "optimizer")
# By what part its own work takes longer than that of the usual rank.
_SLOWER = 0.2


def stragglers(ranks: list[dict[str, float]]) -> dict[str, float]:
    """The rank whose own work in a step takes longest, where it holds the others up; of what every rank measured."""
    own = [sum(rank.get(f"{name}_ms", 0.0) for name in PARTS if name != "allreduce") for rank in ranks]
    usual = sorted(own)[(len(own) - 1) // 2]
    if len(own) < 2 or max(own) < (1 + _SLOWER) * usual or not usual:
        return {}
    slowest = own.index(max(own))
    return {"slowest_rank": float(slowest), "slowest_rank_ms": own[slowest], "usual_rank_ms": usual}
