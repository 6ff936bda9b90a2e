"""The README's spark-submit on machines that have no packages: executors run on the archive of `make env`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyspark
import pytest

from tests import corpus, identities
from tests.jvm import QUICK_JVM
from tests.servers import BIN, ROOT, standalone_cluster
from tests.way import TINY

PROBE = """
from pyspark.sql import SparkSession

def told(_):
    import importlib.util, sys, pyarrow, sparkml
    yield sys.executable, sparkml.__file__, pyarrow.__file__, importlib.util.find_spec("torch") is None

context = SparkSession.builder.getOrCreate().sparkContext
for row in context.parallelize(range(2), 2).mapPartitions(told).collect():
    print("executor", *row)
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster, and the folder to submit from: `dist` and `jobs` as in a checkout."""

    master: str
    folder: Path
    environment: Mapping[str, str]

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "spark-submit"), "--master", self.master, "--driver-memory", "1g"]
        command += ["--conf", "spark.executor.memory=1g"]
        command += ["--py-files", "dist/sparkml-0.1.0.zip", "--archives", "dist/env.tar.gz#env"]
        command += ["--conf", "spark.pyspark.python=./env/bin/python"]
        command += ["--conf", f"spark.pyspark.driver.python={sys.executable}", *words]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Workers that find neither our packages nor our package on their machine."""
    folder = tmp_path_factory.mktemp("archives")
    dist = folder / "dist"
    packed = ["make", "-o", "setup", "env", "TORCH=0", f"DIST={dist}"]
    subprocess.run(packed, cwd=ROOT, check=True, capture_output=True)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(dist)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    next(dist.glob("sparkml-*.whl")).rename(dist / "sparkml-0.1.0.zip")
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "SPARK_HOME": pyspark.__path__[0],
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOG_DIR": str(folder),
        "JAVA_TOOL_OPTIONS": QUICK_JVM,
    }
    with standalone_cluster(folder, environment) as master:
        yield Cluster(master, folder, environment)


def test_executors_run_on_the_packed_environment(cluster: Cluster) -> None:
    (cluster.folder / "probe.py").write_text(PROBE)
    done = cluster.submit("probe.py")
    assert done.returncode == 0, done.stderr[-3000:]
    told = re.findall(r"^executor (\S+) (\S+) (\S+) (\S+)$", done.stdout, re.MULTILINE)
    assert len(told) == 2
    for python, package, pyarrow, has_no_torch in told:
        assert python.startswith(f"{cluster.folder}/work-")
        assert python.endswith("/env/bin/python")
        assert "sparkml-0.1.0.zip" in package
        assert pyarrow.startswith(python.removesuffix("bin/python"))
        assert has_no_torch == "True"


def test_a_curation_needs_no_torch_on_executors(cluster: Cluster) -> None:
    fates = corpus.write(cluster.folder / "source")
    lake = cluster.folder / "lake"
    chosen = [word for word in TINY if word.startswith(("ingest.", "clean.", "shard."))]
    words = ["--env", "cluster", "--pipeline", "curate", f"lake={lake}"]
    words += [f"ingest.source.path={cluster.folder / 'source'}", *chosen]
    done = cluster.submit(str(ROOT / "jobs" / "run_all.py"), *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert set(identities.column(lake, "kept", "doc_id")) == fates.kept
    assert identities.violations(lake) == []
