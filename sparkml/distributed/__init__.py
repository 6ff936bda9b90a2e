"""Runs one function on many ranks: a Spark barrier stage hosts them, Horovod or torch.distributed joins them.

    driver      launcher   checks the slots, starts the barrier stage, tries again when an attempt fails
                listener   lets supervisors in: only those that have this attempt's token
                hub        receives logs, progress and heartbeats of every rank; says which one died or hangs
    executor    supervisor one barrier task a rank: exchanges addresses, starts the rank, passes on what it reports
    process     rank       runs the function with a Collective and a Reporter

The function itself knows nothing of Spark: `fn(payload, collective, reporter) -> result`, JSON in and out.

What must stay inside a trusted network, such as the cluster's own:

- The tensors that ranks exchange. Gloo (under Horovod and under torch.distributed) neither encrypts nor
  authenticates: anyone who reaches its ports can read and alter gradients.
- The rendezvous of an attempt (Horovod's HTTP server, torch's TCPStore), which authenticates nobody. It is bound to
  the one interface that leads to the driver, and is closed when the attempt ends.
- The connections to the driver. They need a token that is new for every attempt, but they are not encrypted. The token
  travels inside the Spark task, as well protected as Spark's own traffic (`spark.authenticate`,
  `spark.network.crypto.enabled`).

`run` takes any other function, as TorchDistributor and HorovodRunner do.
"""

from typing import Any

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(f"module `sparkml.distributed` has no attribute `{name}`")
    from sparkml.distributed.call import run

    return run
