"""A whole pipeline as the README says: spark-submit on a standalone cluster of processes, everything on an S3 server.

The server is SeaweedFS, the cluster a master and two workers on an environment of their own, without sparkml: they get
it as a zip. `make test-slow` brings what this needs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkml.frame import storage
from sparkml.frame.config import load_config
from tests import corpus, identities
from tests.servers import BIN, ROOT, s3_server, standalone_cluster, wait_for
from tests.way import TINY

LAKE, SOURCE = "s3a://bucket/lake", "s3a://bucket/raw"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server; yields what the environment must say of it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as found:
        yield found


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
    with standalone_cluster(folder, environment) as master:
        yield Cluster(master, zipped, folder / "bare" / "bin" / "python", folder, environment)


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
    steps = load_config("cluster").pipeline.steps
    assert again.stdout.count("up to date (run") == len(steps) - 1  # all but the report


def test_a_lake_that_cannot_be_written_is_refused_by_name(cluster: Cluster, tmp_path: Path) -> None:
    wrong = {**cluster.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    command = cluster.command("run.py", "clean", f"lake={LAKE}")
    refused = subprocess.run(
        command, cwd=tmp_path, env=wrong, capture_output=True, text=True, check=False, timeout=300
    )
    assert refused.returncode == 1
    assert "`lake` cannot be written" in refused.stdout + refused.stderr
    assert "wrong" not in refused.stdout.replace("wrong use", "")
