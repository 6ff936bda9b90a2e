"""Static int8: one scale a layer from examples, saturation beyond it, and the same answers under both engines."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sparkml.compression.calibration import BINS, end_of_entropy, end_of_percentile, input_scales
from sparkml.errors import InputError
from sparkml.inference.scorer import load_scorer
from sparkml.models.directory import read_task
from sparkml.models.engines import choose
from sparkml.models.engines.layout import read_encoder
from sparkml.models.folder import INT8_FOLDER, WEIGHTS_FILE
from sparkml.models.int8 import Int8Linear, saturate_rows
from sparkml.tasks.task import task_of
from tests.forms import compressed
from tests.tiny import WORDS, tiny_classifier

Make = Callable[..., Path]
TEXTS = [" ".join(WORDS[n % 2].split()[: 1 + n % 8]) for n in range(32)]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("static") / "float")


@pytest.fixture
def static(exact: Path, tmp_path: Path) -> Make:
    """Makes the static int8 form of the tiny classifier by some settings."""
    examples = pa.table({"text": TEXTS})

    def made(**settings: Any) -> Path:
        target = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
        return compressed(exact, target, "int8_static", examples=examples, **settings)

    return made


def scales_of(folder: Path) -> dict[str, float]:
    """The input scales of a form, by layer."""
    state = load_file(folder / INT8_FOLDER / WEIGHTS_FILE)
    end = ".input_scale"
    return {name.removesuffix(end): float(value) for name, value in state.items() if name.endswith(end)}


def test_scales_are_of_what_comes_into_each_layer(exact: Path, static: Make) -> None:
    scales = scales_of(static(calibration="minmax"))
    attention = "bert.encoder.layer.0.attention.self."
    assert scales[f"{attention}query"] == scales[f"{attention}key"] == scales[f"{attention}value"]
    assert len(scales) == 2 * 6 + 1  # and the pooler
    # The same found by hand: one text at a time, without padding.
    network = load_scorer(exact, engine_name="torch").network
    layer, seen = network.get_submodule("bert.encoder.layer.1.intermediate.dense"), []
    layer.register_forward_pre_hook(lambda _, given: seen.append(float(given[0].abs().max())))
    scorer = load_scorer(exact, engine_name="torch")
    scorer.network = network
    for text in TEXTS:
        scorer.answer([text])
    assert scales["bert.encoder.layer.1.intermediate.dense"] == pytest.approx(max(seen) / 127, rel=1e-5)


def test_the_wider_the_range_the_larger_the_scale(static: Make) -> None:
    whole, most, half = (
        scales_of(static(calibration=way, **more))
        for way, more in (
            ("minmax", {}),
            ("percentile", {"percentile": 99.0}),
            ("percentile", {"percentile": 60.0}),
        )
    )
    assert all(half[name] < most[name] < whole[name] for name in whole)
    entropy = scales_of(static(calibration="entropy"))
    assert all(0.05 * whole[name] < entropy[name] <= whole[name] * (1 + 1e-6) for name in whole)


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy"])
def test_both_engines_answer_alike_and_as_the_float_model(
    exact: Path, static: Make, calibration: str
) -> None:
    folder = static(calibration=calibration)
    spec = task_of(read_task(folder), folder).network()
    assert choose("auto", spec, folder) == "encoder"
    ours, theirs = (load_scorer(folder, engine_name=name).answer(TEXTS) for name in ("encoder", "torch"))
    wanted = load_scorer(exact).answer(TEXTS)
    for one, other, float_ in zip(ours, theirs, wanted, strict=True):
        # A value between two levels may go to either.
        assert dict(one.scores or ()) == pytest.approx(dict(other.scores or ()), abs=0.02)
        assert dict(one.scores or ()) == pytest.approx(dict(float_.scores or ()), abs=0.1)


def test_both_engines_saturate_alike(static: Make) -> None:
    folder = static(calibration="percentile", percentile=60.0)
    ours, theirs = (load_scorer(folder, engine_name=name).answer(TEXTS) for name in ("encoder", "torch"))
    for one, other in zip(ours, theirs, strict=True):
        assert dict(one.scores or ()) == pytest.approx(dict(other.scores or ()), abs=0.02)


@pytest.mark.parametrize("engine", ["encoder", "torch"])
def test_an_answer_depends_on_its_row_alone(static: Make, engine: str) -> None:
    scorer = load_scorer(static(), engine_name=engine)
    together = scorer.answer(TEXTS)
    for text, answer in zip(TEXTS[:8], together, strict=False):
        (alone,) = scorer.answer([text])
        # Padding changes the order of sums, and a value between two levels may then go to either.
        assert dict(alone.scores or ()) == pytest.approx(dict(answer.scores or ()), abs=5e-3)


def test_groups_that_stay_float_have_no_scale(static: Make) -> None:
    kept = frozenset({"bert.encoder.layer.0.attention.self", "bert.encoder.layer.1.output"})
    folder = static(kept=kept)
    weights = load_file(folder / INT8_FOLDER / WEIGHTS_FILE)
    assert weights["bert.encoder.layer.1.output.dense.weight"].dtype == torch.float32
    assert len(scales_of(folder)) == 2 * 6 + 1 - 4
    ours, theirs = (load_scorer(folder, engine_name=name).answer(TEXTS) for name in ("encoder", "torch"))
    for one, other in zip(ours, theirs, strict=True):
        assert dict(one.scores or ()) == pytest.approx(dict(other.scores or ()), abs=0.02)


def test_scales_that_disagree_are_refused(static: Make, tmp_path: Path) -> None:
    folder = static()
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    file = damaged / INT8_FOLDER / WEIGHTS_FILE
    state = load_file(file)
    state["bert.encoder.layer.0.attention.self.key.input_scale"] *= 2
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="different scales"):
        read_encoder(task_of(read_task(damaged), damaged).network(), damaged)


def test_a_layer_saturates_at_its_scale() -> None:
    linear = nn.Linear(4, 2)
    layer = Int8Linear.of(linear, input_scale=0.01)
    inside, beyond = torch.tensor([[0.5, -1.0, 1.27, 0.0]]), torch.tensor([[0.5, -1.0, 90.0, 0.0]])
    torch.testing.assert_close(layer(inside), layer(beyond))
    torch.testing.assert_close(layer(inside), linear(inside), rtol=0.02, atol=0.02)
    rows, scale = saturate_rows(torch.tensor([[9.0, -9.0], [0.5, torch.nan]]), torch.tensor(0.01))
    assert rows[0].tolist() == [127, -127]
    assert scale[0] == pytest.approx(0.01)
    assert torch.isnan(scale[1])


def test_padding_and_layers_without_input_do_not_count() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.used(values)
            return found

    values = torch.tensor([[[1.0, 2.0, 3.0], [900.0, 900.0, 900.0]]])
    batch = {"values": values, "attention_mask": torch.tensor([[1, 0]])}
    network = Network()
    assert input_scales(network, ["used", "unused"], [batch], "minmax", 99.0) == {
        "used": pytest.approx(3 / 127)
    }
    assert not network.used._forward_pre_hooks


def test_percentile_counts_values() -> None:
    counts = np.zeros(BINS)
    counts[9], counts[99], counts[-1] = 90, 9, 1
    assert [end_of_percentile(counts, p) for p in (90.0, 99.0, 99.5, 100.0)] == [10, 100, BINS, BINS]


def test_entropy_lets_rare_outliers_saturate_and_keeps_even_values_whole() -> None:
    rng = np.random.default_rng(3)
    bulk = np.abs(rng.normal(size=200_000))
    outliers = np.histogram(np.append(bulk, [60.0, 64.0]), BINS, (0, 64))[0].astype(np.float64)
    end = 64 * end_of_entropy(outliers) / BINS
    assert np.quantile(bulk, 0.99) < end < 16
    even = np.full(BINS, 50.0)
    assert end_of_entropy(even) > 0.95 * BINS
