"""torch.distributed over Gloo, and NCCL for what lies on a GPU, behind the same protocol as Horovod.

For a trusted network only: neither the store nor Gloo authenticates or encrypts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sparkml.distributed.collective import Pending


def open_store(address: tuple[str, int], size: int, listener_fd: int | None, timeout_seconds: int) -> Any:
    """The store at which the ranks meet: it listens on the socket that rank 0 was given, the others connect to it."""
    return dist.TCPStore(  # type: ignore[attr-defined]  # torch's own stubs leave it out
        address[0],
        address[1],
        size,
        is_master=listener_fd is not None,
        timeout=timedelta(seconds=timeout_seconds),
        wait_for_workers=False,
        master_listen_fd=listener_fd,
    )


class TorchCollective:
    """A process group whose ranks meet at a store; each uses the GPU of its local rank, where there are some."""

    def __init__(self, rank: int, size: int, local_rank: int, store: Any) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self._store = store
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank % torch.cuda.device_count())
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=store.timeout)

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
