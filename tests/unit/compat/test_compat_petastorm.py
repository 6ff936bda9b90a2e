"""Petastorm runs on today's pyarrow, and pyarrow is none the wiser."""

from __future__ import annotations

import json
import subprocess
import sys

_SCRIPT = """
import json, sys, numpy, pyarrow, pyarrow.parquet, pyarrow.fs
names = {m: dict(vars(m)) for m in (numpy, pyarrow, pyarrow.parquet, pyarrow.lib)}
from sparkml.compat.petastorm import load_petastorm
version = load_petastorm().__version__
replaced = [n for m, old in names.items() for n in old if vars(m).get(n) is not old[n]]
added = [vars(m)[n] for m, old in names.items() for n in vars(m) if n not in old]
added = [str(value) for value in added if not isinstance(value, type(sys))]
finders = [type(f).__module__ for f in sys.meta_path if type(f).__module__.startswith("sparkml")]
print(json.dumps([version, replaced, added, finders, "pyarrow.filesystem" in sys.modules]))
"""


def test_nothing_changes_for_others_in_the_process():
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    version, replaced, added, finders, has_stand_in = json.loads(shown.stdout)
    assert version == "0.12.1"
    assert (replaced, added) == ([], [])
    assert (finders, has_stand_in) == ([], False)


def test_importing_the_feed_imports_no_petastorm_and_no_spark():
    loaded = "[m for m in ('petastorm', 'pyspark', 'torch') if m in sys.modules]"
    script = f"import sys, sparkml.feed.reader; print({loaded})"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
