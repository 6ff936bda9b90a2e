"""What other programs and other steps did to a table since a step's last run: what runs again, and why. No JVM."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from sparkml.cli.screens import show_plan
from sparkml.frame.config import ProjectConfig
from sparkml.frame.ledger import FAILED, STARTED, SUCCEEDED, Run, utc_now
from sparkml.frame.pipeline import Pipeline, Step
from sparkml.frame.progress import Progress
from sparkml.frame.run import StageRun
from sparkml.frame.runner import Runner
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Writes
from tests.runs import without_spark


class CopyConfig(StageConfig):
    source: Reads = "numbers"
    target: Writes = "copy"
    rejects: Shares = "rejects"


def never(job: StageRun, config: CopyConfig) -> RunReport:
    raise NotImplementedError("these tests only ask what would run")


def step(name: str, source: str, target: str) -> Step:
    stage = Stage(CopyConfig, never, "a copy", name="copy", module="tests.unit.frame.test_as_left")
    return Step(name, stage, CopyConfig(source=source, target=target))


COPY, AGAIN = step("copy", "numbers", "copy"), step("again", "copy", "second")


class Lake:
    """Two steps have run: `numbers` -> copy -> `copy` -> again -> `second`. Each has a reject, in a shared table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.foreign("numbers", n=1)
        write_deltalake(self.place("rejects"), rejects(), partition_by=["step"])
        self.runs = {one.name: self.finish(one) for one in (COPY, AGAIN)}

    @property
    def runner(self) -> Runner:
        """A command of its own: what another one has read is not remembered."""
        config = ProjectConfig(
            env="local",
            lake=str(self.folder),
            artifacts=str(self.folder / "_artifacts"),
            seed=17,
            spark={},
            pipeline=Pipeline.of("test", (COPY, AGAIN), {"numbers"}.__contains__),
            origins={},
        )
        return Runner(without_spark, config, Progress())

    def finish(self, one: Step, status: str = SUCCEEDED, *, owned: bool = True) -> Run:
        """A run of a step as the runner records it, which adds a row to its tables (or only to the shared one)."""
        state, runner = self.runner.state(one), self.runner
        run = Run(f"{one.name}-{status}", one.name, "copy", state.fingerprint, STARTED, utc_now())
        runner.ledger.put(run)
        rows = {"rejects": rejects(one.name)} | ({one.writes[0]: pa.table({"n": [1]})} if owned else {})
        outputs = {
            ref: runner.tables.log(ref).append(row, {"run_id": run.run_id}) for ref, row in rows.items()
        }
        config, inputs = one.config.model_dump_json(), state.inputs.versions
        runner.ledger.put(
            replace(run, status=status, inputs=inputs, outputs=outputs, config=config, ended_at=utc_now())
        )
        return run

    def foreign(self, table: str, mode: str = "append", **row: object) -> None:
        """Another program writes a row."""
        write_deltalake(
            self.place(table), pa.table({name: [value] for name, value in row.items()}), mode=mode
        )  # type: ignore[call-overload]

    def table(self, name: str) -> DeltaTable:
        return DeltaTable(self.place(name))

    def place(self, table: str) -> str:
        return str(self.folder / table)

    def reason(self, one: Step) -> str:
        return self.runner.state(one).reason


def rejects(*steps: str) -> pa.Table:
    return pa.table({"step": pa.array(steps, pa.string()), "doc_id": pa.array(steps, pa.string())})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """The two steps, both up to date."""
    found = Lake(tmp_path)
    assert [found.reason(one) for one in (COPY, AGAIN)] == ["up to date", "up to date"]
    return found


def test_rows_that_another_program_adds_to_a_table_of_our_own(lake: Lake) -> None:
    lake.foreign("copy", n=2)
    assert lake.reason(COPY) == (
        "table `copy` is not as this step left it: another program wrote version 1 (WRITE)"
    )
    assert lake.reason(AGAIN) == "new version of `copy`"


def test_a_table_of_our_own_that_another_program_replaces(lake: Lake) -> None:
    lake.foreign("copy", mode="overwrite", n=7)
    lake.table("copy").delete("n = 7")
    assert lake.reason(COPY) == (
        "table `copy` is not as this step left it: another program wrote version 2 (DELETE)"
    )


def test_a_table_that_was_dropped_and_made_anew(lake: Lake) -> None:
    shutil.rmtree(lake.place("copy"))
    assert lake.reason(COPY) == "table `copy` is not as this step left it: version 0 is not there any more"
    lake.foreign("copy", n=1)
    assert lake.reason(COPY) == "table `copy` is not as this step left it: it was made anew"


def test_files_that_another_program_arranges_anew_make_nothing_run(lake: Lake) -> None:
    for name in ("copy", "second", "rejects"):
        lake.table(name).optimize.z_order(["n" if name != "rejects" else "doc_id"])
        lake.table(name).alter.set_table_properties({"delta.appendOnly": "false"})
        lake.table(name).vacuum(
            dry_run=False
        )  # the files of the version that ran stay: a property of our tables
        newest = [entry["operation"] for entry in lake.table(name).history(2)]
        assert newest == ["SET TBLPROPERTIES", "OPTIMIZE"]
    assert [lake.reason(one) for one in (COPY, AGAIN)] == ["up to date", "up to date"]
    tables = lake.runner.tables
    assert tables.log("copy").read(tables.published("copy", ())).column("n").to_pylist() == [1]
    lake.foreign("copy", n=2)
    assert "another program wrote version" in lake.reason(COPY)


def test_a_foreign_source_that_is_arranged_anew_is_read_anew(lake: Lake) -> None:
    lake.table("numbers").optimize.z_order(["n"])
    assert lake.reason(COPY) == "new version of `numbers`"


@pytest.mark.parametrize("how", ["add", "delete", "update"])
def test_only_the_step_whose_slice_of_a_shared_table_another_program_touched_runs_again(
    lake: Lake, how: str
) -> None:
    if how == "add":
        lake.foreign("rejects", step="copy", doc_id="x")
    elif how == "delete":
        lake.table("rejects").delete("step = 'copy'")
    else:
        lake.table("rejects").update({"doc_id": "'x'"}, predicate="step = 'copy'")
    operation = {"add": "WRITE", "delete": "DELETE", "update": "UPDATE"}[how]
    assert lake.reason(COPY) == (
        f"table `rejects` is not as this step left it: another program wrote version 3 ({operation})"
    )
    assert lake.reason(AGAIN) == "up to date"


def test_a_shared_table_that_another_program_replaces_as_a_whole(lake: Lake) -> None:
    lake.foreign("rejects", mode="overwrite", step="somebody", doc_id="x")
    because = "table `rejects` is not as this step left it: another program wrote version 3 (WRITE)"
    assert [lake.reason(one) for one in (COPY, AGAIN)] == [because, because]


def test_a_failed_run_of_the_step_may_have_replaced_its_slice(lake: Lake) -> None:
    lake.finish(AGAIN, FAILED, owned=False)
    assert lake.reason(AGAIN) == (
        "table `rejects` is not as this step left it: run again-failed of step `again` (failed) wrote version 3"
    )
    assert lake.reason(COPY) == "up to date"


def test_the_plan_says_what_runs_again_and_why(lake: Lake) -> None:
    lake.table("rejects").delete("step = 'copy'")
    runner = lake.runner
    console = Console(width=300, record=True)
    show_plan(console, [runner.state(one) for one in (COPY, AGAIN)], runner._config)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert (
        "copy run table `rejects` is not as this step left it: another program wrote version 3 (DELETE) "
        "copy-succeeded a copy"
    ) in lines
    assert "again run after copy again-succeeded a copy" in lines
