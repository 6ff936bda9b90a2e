"""Any function on ranks, as TorchDistributor and HorovodRunner run it.

    from sparkml import distributed

    def train(rate):
        import horovod.torch as hvd
        hvd.init()
        ...
        return loss

    losses = distributed.run(train, 0.1, ranks=8)

The function finds what its library looks for: Horovod's variables, or with `collective="torch"` those of `torchrun`
(`RANK`, `WORLD_SIZE`, `MASTER_ADDR` ...), so `torch.distributed.init_process_group("gloo")` needs no arguments.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparkml.distributed.collective import Collective, CollectiveName
    from sparkml.distributed.reporter import Reporter

_A_WEEK = 7 * 24 * 3600.0


def run(
    function: Callable[..., Any],
    *args: Any,
    ranks: int,
    collective: CollectiveName = "horovod",
    threads_per_rank: int = 1,
    max_attempts: int = 1,
    heartbeat_seconds: float = 12.0,
    spark: SparkSession | None = None,
    **kwargs: Any,
) -> list[Any]:
    """Call `function(*args, **kwargs)` on every rank of a barrier stage; returns what each returned, in their order.

    The function may be any that Spark can ship, such as one of a notebook; of the GPUs it sees those that Spark gave to
    its task. A rank that dies or falls silent ends the attempt within seconds, the others are stopped, and with
    `max_attempts` all begin anew: a function that keeps checkpoints goes on from its own.

    Raises SlotsError where the cluster has fewer slots, TrainingError when the last attempt fails.
    """
    from pyspark import cloudpickle
    from pyspark.sql import SparkSession

    from sparkml.distributed.launcher import LaunchOptions, launch

    session = spark or SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    options = LaunchOptions(
        ranks=ranks,
        collective=collective,
        joins=False,
        threads_per_rank=threads_per_rank,
        max_attempts=max_attempts,
        heartbeat_seconds=heartbeat_seconds,
        step_seconds=_A_WEEK,  # nothing is known of its steps
    )
    called = cloudpickle.dumps((function, args, kwargs))  # type: ignore[no-untyped-call]
    done = launch(session, call_rank, {"call": base64.b64encode(called).decode()}, options)
    return [pickle.loads(base64.b64decode(result["value"])) for result in done.results]


def call_rank(payload: Mapping[str, Any], collective: Collective, reporter: Reporter) -> dict[str, str]:
    """The function of one rank. What is unpickled comes from this application's own driver, as all that Spark runs."""
    from pyspark import cloudpickle

    from sparkml.distributed.reporter import WORK

    reporter.enter(WORK)
    function, args, kwargs = pickle.loads(base64.b64decode(payload["call"]))
    value = function(*args, **kwargs)
    pickled = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return {"value": base64.b64encode(pickled).decode()}
