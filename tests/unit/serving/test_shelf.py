"""Models of a lake under a service: named by the registry, exchanged for newer versions as they appear."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sparkml.cli.shelf import LakeShelf
from sparkml.errors import InputError, UsageError
from sparkml.frame.ledger import STARTED, SUCCEEDED, Ledger
from sparkml.frame.registry import TrainedOn, model_location
from sparkml.frame.tables import Tables
from sparkml.serving.versions import read_routes, with_versions
from tests.runs import new_run, put_run, without_spark
from tests.servers import free_ports
from tests.service import serving
from tests.tiny import tiny_classifier


class Lake:
    """A lake with versions of one model."""

    def __init__(self, folder: Path) -> None:
        self.place, self.artifacts = str(folder / "lake"), folder / "lake" / "_artifacts"
        self.tables = Tables(self.place, without_spark)

    def add(self, version: int, *, status: str = SUCCEEDED) -> None:
        """A version as a stage leaves it."""
        tiny_classifier(Path(model_location(str(self.artifacts), "mood", version)), seed=version)
        job = new_run(self.tables, Ledger(self.tables), self.artifacts, "finetune", fingerprint=f"f{version}")
        put_run(job, STARTED)
        assert (
            job.register("mood", kind="finetuned", parent=None, trained_on=TrainedOn(), metrics={}).version
            == version
        )
        put_run(job, status)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_a_name_is_its_newest_version_and_a_version_stays(lake: Lake) -> None:
    for version in (1, 2):
        lake.add(version)
    shelf = LakeShelf(lake.place)
    assert shelf.find("mood").key == "mood/v2"
    assert shelf.find("mood/v1").key == "mood/v1"
    assert (shelf.follows("mood"), shelf.follows("mood/v1"), shelf.follows(lake.place)) == (
        True,
        False,
        False,
    )
    with pytest.raises(InputError, match="no model"):
        shelf.find("other")


def test_routes_have_names_and_their_versions(lake: Lake) -> None:
    for version in (1, 2):
        lake.add(version)
    shelf = LakeShelf(lake.place)
    directory = model_location(str(lake.artifacts), "mood", 1)
    routes = read_routes(["mood", f"old={directory}"], shelf)
    assert {name: route.primary.key for name, route in routes.items()} == {
        "mood": "mood/v2",
        "old": "mood/v1",
    }
    told = with_versions(routes, shelf, canaries=["mood=mood/v1:0.25"], shadows=["mood=mood/v1"])[
        "mood"
    ].told()
    assert (told["canary"], told["canary_share"], told["shadow"]) == ("mood/v1", 0.25, "mood/v1")
    with pytest.raises(UsageError, match="two models would be called `mood`"):
        read_routes(["mood", "mood/v1"], shelf)
    for words in (["none=mood/v1:0.1"], ["mood=mood/v1"], ["mood=mood/v1:2"], ["mood/v1:0.1"]):
        with pytest.raises((UsageError, InputError)):
            with_versions(routes, shelf, canaries=words)


def test_a_newer_version_is_taken_when_its_run_has_succeeded(lake: Lake, tmp_path: Path) -> None:
    lake.add(1)
    words = ["mood", f"lake={lake.place}", "workers=1", "follow_seconds=0.5"]
    with serving(tmp_path, *words, port=free_ports(1)[0]) as served:
        assert served.score("spam").json["model"] == "mood/v1"
        lake.add(2, status=STARTED)
        time.sleep(1.5)
        assert served.score("spam").json["model"] == "mood/v1"
        lake.add(3)
        deadline = time.monotonic() + 60
        while (model := served.score("spam").json["model"]) != "mood/v3":
            assert model == "mood/v1"
            assert time.monotonic() < deadline
            time.sleep(0.1)
