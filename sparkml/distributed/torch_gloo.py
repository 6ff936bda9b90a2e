"""torch.distributed over Gloo behind the same protocol as Horovod.

For a trusted network only: neither the store nor Gloo authenticates or encrypts.
"""

from __future__ import annotations

from datetime import timedelta

import torch.distributed as dist
from torch import Tensor

from sparkml.distributed.collective import Pending


class TorchCollective:
    """A process group whose store listens on the socket that rank 0 was given."""

    def __init__(
        self,
        *,
        rank: int,
        size: int,
        local_rank: int,
        store: tuple[str, int],
        listener_fd: int | None,
        timeout_seconds: int,
    ) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        timeout = timedelta(seconds=timeout_seconds)
        self._store = dist.TCPStore(  # type: ignore[attr-defined]  # torch's own stubs leave it out
            store[0],
            store[1],
            size,
            is_master=listener_fd is not None,
            timeout=timeout,
            wait_for_workers=False,
            master_listen_fd=listener_fd,
        )
        dist.init_process_group("gloo", store=self._store, rank=rank, world_size=size, timeout=timeout)

    def allreduce_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the ranks."""
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)

    def start_allreduce(self, tensor: Tensor, name: str) -> Pending:
        """See `Collective.start_allreduce`; sums are told apart by their order."""
        work: Pending = dist.all_reduce(tensor, op=dist.ReduceOp.SUM, async_op=True)
        return work

    def broadcast_(self, tensor: Tensor, root: int = 0) -> None:
        """Replace a tensor by that of rank `root`."""
        dist.broadcast(tensor, src=root)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        dist.barrier()

    def shutdown(self) -> None:
        """Leave the group: rank 0 last, since it holds the store."""
        dist.barrier()
        dist.destroy_process_group()
