"""spark-submit on a cluster of processes: the package as a zip, on a Python that does not have sparkml."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import corpus, identities
from tests.jvm import QUICK_JVM
from tests.way import TINY

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cluster:
    """A zip, an interpreter, and a folder to be submitted from."""

    zip: Path
    python: Path
    folder: Path

    def submit(self, job: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a job on two executors of one core each; nothing of the checkout but the job file is in reach."""
        command = [
            str(Path(sys.executable).parent / "spark-submit"),
            *("--master", "local-cluster[2,1,2048]"),
            *("--py-files", str(self.zip)),
            *("--conf", f"spark.executorEnv.PYTHONPATH={self.zip}"),
            str(ROOT / "jobs" / job),
            *("--env", "cluster"),
            *words,
        ]
        environment = {
            **os.environ,
            "PYSPARK_PYTHON": str(self.python),
            "PYSPARK_DRIVER_PYTHON": str(self.python),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "JAVA_TOOL_OPTIONS": QUICK_JVM,
        }
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    folder = tmp_path_factory.mktemp("submit")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wheel = next(folder.glob("sparkml-*.whl"))
    venv.create(folder / "bare", with_pip=False)
    # A path in a .pth file brings the packages of our environment, not what its own .pth files add: sparkml itself.
    packages = next((folder / "bare" / "lib").glob("python*")) / "site-packages"
    (packages / "packages.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return Cluster(wheel.rename(folder / "sparkml-0.1.0.zip"), folder / "bare" / "bin" / "python", folder)


def test_the_interpreter_has_no_sparkml(cluster: Cluster) -> None:
    tried = subprocess.run(
        [str(cluster.python), "-c", "import pyspark, sparkml.cli.main"],
        cwd=cluster.folder,
        capture_output=True,
        text=True,
    )
    assert tried.returncode == 1
    assert "No module named 'sparkml" in tried.stderr


def test_the_whole_way(cluster: Cluster) -> None:
    fates = corpus.write(cluster.folder / "source")
    words = [f"lake={cluster.folder / 'lake'}", f"ingest.source.path={cluster.folder / 'source'}", *TINY]
    whole = cluster.submit("run_all.py", *words)
    assert whole.returncode == 0, whole.stdout[-3000:]
    assert set(identities.column(cluster.folder / "lake", "kept", "doc_id")) == fates.kept
    assert identities.violations(cluster.folder / "lake") == []


def test_a_failing_job_fails_the_submit(cluster: Cluster) -> None:
    wrong = cluster.submit("run.py", "clean", f"lake={cluster.folder / 'none'}", "clean.min_word=3")
    assert wrong.returncode != 0
    assert "did you mean" in wrong.stdout  # where spark-submit sends both streams of a Python driver
