"""Storage faults are recognised in the long texts that Spark wraps around them."""

from __future__ import annotations

import pytest

from sparkml.errors import StorageError, TableError
from sparkml.frame.tables import first_line, write_error


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Job aborted.\n\tat x\nCaused by: java.io.IOException: No space left on device", "the disk is full"),
        ("java.io.FileNotFoundException: /lake/part-0 (Read-only file system)", "read-only file system"),
        ("java.io.IOException: Mkdirs failed to create file:/lake/clean", "cannot be written"),
    ],
)
def test_storage_faults(said: str, told: str) -> None:
    error = write_error("clean", "/lake/clean", RuntimeError(said))
    assert isinstance(error, StorageError)
    assert told in str(error)


def test_other_faults_keep_their_first_line() -> None:
    error = write_error("clean", "/lake/clean", RuntimeError("\nsomething odd\n\tat java"))
    assert isinstance(error, TableError)
    assert error.got == "something odd"


def test_an_error_of_ours_in_a_worker_is_found_in_the_stack() -> None:
    said = "An exception was thrown from the Python worker\nTraceback:\n  sparkml.errors.InputError: broken\nmore"
    assert first_line(RuntimeError(said)) == "sparkml.errors.InputError: broken"
