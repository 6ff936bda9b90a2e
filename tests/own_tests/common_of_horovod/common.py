"""What Horovod's `test_torch.py` imports by this name; the source package that has the tests lacks it.

And `inspect.getargspec`, which the tests call and Python 3.11 no longer has.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

vars(inspect).setdefault("getargspec", inspect.getfullargspec)


def mpi_env_rank_and_size() -> tuple[int, int]:
    """Rank and size that an MPI launcher has set; here none has, and the tests look at Horovod's own variables."""
    return 0, 1


@contextmanager
def temppath() -> Iterator[str]:
    """A path that nothing stands at, removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "file")
