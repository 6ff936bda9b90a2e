"""The stage compress: an int8 model with its measurements, made without a JVM."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from sparkml.compression.gate import GateSettings
from sparkml.compression.methods import MethodChoice
from sparkml.errors import InputError
from sparkml.frame.artifacts import CHECKSUMS_FILE, check, checksums
from sparkml.frame.ledger import Ledger
from sparkml.frame.registry import TrainedOn, model_location
from sparkml.frame.run import StageRun
from sparkml.frame.tables import Tables
from sparkml.inference.scorer import load_scorer
from sparkml.models.held_out import write_held_out
from sparkml.stages.compress import CompressConfig, run
from tests.runs import new_run, without_spark
from tests.tiny import WORDS, tiny_classifier

MakeRun = Callable[..., StageRun]
CONFIG = CompressConfig(
    model_id="classifier-int8",
    latency_documents=3,
    rounds=2,
    throughput_documents=8,
    gate=GateSettings(max_loss=0.2, max_flips=0.2),
)


@pytest.fixture
def tables(lake: str) -> Tables:
    """The tables of the fresh lake; none of them needs Spark here."""
    return Tables(lake, without_spark)


@pytest.fixture
def stage_run(tables: Tables, tmp_path: Path) -> MakeRun:
    """Makes what the stage's `run` gets."""
    ledger = Ledger(tables)

    def make(stage: str, fingerprint: str = "test") -> StageRun:
        return new_run(tables, ledger, tmp_path / "artifacts", stage, fingerprint=fingerprint)

    return make


def put_classifier(job: StageRun, kind: str = "finetuned") -> Path:
    words = [line.split() for line in WORDS]
    texts = [" ".join(words[n % 2][: 1 + n // 3]) for n in range(20)]
    ids = [str(n) for n in range(20)]
    with job.new_model("classifier") as staging:
        tiny_classifier(staging, ("ham", "spam"))
        write_held_out(staging, pa.table({"doc_id": ids, "text": texts, "label": ["spam", "ham"] * 10}))
    trained_on = TrainedOn(table="kept", version=7)
    made = job.register("classifier", kind=kind, parent="encoder/v1", trained_on=trained_on, metrics={})
    return Path(made.path)


def test_int8_model_with_report_and_row(stage_run: MakeRun, tmp_path: Path) -> None:
    source = put_classifier(stage_run("finetune"))
    job = stage_run("compress", fingerprint="c")
    report = run(job, CONFIG)
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (None, None, None)
    assert (report.metrics["documents"], report.bytes_in) == (
        20,
        (source / "model.safetensors").stat().st_size,
    )
    made = job.registry.require("classifier-int8")
    assert (made.version, made.kind, made.parent) == (1, "int8", "classifier/v1")
    assert (made.trained_on, made.stage_run) == (TrainedOn(table="kept", version=7), job.run_id)
    assert job.outputs == {"models:classifier-int8": 1}
    folder = Path(made.path)
    written = json.loads((folder / "report.json").read_text())
    assert (written["parent"], written["documents"], written["picked"]) == (
        "classifier/v1",
        20,
        "int8_dynamic",
    )
    before, after = (one["figures"] for one in written["forms"])
    for figures, place in ((before, source), (after, folder / "int8")):
        assert figures["size_bytes"] == (place / "model.safetensors").stat().st_size
        assert figures["documents_per_second"] > 0
    assert after["size_bytes"] < 0.5 * before["size_bytes"]
    assert made.metrics["float_accuracy"] == before["accuracy"]
    assert made.metrics["flipped"] == round(20 * written["forms"][1]["gate"]["flips"][0]) <= 2
    assert json.loads((folder / "engine.json").read_text()) == {"engine": written["forms"][1]["engine"]}
    (exact,), (quantised,) = (load_scorer(place).answer(["win a prize"]) for place in (source, folder))
    assert dict(quantised.scores) == pytest.approx(dict(exact.scores), abs=0.05)
    names = sorted(entry.name for entry in folder.iterdir())
    files = [
        "compression.json",
        "config.json",
        "engine.json",
        "held_out.parquet",
        "inputs.json",
        "report.json",
        "task.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert names == sorted([CHECKSUMS_FILE, "int8", *files])
    sums = checksums(str(folder))
    assert sums is not None
    assert sorted(sums) == sorted(["int8/model.safetensors", *files])
    check(folder, sums)


@pytest.mark.rare
def test_twice_gives_equal_weights(stage_run: MakeRun, tmp_path: Path) -> None:
    put_classifier(stage_run("finetune"))
    jobs = [stage_run("compress", fingerprint=name) for name in ("one", "two")]
    for job in jobs:
        run(job, CONFIG)
    folders = [Path(model_location(jobs[0].artifacts, "classifier-int8", version)) for version in (1, 2)]
    first, second = ((folder / "int8" / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_no_model_and_one_that_is_quantised_are_refused(stage_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model `classifier`[\s\S]*sparkml plan"):
        run(stage_run("compress"), CONFIG)
    put_classifier(stage_run("finetune"))
    run(stage_run("compress"), CONFIG)
    again = CONFIG.model_copy(update={"model": "classifier-int8", "model_id": "again"})
    with pytest.raises(InputError, match="only engines read"):
        run(stage_run("compress", "again"), again)


def test_where_nothing_passes_nothing_is_published(
    stage_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_classifier(stage_run("finetune"))
    job = stage_run("compress", fingerprint="strict")
    strict = CONFIG.model_copy(
        update={
            "method": (MethodChoice.model_validate({"name": "weight_only", "bits": 4, "group": 4096}),),
            "gate": GateSettings(max_loss=0, max_flips=0, judged_by="bound", max_floats=0.2),
        }
    )
    with pytest.raises(InputError, match=r"no form of the model passes[\s\S]*weight_only"):
        run(job, strict)
    assert not job.outputs
    assert not Path(model_location(job.artifacts, "classifier-int8", 1)).exists()


def test_the_best_of_several_lists_is_published(stage_run: MakeRun) -> None:
    put_classifier(stage_run("finetune"))
    lists = CompressConfig.model_validate(
        {
            **CONFIG.model_dump(),
            "method": "bf16",
            "beside": [["int8_dynamic"], "weight_only"],
            "prefer": "size",
        }
    )
    job = stage_run("compress", fingerprint="several")
    run(job, lists)
    made = job.registry.require("classifier-int8")
    written = json.loads(Path(made.path, "report.json").read_text())
    assert [one["name"] for one in written["forms"]] == ["as it is", "bf16", "int8_dynamic", "weight_only"]
    sizes = {one["name"]: one["figures"]["size_bytes"] for one in written["forms"]}
    assert sizes[written["picked"]] == min(sizes.values())


def test_a_directory_is_compressed_as_a_model_of_the_registry_is(stage_run: MakeRun, tmp_path: Path) -> None:
    source = put_classifier(stage_run("finetune"))
    own = tmp_path / "own"
    shutil.copytree(source, own)
    by_name, by_place = stage_run("compress", "one"), stage_run("compress", "two")
    run(by_name, CONFIG)
    run(by_place, CONFIG.model_copy(update={"model": str(own)}))
    made = [by_place.registry.require(f"classifier-int8/v{version}") for version in (1, 2)]
    assert [record.parent for record in made] == ["classifier/v1", str(own)]
    first, second = (Path(record.path, "int8", "model.safetensors").read_bytes() for record in made)
    assert first == second


@pytest.mark.parametrize("name", ["model.safetensors", "held_out.parquet"])
def test_a_model_whose_file_was_cut_off_or_altered_is_refused(
    stage_run: MakeRun, tables: Tables, tmp_path: Path, name: str
) -> None:
    source = put_classifier(stage_run("finetune"))
    whole = (source / name).read_bytes()
    altered = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for content, got in ((whole[:-9], f"{len(whole) - 9} bytes"), (altered, f"{len(whole)} bytes, altered")):
        (source / name).write_bytes(content)
        with pytest.raises(InputError, match="a file of an artifact is not as it was written") as caught:
            run(stage_run("compress"), CONFIG)
        assert (caught.value.where, caught.value.got) == (str(source / name), got)
    assert [entry.name for entry in source.parents[1].iterdir()] == ["classifier"]
    assert tables.log("models").count(0) == tables.log("models").version() + 1 == 1
