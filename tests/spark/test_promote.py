"""The stages promote and sql: a better model takes the place of another one; a query makes a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import InputError
from sparkml.frame.artifacts import identity, new_artifact
from sparkml.frame.ledger import STARTED, SUCCEEDED, Ledger
from sparkml.frame.tables import Tables
from sparkml.inference.scorer import load_scorer
from sparkml.stages.promote import PromoteConfig, run
from sparkml.stages.sql import SqlConfig
from sparkml.stages.sql import run as run_sql
from tests.runs import new_run, put_run
from tests.service import texts_of
from tests.tiny import DECIDED, WORDS, tiny_classifier, tiny_encoder

TEXTS = texts_of(120, " ".join(WORDS).split())


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Two classifiers that say different things of many texts."""
    found = {}
    for seed, name in ((1, "first"), (2, "second")):
        found[name] = str(tmp_path_factory.mktemp("models") / name)
        with new_artifact(found[name]) as staging:
            tiny_classifier(staging, labels=("good", "bad"), seed=seed, config=DECIDED)
    return found


class Lake:
    """A lake whose labels are what a model says, and runs of promote in it."""

    def __init__(self, spark: SparkSession, folder: Path, right: str) -> None:
        self.folder = folder
        self.tables = Tables(str(folder / "lake"), lambda: spark)
        labels = [answer.prediction for answer in load_scorer(right).answer(TEXTS)]
        rows = [
            (f"d{at}", text, label, "test" if at % 2 else "train")
            for at, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
        ]
        frame = spark.createDataFrame(rows, "doc_id string, text string, label string, split string")
        self.tables.overwrite(frame, "labelled")
        self._fingerprints = 0

    def promote(self, candidate: str, **settings: object) -> dict[str, float]:
        self._fingerprints += 1
        artifacts = self.folder / "artifacts"
        job = new_run(
            self.tables, Ledger(self.tables), artifacts, "promote", fingerprint=f"f{self._fingerprints}-"
        )
        put_run(job, STARTED)
        report = run(job, PromoteConfig(source="labelled", candidate=candidate, model_id="tone", **settings))
        put_run(job, SUCCEEDED, report)
        return dict(report.metrics)

    def versions(self) -> list[tuple[int, str | None]]:
        job = new_run(self.tables, Ledger(self.tables), self.folder / "artifacts", "promote")
        return [(one.version, one.parent) for one in job.registry.models() if one.model_id == "tone"]


def test_a_better_candidate_takes_the_place_and_a_worse_one_does_not(spark, tmp_path, models) -> None:
    lake = Lake(spark, tmp_path, right=models["second"])
    first = lake.promote(models["first"])
    assert (first["promoted"], first["examples"]) == (1, 60)
    better = lake.promote(models["second"])
    assert better["promoted"] == 1
    assert better["candidate_accuracy"] == 1
    assert better["gain"] == pytest.approx(1 - better["current_accuracy"])
    assert better["gain_low"] <= better["gain"] <= better["gain_high"]
    worse = lake.promote(models["first"])
    same = lake.promote(models["second"])
    assert (worse["promoted"], same["promoted"]) == (0, 0)
    assert worse["gain"] < 0 == same["gain"]
    assert [version for version, _ in lake.versions()] == [1, 2]
    job = new_run(lake.tables, Ledger(lake.tables), tmp_path / "artifacts", "promote")
    path = job.registry.require("tone").path
    assert identity(path) != "missing"
    assert (
        load_scorer(path).answer(["spam offer"])[0] == load_scorer(models["second"]).answer(["spam offer"])[0]
    )


def test_a_gain_that_is_too_small_or_unsure_is_none(spark, tmp_path, models) -> None:
    lake = Lake(spark, tmp_path, right=models["second"])
    lake.promote(models["first"])
    gain = lake.promote(models["second"], min_gain=0.99)
    assert gain["promoted"] == 0
    assert lake.promote(models["second"], min_gain=gain["gain"], split="test")["promoted"] == 1


def test_what_cannot_be_compared_is_told(spark, tmp_path, models) -> None:
    lake = Lake(spark, tmp_path, right=models["first"])
    with pytest.raises(InputError, match="nothing to measure on"):
        lake.promote(models["first"], split="validation", columns={"label": "doc_id"})
    tiny_encoder(tmp_path / "raw")
    with pytest.raises(InputError):
        lake.promote(str(tmp_path / "raw"))


def test_a_query_makes_a_table(spark, tmp_path) -> None:
    tables = Tables(str(tmp_path / "lake"), lambda: spark)
    tables.overwrite(
        spark.createDataFrame([("a", "5"), ("b", "1"), ("c", "3")], "doc_id string, stars string"), "reviews"
    )
    tables.overwrite(spark.createDataFrame([("a", "x"), ("c", "y")], "doc_id string, kind string"), "kinds")
    job = new_run(tables, Ledger(tables), tmp_path / "artifacts", "sql")
    query = "SELECT doc_id, IF(stars > 3, 'good', 'bad') AS label, kind FROM {reviews} LEFT JOIN {kinds} USING (doc_id)"
    config = SqlConfig(sources={"reviews": "reviews", "kinds": "kinds"}, query=query, target="labelled")
    assert run_sql(job, config).metrics == {"rows": 3}
    rows = {row["doc_id"]: (row["label"], row["kind"]) for row in tables.read("labelled").collect()}
    assert rows == {"a": ("good", "x"), "b": ("bad", None), "c": ("bad", "y")}
    assert job.inputs == {"reviews": 0, "kinds": 0}
    with pytest.raises(ValueError, match="no names of tables in a query: args"):
        SqlConfig(sources={"args": "reviews"}, query=query, target="labelled")
    for wrong in ("SELECT nothing FROM {reviews}", "SELECT * FROM {other}", "SELECT FROM"):
        with pytest.raises(InputError, match=r"the query cannot be asked[\s\S]*\{reviews\}, \{kinds\}"):
            run_sql(job, config.model_copy(update={"query": wrong}))
