"""A lake of catalog tables in a real metastore (Hive's, in Derby): processes of their own, as people run them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests import corpus
from tests.jvm import QUICK_JVM
from tests.way import TINY

LAKE = "spark_catalog.small_corpus"
TINY_STEPS = [word for word in TINY if word.startswith(("spark.", "ingest.", "clean.", "shard."))]
STEPS = ("ingest", "clean", "dedupe", "shard", "report")


@dataclass(frozen=True)
class Metastore:
    """A metastore in a folder, and the command line on it."""

    folder: Path

    @property
    def words(self) -> list[str]:
        derby = f"jdbc:derby:;databaseName={self.folder / 'metastore'};create=true"
        return [
            "spark.sql.catalogImplementation=hive",
            f"spark.sql.warehouse.dir={self.folder / 'warehouse'}",
            f"spark.hadoop.javax.jdo.option.ConnectionURL={derby}",
            f"spark.driver.extraJavaOptions=-Dderby.system.home={self.folder}",
        ]

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "JAVA_TOOL_OPTIONS": QUICK_JVM, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def sparkml(self, *words: str) -> subprocess.CompletedProcess[str]:
        source = [f"ingest.source.path={self.folder / 'source'}", f"artifacts={self.folder / 'artifacts'}"]
        settings = [word for word in words if "=" in word]  # after those of every call: the last word counts
        command = [word for word in words if "=" not in word]
        command += [f"lake={LAKE}", *source, *TINY_STEPS, *self.words, *settings, "--pipeline", "curate"]
        return self.python("-m", "sparkml.cli", *command)


MAKE_SCHEMA = """
import sys
from sparkml.frame.config import load_config
from sparkml.frame.session import build_session
build_session(load_config("local", sys.argv[2:]).spark).sql(f"CREATE SCHEMA {sys.argv[1]}")
"""

READ = """
import sys
import sparkml
from sparkml.frame.config import load_config
from sparkml.frame.session import build_session
lake = sparkml.open_lake(sys.argv[1], build_session(load_config("local", sys.argv[2:]).spark))
print("tables", *lake.tables())
print("kept", *sorted(lake.read("kept")["doc_id"].to_pylist()))
print("clean", *sorted(row.doc_id for row in lake.spark("rejects").collect() if row.step == "clean"))
print("retention", {name: len(lake.spark(name).sparkSession.sql(
    f"SHOW TBLPROPERTIES {lake.location.replace('.', '.`')}`.{name}"
).where("key = 'delta.deletedFileRetentionDuration'").collect()) for name in ("_runs", "kept", "manifests")})
"""


def test_a_curation_in_a_metastore(tmp_path: Path) -> None:
    fates = corpus.write(tmp_path / "source")
    metastore = Metastore(tmp_path)
    missing = metastore.sparkml("run-all")
    assert missing.returncode == 2, missing.stderr[-3000:]
    assert "there is no schema" in missing.stderr

    made = metastore.python("-c", MAKE_SCHEMA, LAKE, *metastore.words)
    assert made.returncode == 0, made.stderr[-3000:]
    first = metastore.sparkml("run-all")
    assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-3000:]
    again = metastore.sparkml("run-all")
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[:2000] + again.stderr[-3000:]
    assert again.stdout.count("up to date (run") == len(STEPS) - 1, again.stdout  # a report is always written
    changed = metastore.sparkml("run", "clean", "dedupe", "clean.gopher_quality.min_words=51")
    assert changed.returncode == 0, changed.stderr[-3000:]

    plan = metastore.sparkml("plan", "clean.gopher_quality.min_words=51")
    assert plan.returncode == 0, plan.stderr[-3000:]
    assert "new version of `kept`" in plan.stdout
    runs = metastore.sparkml("runs")
    assert runs.returncode == 0, runs.stderr[-3000:]
    assert runs.stdout.count("succeeded") == len(STEPS) + 3
    traced = metastore.sparkml("trace", "kept", "sea-1")
    assert traced.returncode == 0, traced.stderr[-3000:]
    assert all(step in traced.stdout for step in ("ingest", "clean", "dedupe")), traced.stdout

    read = metastore.python("-c", READ, LAKE, *metastore.words)
    assert read.returncode == 0, read.stderr[-3000:]
    said = {line.partition(" ")[0]: line.partition(" ")[2] for line in read.stdout.splitlines()}
    assert {"_runs", "bronze", "clean", "duplicates", "kept", "rejects", "samples"} <= set(
        said["tables"].split()
    )
    assert set(said["kept"].split()) == fates.kept
    assert set(said["clean"].split()) == set(fates.rejected_by_clean)
    assert said["retention"] == "{'_runs': 1, 'kept': 1, 'manifests': 1}"
