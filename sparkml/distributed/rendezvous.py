"""Where the ranks of one attempt meet: opened by rank 0's supervisor, on the cluster's interface only.

It authenticates nobody, neither Horovod's nor torch's: anyone who reaches the port can join or disturb the attempt. It
belongs in a trusted network.
"""

from __future__ import annotations

import socket
from typing import Protocol

from sparkml.compat.horovod import HorovodRendezvous, interface_of, local_rank, rank_environment
from sparkml.distributed.collective import CollectiveName


class Rendezvous(Protocol):
    """An open meeting point."""

    @property
    def port(self) -> int:
        """The port that it listens on."""
        ...

    @property
    def fd(self) -> int | None:
        """A listening socket that rank 0's process takes over; None where this process serves."""
        ...

    def meet(self, hosts: list[str]) -> None:
        """All hosts are known, in the order of the ranks; the ranks start after this."""
        ...

    def close(self) -> None:
        """Stop listening in this process."""
        ...


class TorchRendezvous:
    """A listening socket, opened before the ranks start: its port cannot be lost to another process."""

    def __init__(self, address: str) -> None:
        self._listener = socket.create_server((address, 0))

    @property
    def port(self) -> int:
        """See `Rendezvous.port`."""
        return int(self._listener.getsockname()[1])

    @property
    def fd(self) -> int:
        """See `Rendezvous.fd`."""
        return self._listener.fileno()

    def meet(self, hosts: list[str]) -> None:
        """The store in rank 0's process needs no list of hosts."""

    def close(self) -> None:
        """See `Rendezvous.close`."""
        self._listener.close()


def open_rendezvous(collective: CollectiveName, address: str) -> Rendezvous:
    """A fresh meeting point for one attempt."""
    return HorovodRendezvous(address) if collective == "horovod" else TorchRendezvous(address)


def environment_of(
    collective: CollectiveName, rank: int, hosts: list[str], store: tuple[str, int], timeout_seconds: int
) -> dict[str, str]:
    """What the process of a rank finds in its environment. `hosts[r]` is the address of rank `r`'s host."""
    if collective == "horovod":
        return rank_environment(rank, hosts, store, timeout_seconds)
    return {"GLOO_SOCKET_IFNAME": interface_of(hosts[rank])}


def torchrun_environment(rank: int, hosts: list[str], store: tuple[str, int]) -> dict[str, str]:
    """What `torchrun` would set, for a function that calls `init_process_group()` itself."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(len(hosts)),
        "LOCAL_RANK": str(local_rank(rank, hosts)),
        "LOCAL_WORLD_SIZE": str(hosts.count(hosts[rank])),
        "MASTER_ADDR": store[0],
        "MASTER_PORT": str(store[1]),
        # The store is there already: rank 0 connects to it like the others.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
