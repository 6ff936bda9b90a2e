"""The engine onnx says what transformers' network says, whatever the shape of a batch, without transformers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sparkml.errors import InputError
from sparkml.inference.scorer import load_scorer
from sparkml.models.directory import keep_text_inputs, read_task
from sparkml.models.engines import able_engines, choose, engine
from sparkml.models.folder import CONFIG_FILE, ONNX_FILE, ONNX_FOLDER, WEIGHTS_FILE, read_json, write_json
from sparkml.models.heads import load_trained
from sparkml.models.onnx_export import export_onnx
from sparkml.tasks.task import task_of
from tests.tiny import WORDS, copy_of, tiny_image_classifier
from tests.unit.models.test_engine_encoder import SHAPES, SPECS, trained

TEXTS = [" ".join(WORDS[n % 2].split()[: 1 + n % 8]) for n in range(24)]


def batch(rows: int, time: int, *, kinds: bool) -> dict[str, torch.Tensor]:
    """Tokens, the last row of two thirds of the length."""
    ids = torch.randint(5, 60, (rows, time), generator=torch.Generator().manual_seed(rows * time))
    mask = torch.ones_like(ids)
    mask[-1, 1 + 2 * time // 3 :] = 0
    ids[mask == 0] = 1
    found = {"input_ids": ids, "attention_mask": mask}
    return {**found, "token_type_ids": torch.zeros_like(ids)} if kinds else found


@pytest.fixture(scope="module")
def folder(classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier as ONNX alone."""
    made = copy_of(classifier_folder, tmp_path_factory.mktemp("onnx") / "made")
    spec = task_of(read_task(made), made).network()
    export_onnx(load_trained(spec, made), [batch(2, 5, kinds=True)], made / ONNX_FOLDER, tolerance=1e-4)
    (made / WEIGHTS_FILE).unlink()
    keep_text_inputs(made)
    return made


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "mean"), ("distilbert", "each"), ("roberta", "first")]
)
def test_logits_are_those_of_transformers(tmp_path: Path, family: str, pooling: str) -> None:
    config = {**SHAPES[family], "n_layers" if family == "distilbert" else "num_hidden_layers": 1}
    spec, source = SPECS[pooling], trained(tmp_path, config, SPECS[pooling])
    kinds = family == "bert"
    export_onnx(load_trained(spec, source), [batch(3, 7, kinds=kinds)], source / ONNX_FOLDER, tolerance=1e-4)
    assert able_engines(spec, source) == ["encoder", "onnx", "torch"]
    theirs, ours = (engine(name).load(spec, source) for name in ("torch", "onnx"))
    for rows, time in ((1, 1), (1, 9), (5, 3), (2, 30)):
        inputs = batch(rows, time, kinds=kinds)
        with torch.inference_mode():
            wanted, got = (one(**inputs).logits for one in (theirs, ours))
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def test_images_in_any_number(tmp_path: Path) -> None:
    source = tiny_image_classifier(tmp_path / "images")
    spec = task_of(read_task(source), source).network()
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    export_onnx(
        load_trained(spec, source), [{"pixel_values": images[:3]}], source / ONNX_FOLDER, tolerance=1e-4
    )
    theirs, ours = (engine(name).load(spec, source) for name in ("torch", "onnx"))
    for rows in (1, 5):
        with torch.inference_mode():
            wanted, got = (one(pixel_values=images[:rows]).logits for one in (theirs, ours))
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def test_a_directory_of_onnx_alone_is_scored(folder: Path, classifier_folder: Path) -> None:
    spec = task_of(read_task(folder), folder).network()
    assert (able_engines(spec, folder), choose("auto", spec, folder)) == (["onnx"], "onnx")
    wanted = load_scorer(classifier_folder, engine_name="torch").answer(TEXTS)
    for one, other in zip(load_scorer(folder).answer(TEXTS), wanted, strict=True):
        assert dict(one.scores or ()) == pytest.approx(dict(other.scores or ()), abs=1e-4)
    for name in ("encoder", "torch"):
        with pytest.raises(InputError, match="in ONNX alone"):
            choose(name, spec, folder)
    with pytest.raises(InputError, match="in ONNX alone"):
        load_trained(spec, folder)


def test_an_answer_depends_on_its_row_alone(folder: Path) -> None:
    scorer = load_scorer(folder)
    for text, answer in zip(TEXTS, scorer.answer(TEXTS), strict=True):
        (alone,) = scorer.answer([text])
        assert dict(alone.scores or ()) == pytest.approx(dict(answer.scores or ()), abs=1e-5)


def test_two_threads_answer_as_one(folder: Path) -> None:
    one = load_scorer(folder).answer(TEXTS)
    try:
        two = load_scorer(folder, threads=2).answer(TEXTS)
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one, two, strict=True):
        assert dict(a.scores or ()) == pytest.approx(dict(b.scores or ()), abs=1e-5)


def test_a_worker_imports_neither_transformers_nor_the_exporter(folder: Path) -> None:
    code = f"""
import sys
from sparkml.inference.scorer import load_scorer
(answer,) = load_scorer({str(folder)!r}).answer(["win a prize"])
heavy = {{"transformers", "onnx", "onnxscript", "torch.onnx._internal.exporter", "peft"}} & set(sys.modules)
print(answer.error, sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "None []"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "not an ONNX file"),
        (lambda file: (file.parent / f"{ONNX_FILE}.data").unlink(), "missing"),
        (lambda file: (file.parent / "model.bin").write_bytes(b""), "pickle"),
        (lambda file: file.rename(file.parent / "other.onnx"), "there is no"),
    ],
)
def test_damaged_directories_are_refused(
    folder: Path, tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    damage(damaged / ONNX_FOLDER / ONNX_FILE)
    with pytest.raises(InputError, match=reason):
        load_scorer(damaged, engine_name="onnx")


def test_weights_outside_the_directory_are_refused(folder: Path, tmp_path: Path) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    file = damaged / ONNX_FOLDER / ONNX_FILE
    name = f"{ONNX_FILE}.data".encode()
    (damaged / "weights.data").write_bytes((file.parent / f"{ONNX_FILE}.data").read_bytes())
    file.write_bytes(file.read_bytes().replace(name, b"../weights.data"))  # as long as the name
    with pytest.raises(InputError, match="only read weights of its own directory"):
        load_scorer(damaged)


def test_a_network_of_other_outputs_is_no_network_of_the_task(folder: Path, tmp_path: Path) -> None:
    other = copy_of(folder, tmp_path / "other")
    file = other / ONNX_FOLDER / ONNX_FILE
    file.write_bytes(file.read_bytes().replace(b"logits", b"hidden"))
    with pytest.raises(InputError, match="gives hidden, not logits"):
        load_scorer(other, engine_name="onnx")


def test_inputs_that_the_task_does_not_make_are_named(folder: Path, tmp_path: Path) -> None:
    other = copy_of(folder, tmp_path / "other")
    write_json(other / CONFIG_FILE, {**read_json(other / CONFIG_FILE), "type_vocab_size": 0})
    spec = task_of(read_task(folder), folder).network()
    with pytest.raises(InputError, match=r"inputs that the task does not make[\s\S]*token_type_ids"):
        engine("onnx").load(spec, other)(**batch(2, 4, kinds=False))
