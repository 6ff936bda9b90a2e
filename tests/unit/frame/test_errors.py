"""Errors carry what, where, got, expected and the next action, across processes too."""

from __future__ import annotations

import pickle

from sparkml.errors import ConfigError, SlotsError, SparkmlError


def test_message_names_the_parts_that_are_known() -> None:
    error = SlotsError("too few slots", got="1", expected="2", next_action="fewer ranks")
    assert error.message() == "too few slots\n  got: 1\n  expected: 2\n  next: fewer ranks"


def test_an_error_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("unknown key", where="clean.yaml", got="x")))
    assert (type(error), error.where, error.got, error.exit_code) == (ConfigError, "clean.yaml", "x", 2)
    assert isinstance(error, SparkmlError)
