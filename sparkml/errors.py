"""Errors that say what happened, where, what was got, what was expected and what to do next."""

from __future__ import annotations


class SparkmlError(Exception):
    """The work failed; the message is written for the person at the terminal."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        got: str = "",
        expected: str = "",
        next_action: str = "",
    ) -> None:
        self.what = what
        self.where = where
        self.got = got
        self.expected = expected
        self.next_action = next_action
        super().__init__(self.message())

    def message(self) -> str:
        """The parts that are known, one a line."""
        parts = (
            ("where", self.where),
            ("got", self.got),
            ("expected", self.expected),
            ("next", self.next_action),
        )
        return "\n".join([self.what, *(f"  {name}: {text}" for name, text in parts if text)])

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders (Spark workers, ranks); keyword-only fields need this.
        return _rebuild, (type(self), self.what, self.where, self.got, self.expected, self.next_action)


def _rebuild(
    kind: type[SparkmlError], what: str, where: str, got: str, expected: str, next_action: str
) -> SparkmlError:
    return kind(what, where=where, got=got, expected=expected, next_action=next_action)


class UsageError(SparkmlError):
    """Wrong use of the command line."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration that is not allowed."""


class InputError(SparkmlError):
    """The source holds nothing that the stage can work on."""


class NotApplicableError(InputError):
    """The stage has nothing to do on documents like these; `run-all` leaves it out, and what depends on it."""


class TableError(SparkmlError):
    """A table is missing, is not Delta, or has other columns than its contract says."""


class StorageError(SparkmlError):
    """The lake cannot be written: read-only, full, or not reachable."""


class LockedError(SparkmlError):
    """Another run holds the lake."""


class AccountingError(SparkmlError):
    """Rows in do not equal rows kept plus rows rejected."""


class SlotsError(SparkmlError):
    """The cluster has fewer task slots than the training has ranks."""


class TrainingError(SparkmlError):
    """A rank died, hung or failed."""


class ScoringError(SparkmlError):
    """Too many documents could not be scored."""


class StreamError(SparkmlError):
    """A stream has failed; what it has committed counts, and it goes on from there."""


class MissingToolError(SparkmlError):
    """Something that the machine must have is missing (Java, a jar, a wheel)."""
