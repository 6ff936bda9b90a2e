"""The same on a local cluster: executors are processes of their own and get sparkml as a .zip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

_SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import sparkml
assert sparkml.__file__.startswith(sys.argv[1]), sparkml.__file__
import rank_functions
from sparkml.frame.config import load_config
from sparkml.distributed.launcher import LaunchOptions, launch
from sparkml.errors import SlotsError
from sparkml.frame.session import build_session
properties = dict(load_config("local", ["lake=/nowhere"], stages={}, conf_dir=sys.argv[3]).spark)
properties |= {
    "spark.master": "local-cluster[2,1,2048]",
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1g",
    "spark.submit.pyFiles": f"{sys.argv[1]},{sys.argv[2]}/rank_functions.py",
}
spark = build_session(properties, name="sparkml-cluster-test")
done = launch(spark, rank_functions.meet, {}, LaunchOptions(2, "horovod"))
try:
    launch(spark, rank_functions.meet, {}, LaunchOptions(3))
except SlotsError as error:
    refused = error.got
print(json.dumps([done.attempts, list(done.results), refused]))
spark.stop()
"""


def test_ranks_meet_on_a_cluster_that_got_sparkml_as_a_zip(tmp_path):
    archive = tmp_path / "sparkml.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for file in (ROOT / "sparkml").rglob("*.py"):
            bundle.write(file, file.relative_to(ROOT))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(archive), str(Path(__file__).parent), str(ROOT / "conf")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert shown.returncode == 0, shown.stderr[-4000:]
    attempts, results, refused = json.loads(shown.stdout.splitlines()[-1])
    assert attempts == 1
    assert [result["sum"] for result in results] == [[1.0, 2.0], [1.0, 2.0]]
    assert refused == "2 slots"
