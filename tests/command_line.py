"""The command line inside the process of the tests."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest

from sparkml.cli.main import main


def call(*words: str) -> tuple[int, str]:
    """Exit code and words shown of a command that finds a running session, as in a notebook, and leaves it."""
    shown = io.StringIO()
    with (
        redirect_stdout(shown),
        redirect_stderr(shown),
        kept_logging(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("COLUMNS", "200")
        code = main([*words])
    return code, " ".join(shown.getvalue().split())


@contextmanager
def kept_logging() -> Iterator[None]:
    """The command line sets logging up for itself; what follows gets its own back."""
    logger = logging.getLogger("sparkml")
    before = list(logger.handlers), logger.propagate, logger.level
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[:2]
        logger.setLevel(before[2])
