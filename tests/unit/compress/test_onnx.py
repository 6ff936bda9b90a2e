"""The method onnx: what differs from the network is refused, and the gate refuses what int8 everywhere makes of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sparkml.compression.gate import GateSettings, judge
from sparkml.compression.measure import quality, weights_bytes
from sparkml.errors import ConfigError, InputError
from sparkml.inference.scorer import load_scorer, rows_of
from sparkml.models.directory import read_task
from sparkml.models.folder import ONNX_FILE, ONNX_FOLDER, WEIGHTS_FILE
from sparkml.models.heads import load_trained, save_trained
from sparkml.models.onnx_export import export_onnx
from sparkml.tasks.task import task_of
from tests.forms import compressed
from tests.tiny import WORDS, tiny_classifier

LABELS = ("a", "b")


def mixed_texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts of words of two kinds, and which kind is the more frequent in each."""
    rng = np.random.default_rng(seed)
    kinds = [words.split() for words in WORDS]
    texts, labels = [], []
    for _ in range(count):
        drawn = rng.integers(0, 2, 2 * int(rng.integers(0, 5)) + 1)
        texts.append(" ".join(str(rng.choice(kinds[kind])) for kind in drawn))
        labels.append(LABELS[int(2 * drawn.sum() > len(drawn))])
    return texts, labels


def labelled(count: int, seed: int) -> pa.Table:
    """Examples as a held-out table has them."""
    texts, labels = mixed_texts(count, seed)
    return pa.table({"doc_id": [str(number) for number in range(count)], "text": texts, "label": labels})


EXAMPLES = labelled(200, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learnt to count; one channel is far larger than others, as in pretrained networks."""
    made = tiny_classifier(tmp_path_factory.mktemp("onnx") / "float", LABELS)
    state = load_file(made / WEIGHTS_FILE)
    for part in ("weight", "bias"):
        state[f"bert.encoder.layer.0.output.LayerNorm.{part}"][3] = 60.0
    state["classifier.weight"] /= 40.0
    save_file(state, made / WEIGHTS_FILE, metadata={"format": "pt"})
    task = task_of(read_task(made), made)
    network = load_trained(task.network(), made)
    examples = labelled(300, seed=2).to_batches()[0]
    batch = task.collate(rows_of(task.encode(examples, purpose="measure").samples), None)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(60):
        loss = task.loss(network, batch)
        optimiser.zero_grad()
        (loss.total / loss.units).backward()
        optimiser.step()
    save_trained(network, made)
    return made


def test_the_gate_passes_the_float_form_and_refuses_int8_everywhere(folder: Path, tmp_path: Path) -> None:
    exact = quality(folder, EXAMPLES, 1, 0)
    assert exact.metrics["accuracy"] > 0.9
    float_ = compressed(folder, tmp_path / "float", "onnx", examples=EXAMPLES)
    verdict = judge(exact.judged, quality(float_, EXAMPLES, 1, 0).judged, GateSettings())
    assert (verdict.holds, verdict.flips) == (True, 0)
    assert 0 < weights_bytes(float_) < 2 * weights_bytes(folder)
    int8 = compressed(folder, tmp_path / "int8", "onnx", examples=EXAMPLES, quantise="static_all", rows=64)
    verdict = judge(exact.judged, quality(int8, EXAMPLES, 1, 0).judged, GateSettings())
    assert not verdict.holds
    assert verdict.flips > 0.01
    assert "answers" in verdict.reason
    with pytest.raises(InputError, match="only engines read"):
        compressed(float_, tmp_path / "again")


def test_int8_products_answer_each_row_alone(folder: Path, tmp_path: Path) -> None:
    made = compressed(folder, tmp_path / "int8", "onnx", examples=EXAMPLES, quantise="static", rows=64)
    scorer, texts = load_scorer(made), EXAMPLES["text"].to_pylist()
    for text, answer in zip(texts[:12], scorer.answer(texts), strict=False):
        (alone,) = scorer.answer([text])
        assert dict(alone.scores or ()) == pytest.approx(dict(answer.scores or ()), abs=1e-3)


class Net(nn.Module):
    """Two logits of three values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.calls = 0

    def forward(self, values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.layer(values))


class Counts(Net):
    """Each call answers otherwise."""

    def forward(self, values: torch.Tensor) -> SimpleNamespace:
        self.calls += 1
        return SimpleNamespace(logits=self.layer(values) + float(self.calls))


class Branches(Net):
    """What is computed depends on values, which no trace can say."""

    def forward(self, values: torch.Tensor) -> SimpleNamespace:
        found = self.layer(values)
        return SimpleNamespace(logits=found if found.sum() > 0 else -found)


def not_a_number() -> Net:
    net = Net()
    with torch.no_grad():
        net.layer.weight[0, 0] = torch.nan
    return net


@pytest.mark.parametrize(
    ("build", "tolerance", "reason"),
    [
        (Counts, 1e-4, "answers otherwise"),
        (not_a_number, 1e-4, "answers otherwise"),
        (Branches, 1e-4, "cannot be written as ONNX"),
    ],
)
def test_what_cannot_be_written_right_is_not_written(
    tmp_path: Path, build: Callable[[], nn.Module], tolerance: float, reason: str
) -> None:
    batches = [{"values": torch.randn(rows, 3)} for rows in (4, 1)]
    with pytest.raises(InputError, match=reason):
        export_onnx(build(), batches, tmp_path / ONNX_FOLDER, tolerance=tolerance)
    assert list(tmp_path.iterdir()) == []


def test_one_row_and_many_fit_the_same_file(tmp_path: Path) -> None:
    batches = [{"values": torch.randn(rows, 3)} for rows in (1, 9)]
    assert export_onnx(Net(), batches, tmp_path / ONNX_FOLDER, tolerance=1e-5) <= 1e-5
    written = (tmp_path / ONNX_FOLDER / ONNX_FILE).read_bytes()
    assert str(Path(__file__).parent).encode() not in written  # nor other traces of this machine


def test_a_missing_package_is_named_with_its_extra(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"no onnxscript[\s\S]*sparkml\[onnx\]"):
        compressed(folder, tmp_path / "float", "onnx", examples=EXAMPLES)
