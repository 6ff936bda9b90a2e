"""Whether the cluster has enough task slots for a barrier stage; checked first, since Spark would wait for them."""

from __future__ import annotations

import os
import re

from pyspark.sql import SparkSession

from sparkml.errors import SlotsError

_LOCAL = re.compile(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?$")
_LOCAL_CLUSTER = re.compile(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,")


def check_slots(spark: SparkSession, ranks: int) -> None:
    """SlotsError where the cluster is known to have fewer task slots than `ranks`."""
    known = known_slots(spark)
    if known is not None and known < ranks:
        raise slots_error(spark, ranks, f"{known} slots")


def known_slots(spark: SparkSession) -> int | None:
    """The task slots that the configuration fixes; None where executors come and go."""
    master = spark.conf.get("spark.master", "") or ""
    per_task = _number(spark, "spark.task.cpus", 1)
    if found := _LOCAL.match(master):
        cores = found[1] or "1"
        return (os.cpu_count() or 1 if cores == "*" else int(cores)) // per_task
    if found := _LOCAL_CLUSTER.match(master):
        return int(found[1]) * (int(found[2]) // per_task)
    executors = _number(spark, "spark.executor.instances", 0)
    cores_each = _number(spark, "spark.executor.cores", 0)
    if (spark.conf.get("spark.dynamicAllocation.enabled", "false") or "").lower() == "true":
        executors = _number(spark, "spark.dynamicAllocation.maxExecutors", 0)
    return executors * (cores_each // per_task) if executors and cores_each else None


def slots_error(spark: SparkSession, ranks: int, got: str) -> SlotsError:
    """The error for a cluster that is too small."""
    return SlotsError(
        "the cluster has fewer task slots than the training has ranks",
        where=f"spark.master={spark.conf.get('spark.master', '?')}",
        got=got,
        expected=f"{ranks} slots, one a rank",
        next_action="take fewer ranks (train.ranks=N) or more executors or cores",
    )


def _number(spark: SparkSession, key: str, default: int) -> int:
    value = spark.conf.get(key, None)
    return int(value) if value is not None and value.isdigit() else default
