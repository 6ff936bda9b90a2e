"""The only builder of a SparkSession, and the only module that touches `sparkContext` or the JVM.

Importing it needs no pyspark: the command line has commands for machines without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sparkml.errors import MissingToolError
from sparkml.frame import class_archive, storage
from sparkml.frame.progress import Progress, ProgressTask
from sparkml.frame.stage import USED

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway
    from pyspark.sql import SparkSession

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
DRIVER_OPTIONS = "spark.driver.extraJavaOptions"
QUICK_COMPILER = "-XX:TieredStopAtLevel=1"
_LITTLE_BYTES = 32 * 1024**2
_POLL_SECONDS = 0.5
PARTITIONS = "spark.sql.shuffle.partitions"
# Parquet text grows three times when it is read: a task then sorts some 100 MB.
_PARTITION_BYTES = 32 * 1024**2
_MOST_PARTITIONS = 20_000
_START_UP_NOISE = (
    "Using incubator modules: jdk.incubator.vector",
    "Using Spark's default log4j profile",
    "Setting default log level to",
    "To adjust logging level use",
    "Unable to load native-hadoop library",
)


def build_session(properties: Mapping[str, str], *, name: str = "sparkml") -> SparkSession:
    """A session with `properties`; inside spark-submit or Databricks the running one, with what may be set at run time.

    A local master gets this interpreter for its Python workers and the loopback address. MissingToolError where
    there is no Java, or no Delta among Spark's jars.
    """
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    properties = {**storage.spark_properties(), **properties}
    if not _is_submitted() and is_local(properties.get("spark.master", "")):
        return _embedded_session(_local_settings(properties), name)
    builder = SparkSession.builder.appName(name)
    for key, value in properties.items():
        # Under spark-submit the master and the resources are the cluster's business, not ours.
        if not (_is_submitted() and key in ("spark.master", "spark.driver.memory", "spark.jars")):
            builder = builder.config(key, value)
    return builder.getOrCreate()


def is_local(master: str) -> bool:
    """True for `local[...]` and `local-cluster[...]`."""
    return master.startswith("local")


def task_slots(spark: SparkSession) -> int:
    """Tasks that the cluster runs at once: the upper limit of a barrier stage."""
    return int(spark.sparkContext.defaultParallelism)


class Session:
    """A session that starts at its first use: what needs no Spark never waits for a JVM.

    One that already exists (a notebook's, Databricks') is used, and left running.
    """

    def __init__(self, properties: Mapping[str, str], progress: Progress | None = None) -> None:
        self.properties = properties
        self._progress = progress
        self._spark: SparkSession | None = None
        self._found = False

    def __call__(self) -> SparkSession:
        """The session."""
        if self._spark is None:
            from pyspark.sql import SparkSession

            self._found = SparkSession.getActiveSession() is not None
            if self._progress is None:
                self._spark = build_session(self.properties)
            else:
                with self._progress.task("starting Spark", unit=""):
                    self._spark = build_session(self.properties)
        return self._spark

    def expect(self, input_bytes: int) -> None:
        """Says how much will be read, before the session starts: a local JVM for little does not optimise its code.

        Optimising takes more than half of its processor time in the first minute, and pays later.
        """
        given = self.properties.get(DRIVER_OPTIONS, "")
        if input_bytes < _LITTLE_BYTES and is_local(self.properties.get("spark.master", "")):
            self.properties = {**self.properties, DRIVER_OPTIONS: f"{QUICK_COMPILER} {given}".strip()}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spark is not None and not self._found:
            self._spark.stop()


def shuffle_partitions(input_bytes: int, slots: int) -> int:
    """How many partitions a shuffle of this many bytes of Parquet is cut into: at least one per slot."""
    return max(slots, min(_MOST_PARTITIONS, -(-input_bytes // _PARTITION_BYTES)))


@contextmanager
def shuffles_for(spark: SparkSession, input_bytes: int) -> Iterator[None]:
    """The number of partitions follows from the bytes of the block's input. No result depends on it."""
    before = spark.conf.get(PARTITIONS) or ""
    spark.conf.set(PARTITIONS, str(shuffle_partitions(input_bytes, task_slots(spark))))
    try:
        yield
    finally:
        spark.conf.set(PARTITIONS, before)


def checkpoint_below(spark: SparkSession, location: str) -> None:
    """Where `DataFrame.checkpoint` writes: a place that outlives executors."""
    spark.sparkContext.setCheckpointDir(storage.spark_uri(location))


def stop_with_jvm(spark: SparkSession, seconds: float) -> None:
    """Stop an embedded session, and wait until its JVM has ended too."""
    context: Any = spark.sparkContext
    java = context._gateway.proc
    spark.stop()
    java.stdin.close()
    java.wait(seconds)


@contextmanager
def watched(spark: SparkSession, progress: Progress, name: str) -> Iterator[None]:
    """Show the tasks of the running Spark stages as one progress line while the block runs."""
    stopped = threading.Event()
    with progress.task(name, unit="tasks") as task:
        watcher = threading.Thread(
            target=_watch, args=(spark, progress, task, stopped), daemon=True, name="spark-progress"
        )
        watcher.start()
        try:
            yield
        finally:
            stopped.set()
            watcher.join(timeout=2 * _POLL_SECONDS)


def _watch(spark: SparkSession, progress: Progress, task: ProgressTask, stopped: threading.Event) -> None:
    tracker = spark.sparkContext.statusTracker()
    finished, seen = 0, dict[int, int]()
    while not stopped.wait(_POLL_SECONDS):
        running = {stage: tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()}
        finished += sum(tasks for stage, tasks in seen.items() if stage not in running)
        seen = {stage: info.numTasks for stage, info in running.items() if info is not None}
        done = sum(info.numCompletedTasks for info in running.values() if info is not None)
        # A stage that shows its own progress says more than its tasks do.
        if seen and progress.open_tasks == 1:
            task.update(finished + done, total=finished + sum(seen.values()))


@contextmanager
def usage(spark: SparkSession) -> Iterator[dict[str, float]]:
    """What Spark's stages use while the block runs, filled in at its end: metrics of a run.

    Nothing where the session does not show its JVM (Spark Connect, a shared cluster of Databricks). Memory is the
    highest of one executor so far. Spark forgets stages beyond `spark.ui.retainedStages`.
    """
    found: dict[str, float] = {}
    first = 1 + next((stage.stageId() for stage in _stages(spark, 0)), -1)
    yield found
    stages = list(_stages(spark, first))
    if stages:
        store = spark.sparkContext._jsc.sc().statusStore()
        executors = store.executorList(False)
        memory = (_peak_memory(executors.apply(number)) for number in range(executors.size()))
        found |= {
            f"{USED}task_seconds": sum(stage.executorRunTime() for stage in stages) / 1000,
            f"{USED}shuffle_bytes": float(sum(stage.shuffleWriteBytes() for stage in stages)),
            f"{USED}memory_mb": max(memory, default=0.0),
            f"{USED}slots": float(task_slots(spark)),
        }


def _stages(spark: SparkSession, first: int) -> Iterator[Any]:
    """The stages that Spark remembers, newest first, down to number `first`."""
    try:
        context: Any = spark.sparkContext
        gateway = context._gateway
        none, quantiles = gateway.jvm.java.util.ArrayList(), gateway.new_array(gateway.jvm.double, 0)
        stages = context._jsc.sc().statusStore().stageList(none, False, False, quantiles, none)
    except Exception:  # py4j's, Spark Connect's and Databricks' own kinds: nothing that a step depends on
        return
    for number in range(stages.size()):
        stage = stages.apply(number)
        if stage.stageId() < first:
            return
        yield stage


def _peak_memory(executor: Any) -> float:
    """Heap, and what the kernel counts for Python workers where Spark is told to look (processTreeMetrics)."""
    peak = executor.peakMemoryMetrics()
    if peak.isEmpty():
        return 0.0
    names = ("JVMHeapMemory", "JVMOffHeapMemory", "ProcessTreePythonRSSMemory")
    return float(sum(peak.get().getMetricValue(name) for name in names)) / (1 << 20)


def _is_submitted() -> bool:
    """True inside spark-submit or a Databricks job, where the JVM is already there."""
    return "PYSPARK_GATEWAY_PORT" in os.environ or "DATABRICKS_RUNTIME_VERSION" in os.environ


def _local_settings(settings: Mapping[str, str]) -> dict[str, str]:
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise MissingToolError(
            "there is no Java on this machine",
            expected="Java 17 or newer on the PATH, or JAVA_HOME",
            next_action="install it (Debian: apt-get install openjdk-17-jre-headless)",
        )
    _require_delta(settings)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # A driver that was not started by spark-submit takes its workers' interpreter only from here.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Workers take `python3` from the PATH by default, and that may be another interpreter.
    return {
        "spark.pyspark.python": sys.executable,
        "spark.pyspark.driver.python": sys.executable,
        "spark.local.dir": str(Path(tempfile.gettempdir()) / "sparkml-spark"),
        **settings,
        DRIVER_OPTIONS: class_archive.java_options(settings.get(DRIVER_OPTIONS, "")),
    }


def _require_delta(settings: Mapping[str, str]) -> None:
    """MissingToolError where neither Spark's own folder of jars nor the settings bring Delta."""
    import pyspark

    folder = Path(os.environ.get("SPARK_HOME") or pyspark.__path__[0]) / "jars"
    if not settings.keys() & {"spark.jars", "spark.jars.packages"} and not any(
        folder.glob("delta-spark_*.jar")
    ):
        raise MissingToolError(
            "Delta is not among Spark's jars",
            where=str(folder),
            next_action=f"make setup (without a checkout: spark.jars.packages={DELTA_PACKAGE} on the command line)",
        )


def _embedded_session(settings: Mapping[str, str], name: str) -> SparkSession:
    """A JVM of our own, whose usual start-up messages, which mean nothing here, are kept off stderr."""
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    conf = SparkConf().setAppName(name).setAll(list(settings.items()))
    launch: Callable[..., JavaGateway] = launch_gateway
    gateway = launch(conf=conf, popen_kwargs={"stderr": subprocess.PIPE})
    said = gateway.proc.stderr
    threading.Thread(target=_forward_stderr, args=(said,), daemon=True, name="jvm-stderr").start()
    SparkContext(conf=conf, gateway=gateway)
    return SparkSession.builder.getOrCreate()


def _forward_stderr(said: IO[bytes]) -> None:
    for line in said:
        text = line.decode("utf-8", "replace")
        if not any(mark in text for mark in _START_UP_NOISE):
            sys.stderr.write(text)
