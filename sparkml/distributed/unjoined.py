"""A rank whose function joins the group itself, by `hvd.init()` or `dist.init_process_group()`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from sparkml.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_LEFT = "sparkml/left"
_POLL_SECONDS = 0.1


class Unjoined:
    """Knows which rank it is; what ranks do together is the function's business. `store` is torch's, or None."""

    def __init__(self, rank: int, size: int, local_rank: int, store: Any) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self._store = store

    def allreduce_(self, tensor: Tensor) -> None:
        """Not here."""
        _refuse()

    def start_allreduce(self, tensor: Tensor, name: str) -> NoReturn:
        """Not here."""
        _refuse()

    def broadcast_(self, tensor: Tensor, root: int = 0) -> None:
        """Not here."""
        _refuse()

    def barrier(self) -> None:
        """Not here."""
        _refuse()

    def shutdown(self) -> None:
        """Rank 0 holds torch's store: it leaves last."""
        if self._store is None:
            return
        self._store.add(_LEFT, 1)
        if self.rank == 0:
            # A rank that dies meanwhile is seen by the driver, which ends this one.
            while self._store.add(_LEFT, 0) < self.size:
                time.sleep(_POLL_SECONDS)


def _refuse() -> NoReturn:
    raise UsageError(
        "the function joins its group itself", next_action="use horovod or torch.distributed in it"
    )
