"""Horovod 0.28.1 over Gloo, started by hand: its own launchers have neither barrier mode nor a heartbeat.

Before `init` a rank finds its place in the environment; rank 0's host runs the rendezvous. Every attempt gets a
fresh one: initialising twice on one is racy. A peer that never reaches `init` ends the others by SIGABRT, so a
rank belongs in a process of its own.

For a trusted network only: the rendezvous speaks HTTP without authentication (it is bound to the cluster's interface,
not to all), and Gloo neither authenticates nor encrypts the tensors.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sparkml.errors import MissingToolError

if TYPE_CHECKING:
    from torch import Tensor

_POLL_SECONDS = 1e-4


class HorovodCollective:
    """Sums and broadcasts through Horovod; made after `rank_environment` is in the environment."""

    def __init__(self) -> None:
        self._hvd = load_horovod()
        self._hvd.init()
        self.rank: int = self._hvd.rank()
        self.size: int = self._hvd.size()
        self.local_rank: int = self._hvd.local_rank()

    def allreduce_(self, tensor: Tensor) -> None:
        """Replace a float tensor by its sum over the ranks; bf16 is not supported by Horovod's Gloo."""
        self.start_allreduce(tensor, f"allreduce.{tensor.numel()}").wait()

    def start_allreduce(self, tensor: Tensor, name: str) -> _Pending:
        """Begin to replace a float tensor by its sum; bf16 is not supported by Horovod's Gloo."""
        return _Pending(self._hvd, self._hvd.allreduce_async_(tensor, op=self._hvd.Sum, name=name))

    def broadcast_(self, tensor: Tensor, root: int = 0) -> None:
        """Replace a tensor by that of rank `root`."""
        name = f"broadcast.{tensor.numel()}"
        _Pending(self._hvd, self._hvd.broadcast_async_(tensor, root_rank=root, name=name)).wait()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self._hvd.barrier()

    def shutdown(self) -> None:
        """Leave the group; the last collective call of a rank."""
        self._hvd.shutdown()


class _Pending:
    """A sum, or a tensor of another rank, on its way."""

    def __init__(self, hvd: ModuleType, handle: int) -> None:
        self._hvd, self._handle = hvd, handle

    def wait(self) -> None:
        """Wait until the tensor holds it.

        Horovod's own wait asks without a pause, on the core on which its thread has to compute the sum.
        """
        while not self._hvd.poll(self._handle):
            time.sleep(_POLL_SECONDS)
        self._hvd.synchronize(self._handle)


class HorovodRendezvous:
    """The key-value store through which the ranks of one attempt find each other, on one interface."""

    fd = None

    def __init__(self, address: str) -> None:
        from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

        self._server: Any = RendezvousHTTPServer((address, 0), RendezvousHandler, 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="rendezvous")
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def meet(self, hosts: Sequence[str]) -> None:
        """All hosts are known, in the order of the ranks; the ranks start after this."""
        self._server.init(_slots(hosts))

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def rank_environment(
    rank: int, hosts: Sequence[str], rendezvous: tuple[str, int], timeout_seconds: int
) -> dict[str, str]:
    """What Horovod reads at `init`. `hosts[r]` is the address of the host of rank `r`."""
    slot = next(slot for slot in _slots(hosts) if slot.rank == rank)
    return {
        "HOROVOD_HOSTNAME": slot.hostname,
        "HOROVOD_RANK": str(slot.rank),
        "HOROVOD_SIZE": str(slot.size),
        "HOROVOD_LOCAL_RANK": str(slot.local_rank),
        "HOROVOD_LOCAL_SIZE": str(slot.local_size),
        "HOROVOD_CROSS_RANK": str(slot.cross_rank),
        "HOROVOD_CROSS_SIZE": str(slot.cross_size),
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": rendezvous[0],
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(rendezvous[1]),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_IFACE": interface_of(hosts[rank]),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(timeout_seconds),
    }


def interface_of(address: str) -> str:
    """The name of this machine's network interface that has an address, such as `eth0`."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(found.family == socket.AF_INET and found.address == address for found in addresses):
            return str(name)
    raise MissingToolError("no network interface of this host has its address", where=address)


def local_rank(rank: int, hosts: Sequence[str]) -> int:
    """The number of a rank among those of its host; `hosts[r]` is the address of the host of rank `r`."""
    return list(hosts[:rank]).count(hosts[rank])


def _slots(hosts: Sequence[str]) -> list[Any]:
    """Horovod's description of every rank: `hosts[r]` may name a host more than once, in any order.

    Horovod's own `get_host_assignments` numbers the ranks host by host; a barrier task keeps the number that
    Spark gave it, so the same fields are counted here.
    """
    from horovod.runner.common.util.hosts import SlotInfo

    local_ranks = [local_rank(rank, hosts) for rank in range(len(hosts))]
    peers = [
        [other for other in range(len(hosts)) if local_ranks[other] == local_ranks[rank]]
        for rank in range(len(hosts))
    ]
    return [
        SlotInfo(
            hostname=host,
            rank=rank,
            local_rank=local_ranks[rank],
            cross_rank=peers[rank].index(rank),
            size=len(hosts),
            local_size=list(hosts).count(host),
            cross_size=len(peers[rank]),
        )
        for rank, host in enumerate(hosts)
    ]


def load_horovod() -> ModuleType:
    """Import it, which takes seconds; MissingToolError where it is not there."""
    try:
        import horovod.torch as hvd
    except ImportError as error:
        raise MissingToolError(
            "Horovod cannot be imported",
            got=str(error),
            next_action="run `make setup`, which builds its wheel, or choose train.collective=torch",
        ) from error
    module: ModuleType = hvd
    return module
