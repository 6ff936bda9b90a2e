from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import sparkml

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import pyarrow as pa
from sparkml.kernels import words
from sparkml.kernels.texts import read_texts
assert ".zip" in words.__file__, words.__file__
print(len(words.find_words(read_texts(pa.array(["two words"]))).table))
"""


def test_kernels_run_from_a_zip_where_nothing_can_be_written(tmp_path: Path) -> None:
    package = Path(sparkml.__file__).parent
    archive = tmp_path / "sparkml.zip"
    with zipfile.ZipFile(archive, "w") as shipped:
        for file in (package / "__init__.py", *(package / "kernels").glob("*.py")):
            shipped.write(file, Path("sparkml") / file.relative_to(package))
    nowhere = tmp_path / "file"
    nowhere.write_text("not a folder")
    environment = {**os.environ, "XDG_CACHE_HOME": str(nowhere), "HOME": str(nowhere), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(archive)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "2", done.stderr
