"""Where a model answers. There is no GPU here: what torch and Spark say of one is made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sparkml
from sparkml.errors import ConfigError
from sparkml.inference import batches, device
from sparkml.inference.batches import ModelSource, worker_scorer
from sparkml.inference.device import device_for, gpu_of_task
from sparkml.models.folder import COMPRESSION_FILE, FORM_FOLDERS, write_json
from tests.tiny import tiny_classifier


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch as on a machine with two."""
    names = ["GPU-0000", "GPU-1111"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=names[number][4:])
    )


def in_task(monkeypatch: pytest.MonkeyPatch, partition: int, *addresses: str) -> None:
    given = {"gpu": SimpleNamespace(addresses=list(addresses))} if addresses else {}
    task = SimpleNamespace(resources=lambda: given, partitionId=lambda: partition)
    monkeypatch.setattr(device, "_spark_task", lambda: task)


def test_without_a_gpu_the_processor_answers(tmp_path: Path) -> None:
    assert gpu_of_task() is None
    assert device_for("auto", "auto", tmp_path, None) == "cpu"
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        device_for("cuda", "auto", tmp_path, None)
    with pytest.raises(ConfigError, match="no such device"):
        device_for("tpu", "auto", tmp_path, None)


@pytest.mark.usefixtures("gpus")
def test_a_task_has_the_gpu_that_spark_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_of_task() == 0
    for address, number in (("1", 1), ("GPU-1111", 1), ("0", 0)):
        in_task(monkeypatch, 0, address)
        assert gpu_of_task() == number
    in_task(monkeypatch, 0, "GPU-2222")
    with pytest.raises(ConfigError, match="GPU-2222"):
        gpu_of_task()
    # Who asks for the processor needs none that fits.
    assert gpu_of_task("cpu") is None
    # Spark in local mode, or set up without GPUs, knows of none.
    for partition in (0, 1, 2):
        in_task(monkeypatch, partition)
        assert gpu_of_task() == partition % 2


@pytest.mark.parametrize("form", ["", *FORM_FOLDERS])
def test_a_gpu_answers_for_what_transformers_runs(tmp_path: Path, form: str) -> None:
    (tmp_path / form).mkdir(exist_ok=True)
    on_processor = form in ("int8", "onnx")
    assert device_for("auto", "auto", tmp_path, 1) == ("cpu" if on_processor else "cuda:1")
    assert device_for("auto", "encoder", tmp_path, 1) == device_for("cpu", "torch", tmp_path, 1) == "cpu"
    if on_processor:
        with pytest.raises(ConfigError, match=f"{form}/"):
            device_for("cuda", "torch", tmp_path, 1)


@pytest.mark.usefixtures("gpus")
def test_a_worker_loads_a_model_once_for_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[dict[str, Any]] = []

    def load(folder: Path, threads: int, **settings: Any) -> object:
        loaded.append(settings)
        return object()

    monkeypatch.setattr("sparkml.inference.scorer.load_scorer", load)
    batches._kept_scorer.cache_clear()
    models = [ModelSource(str(tmp_path), "one", 1), ModelSource(str(tmp_path), "one", 1, device="cpu")]
    found = []
    for address in ("0", "1", "0"):
        in_task(monkeypatch, 0, address)
        found.append(worker_scorer(models[0]))
    assert found[0] is found[2] is not found[1]
    worker_scorer(models[1])
    assert [one["device"] for one in loaded] == ["cuda:0", "cuda:1", "cpu"]
    batches._kept_scorer.cache_clear()


def test_bfloat16_weights_answer_in_float32_where_the_processor_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_classifier(tmp_path / "m", ("a", "b"))
    plain = sparkml.load_scorer(str(folder), engine="torch").answer(["a text"])[0]
    write_json(folder / COMPRESSION_FILE, {"precision": "bfloat16"})
    found = []
    for has in (False, True):
        monkeypatch.setattr("sparkml.models.onednn.has_bfloat16", lambda has=has: has)
        found.append(sparkml.load_scorer(str(folder), engine="torch").answer(["a text"])[0])
    assert found[0] == plain
    assert found[1].score != plain.score
    assert found[1].score == pytest.approx(plain.score, abs=0.02)
