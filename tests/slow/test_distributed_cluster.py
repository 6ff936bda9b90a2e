"""The same on a local cluster: executors are processes of their own, get sparkml as a .zip, and can be lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.jvm import QUICK_JVM

ROOT = Path(__file__).parents[2]

_SCRIPT = """
import json, logging, sys, time
sys.path[:0] = sys.argv[1:3]
import sparkml
assert sparkml.__file__.startswith(sys.argv[1]), sparkml.__file__
import rank_functions
from sparkml.frame.config import load_config
from sparkml.distributed.launcher import LaunchOptions, launch
from sparkml.errors import SlotsError
from sparkml.frame.session import build_session
properties = dict(load_config("local", ["lake=/nowhere"], conf_dir=sys.argv[3]).spark)
properties |= {
    "spark.master": "local-cluster[2,1,1024]",
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1g",
    "spark.executor.extraJavaOptions": sys.argv[5],
    "spark.submit.pyFiles": f"{sys.argv[1]},{sys.argv[2]}/rank_functions.py",
    # The shortest wait before Spark says that a stage does not fit: the lost executor is still missing then.
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "100ms",
    # How long Spark believes in an executor that says nothing: until then a frozen one keeps its slot.
    "spark.executor.heartbeatInterval": "3s",
    "spark.network.timeoutInterval": "5s",
    "spark.storage.blockManagerHeartbeatTimeoutMs": "25s",
    # A second copy of a slow task would be a second rank: Spark must start none in a barrier stage.
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.multiplier": "1.0",
    "spark.speculation.quantile": "0.1",
}
spark = build_session(properties, name="sparkml-cluster-test")
met = launch(spark, rank_functions.meet, {}, LaunchOptions(2, "horovod"))
try:
    launch(spark, rank_functions.meet, {}, LaunchOptions(3))
except SlotsError as error:
    refused = error.got
logging.basicConfig(stream=sys.stderr, format="%(name)s %(message)s")
found = {"met": met, "refused": refused}
for how in ("kill", "freeze"):
    payload = {"folder": sys.argv[4], "how": how}
    options = LaunchOptions(2, "torch", heartbeat_seconds=10)
    begun = time.monotonic()
    found[how] = launch(spark, rank_functions.lose_an_executor_once, payload, options)
    print(how, time.monotonic() - begun, file=sys.stderr)
print(json.dumps({
    name: [launched.attempts, list(launched.results)] if name != "refused" else launched
    for name, launched in found.items()
}))
spark.stop()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> tuple[dict[str, Any], str]:
    """What the launches on one cluster of two executors gave, and what was logged."""
    folder = tmp_path_factory.mktemp("cluster")
    archive = folder / "sparkml.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for file in (ROOT / "sparkml").rglob("*.py"):
            bundle.write(file, file.relative_to(ROOT))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [str(archive), str(ROOT / "tests" / "spark"), str(ROOT / "conf"), str(folder), QUICK_JVM]
    shown = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert shown.returncode == 0, shown.stderr[-4000:]
    return json.loads(shown.stdout.splitlines()[-1]), shown.stderr


def test_ranks_meet_on_a_cluster_that_got_sparkml_as_a_zip(cluster):
    (attempts, results), refused = cluster[0]["met"], cluster[0]["refused"]
    assert attempts == 1
    assert [result["sum"] for result in results] == [[1.0, 2.0], [1.0, 2.0]]
    assert refused == "2 slots"


def test_a_lost_executor_is_waited_for_and_the_launch_goes_on_from_what_was_saved(cluster):
    found, logged = cluster
    assert found["kill"] == [2, [{"first_step": 3}, {"first_step": 3}]]
    assert "attempt 1 failed (failure 1 of 3 in a row): rank 1 is lost" in logged
    assert re.search(r"waiting up to \d+ s more for executors to be replaced", logged)


def test_a_machine_that_falls_silent_ends_the_attempt_and_the_next_one_waits_for_its_slot(cluster):
    found, logged = cluster
    assert found["freeze"] == [2, [{"first_step": 3}, {"first_step": 3}]]
    assert "attempt 1 failed (failure 1 of 3 in a row): rank 1 hangs: no heartbeat for" in logged
