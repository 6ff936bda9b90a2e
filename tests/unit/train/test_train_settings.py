"""Settings of ranks: what Horovod is told, which of them make a step stale, how many ranks there may be."""

from __future__ import annotations

import pytest

from sparkml.errors import ConfigError
from sparkml.frame.config import load_config


def train(*words: str):
    """The configuration of the demo's step `train`."""
    return load_config("local", [f"train.{word}" for word in words]).pipeline.step("train").config


def test_horovod_is_told_what_is_set_and_nothing_else() -> None:
    assert train().horovod.environment() == {"HOROVOD_CYCLE_TIME": "3.5"}
    assert train("horovod.cycle_ms=null").horovod.environment() == {}
    told = train(
        "horovod.cycle_ms=2", "horovod.fusion_bytes=0", "horovod.autotune=true", "horovod.timeline=/t.json"
    )
    assert told.horovod.environment() == {
        "HOROVOD_CYCLE_TIME": "2.0",
        "HOROVOD_FUSION_THRESHOLD": "0",
        "HOROVOD_AUTOTUNE": "1",
        "HOROVOD_TIMELINE": "/t.json",
    }


def test_another_number_of_ranks_is_the_same_training_and_none_is_not() -> None:
    usual = train().semantic()
    for word in ("ranks=4", "collective=torch", "threads_per_rank=2", "prefetch_bytes=9", "cache_bytes=9"):
        assert train(word).semantic() == usual, word
    for word in ("ranks=0", "canonical_streams=4", "gradient_type=float16", "batch_size=9"):
        assert train(word).semantic() != usual, word


def test_more_ranks_than_streams_are_refused_with_what_to_set() -> None:
    with pytest.raises(ConfigError, match="9 ranks have 8 streams to read: set canonical_streams"):
        train("ranks=9")
    assert train("ranks=9", "canonical_streams=9").ranks == 9
