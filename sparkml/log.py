"""Logging: every record carries the run id; only the command line configures handlers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_RUN_ID: ContextVar[str] = ContextVar("sparkml_run_id", default="-")

FORMAT = "%(asctime)s %(levelname)-7s %(run_id)s %(name)s: %(message)s"


class _RunIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.run_id = _RUN_ID.get()
        return True


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; configures nothing."""
    return logging.getLogger(name)


@contextmanager
def run_id_in_logs(run_id: str) -> Iterator[None]:
    """Mark every record that is logged inside with `run_id`."""
    token = _RUN_ID.set(run_id)
    try:
        yield
    finally:
        _RUN_ID.reset(token)


def configure_logging(level: str = "INFO", *, terminal: bool = False) -> None:
    """Send sparkml's records to stderr; on a terminal only warnings, since the live line shows the rest."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(_RunIdFilter())
    root = logging.getLogger("sparkml")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel("WARNING" if terminal and level == "INFO" else level)
    for noisy in ("py4j", "matplotlib", "mlflow", "alembic", "petastorm", "horovod"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
