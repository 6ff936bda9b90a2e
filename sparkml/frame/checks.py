"""Checks before the first step runs: can the lake be written, and what does it already hold?"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from sparkml.errors import ConfigError, StorageError
from sparkml.frame import storage
from sparkml.frame.config import ProjectConfig
from sparkml.frame.delta import FolderTable
from sparkml.frame.pipeline import MODEL_MARK
from sparkml.frame.registry import TABLE

_PROBE = "_sparkml.probe"
_NEXT = {
    "s3": "check the bucket, its rights, the credentials and AWS_ENDPOINT_URL",
    "hdfs": "check host and port of the name node (or HADOOP_CONF_DIR), HADOOP_USER_NAME and the rights of the folder",
}


def check_storage(config: ProjectConfig) -> None:
    """StorageError or ConfigError, by name, for a lake or a folder of artifacts that cannot be used as configured."""
    for name, location in (("lake", config.lake), ("artifacts", config.artifacts)):
        if storage.is_catalog(location) or not storage.is_remote(location):
            continue
        if (
            storage.scheme_of(location) == "s3"
            and _is_embedded(config.spark)
            and not _has_jar("hadoop-aws", config.spark)
        ):
            raise ConfigError(
                f"`{name}` lies on S3, and this Spark has no `hadoop-aws` to read it with",
                got=storage.redacted(location),
                next_action="make s3 (or spark.jars.packages=org.apache.hadoop:hadoop-aws:3.5.0)",
            )
        _probe(name, location)


def _probe(name: str, location: str) -> None:
    place = storage.join(location, _PROBE)
    try:
        storage.write_bytes(place, b"sparkml")
        storage.remove(place)
    except OSError as error:
        raise StorageError(
            f"`{name}` cannot be written", where=storage.redacted(location), got=str(error)
        ) from error
    except StorageError as error:
        raise StorageError(
            f"`{name}` cannot be written",
            where=storage.redacted(location),
            got=error.got,
            next_action=_NEXT.get(
                storage.scheme_of(location), "check the place, its rights and the credentials"
            ),
        ) from error


def _is_embedded(spark: Mapping[str, str]) -> bool:
    return spark.get("spark.master", "").startswith("local")


def _has_jar(artifact: str, spark: Mapping[str, str]) -> bool:
    if artifact in spark.get("spark.jars", "") + spark.get("spark.jars.packages", ""):
        return True
    found = importlib.util.find_spec("pyspark")
    folders = found.submodule_search_locations if found is not None else None
    return any(any(Path(folder, "jars").glob(f"{artifact}-*.jar")) for folder in folders or ())


def known_in_lake(lake: str) -> Callable[[str], bool]:
    """Which tables and models (`models:NAME`) a lake already has: what a pipeline may read without making it."""

    def known(ref: str) -> bool:
        if storage.is_catalog(lake):  # a metastore is asked when the step runs
            return True
        if ref.startswith(MODEL_MARK):
            models = FolderTable(TABLE, storage.join(lake, TABLE))
            named = models.read().column("model_id").to_pylist() if models.version() is not None else []
            return ref.removeprefix(MODEL_MARK) in named
        return FolderTable(ref, storage.join(lake, ref)).version() is not None

    return known


def everything_is_there(lake: str) -> Callable[[str], bool]:
    """For commands that only show a pipeline: all that it reads counts as there."""
    return lambda ref: True
