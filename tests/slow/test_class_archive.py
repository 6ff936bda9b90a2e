"""The archive of Spark's classes, made and mapped."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
from sparkml.frame import class_archive, session
from sparkml.frame.config import load_config

class_archive.location = lambda: Path(sys.argv[1])
if sys.argv[2] == "make":
    class_archive.make()
else:
    spark = session.build_session(load_config("local").spark)
    java = spark.sparkContext._gateway.proc.pid
    print("mapped" if sys.argv[1] in Path(f"/proc/{java}/maps").read_text() else "not mapped")
"""


def test_a_session_maps_the_archive_that_was_made(tmp_path: Path) -> None:
    archive = tmp_path / "folder of its own" / "classes.jsa"
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(archive), what], capture_output=True, text=True, check=True
        ).stdout
        for what in ("make", "use")
    ]
    assert said[1] == "mapped\n"
    assert [path.name for path in archive.parent.iterdir()] == ["classes.jsa"]
