"""EfficientNet-Lite0 as a directory of transformers: the same network, open gates, photos as the original takes them.

Random weights under the original's names; the oracle is its network in functions of torch, padded as TensorFlow pads.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModelForImageClassification

from sparkml.models.media import read_image_inputs
from sparkml.models.networks import load_network
from sparkml.tasks.pixels import decoded, normalised, tensor_of
from tools.pretrained.efficientnet_lite import main

# Blocks of a stage, kernel, stride of the first, expansion, channels: table 1 of arXiv:1905.11946.
STAGES = [
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
]  # fmt: skip
N_LABELS = 7
State = dict[str, Tensor]


class Original:
    """The network in the order of its layers: draws weights where `state` has none yet, and uses them after that."""

    def __init__(self) -> None:
        self.state: State = {}
        self.random = torch.Generator().manual_seed(3)

    def tensor(self, name: str, *shape: int, mean: float = 0.0, spread: float = 1.0) -> Tensor:
        if name not in self.state:
            self.state[name] = mean + spread * torch.randn(*shape, generator=self.random)
        return self.state[name]

    def convolution(self, name: str, maps: Tensor, n: int, kernel: int = 1, stride: int = 1) -> Tensor:
        depthwise = "depthwise" in name
        inputs = 1 if depthwise else maps.shape[1]
        spread = (2 / (inputs * kernel**2)) ** 0.5
        weight = self.tensor(f"{name}.weight", n, inputs, kernel, kernel, spread=spread)
        size = maps.shape[-1]
        padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)  # SAME: what is odd comes last
        ends = (padding // 2, padding - padding // 2)
        return F.conv2d(F.pad(maps, ends + ends), weight, stride=stride, groups=n if depthwise else 1)

    def norm(self, name: str, maps: Tensor) -> Tensor:
        n = maps.shape[1]
        weight, bias = self.tensor(f"{name}.weight", n, mean=1, spread=0.1), self.tensor(f"{name}.bias", n)
        mean = self.tensor(f"{name}.running_mean", n, spread=0.1)
        variance = self.tensor(f"{name}.running_var", n, mean=1, spread=0.1)
        self.state.setdefault(f"{name}.num_batches_tracked", torch.tensor(1))
        return F.batch_norm(maps, mean, variance, weight, bias, eps=1e-3)

    def block(self, number: int, maps: Tensor, kernel: int, stride: int, expansion: int, n: int) -> Tensor:
        name, hidden, wide = f"_blocks.{number}", maps, maps.shape[1] * expansion
        if expansion > 1:
            hidden = F.relu6(self.norm(f"{name}._bn0", self.convolution(f"{name}._expand_conv", maps, wide)))
        hidden = self.convolution(f"{name}._depthwise_conv", hidden, wide, kernel, stride)
        hidden = F.relu6(self.norm(f"{name}._bn1", hidden))
        hidden = self.norm(f"{name}._bn2", self.convolution(f"{name}._project_conv", hidden, n))
        return hidden + maps if hidden.shape == maps.shape else hidden

    def logits(self, images: Tensor) -> Tensor:
        maps = F.relu6(self.norm("_bn0", self.convolution("_conv_stem", images, 32, 3, 2)))
        number = 0
        for repeats, kernel, stride, expansion, n in STAGES:
            for repeat in range(repeats):
                maps = self.block(number, maps, kernel, stride if repeat == 0 else 1, expansion, n)
                number += 1
        vectors = F.relu6(self.norm("_bn1", self.convolution("_conv_head", maps, 1280))).mean(dim=(2, 3))
        weight = self.tensor("_fc.weight", N_LABELS, 1280, spread=0.05)
        return F.linear(vectors, weight, self.tensor("_fc.bias", N_LABELS))


@pytest.fixture(scope="module")
def original() -> tuple[State, Tensor, Tensor]:
    """Weights, two images, and what the original says of them."""
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)).clamp_(-1, 1)
    network = Original()
    with torch.inference_mode():
        logits = network.logits(images)
    return {name: tensor.clone() for name, tensor in network.state.items()}, images, logits


@pytest.fixture(scope="module")
def folder(original: tuple[State, Tensor, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lite0")
    torch.save(original[0], root / "weights.pth")
    assert main([str(root / "model"), "--weights", str(root / "weights.pth")]) == 0
    return root / "model"


def test_the_directory_answers_as_the_original(original: tuple[State, Tensor, Tensor], folder: Path) -> None:
    _, images, expected = original
    network = AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = network(pixel_values=images).logits
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_gates_are_open_and_learn_nothing(folder: Path) -> None:
    network = load_network(folder, "AutoModelForImageClassification", labels=("hat", "shoe")).network
    changes: list[Tensor] = []
    for name, module in network.named_modules():
        if name.endswith(".squeeze_excite"):
            module.register_forward_hook(lambda _, inputs, output: changes.append(output - inputs[0]))
    network(pixel_values=torch.rand(2, 3, 32, 32), labels=torch.tensor([0, 1])).loss.backward()
    assert [int(change.count_nonzero()) for change in changes] == [0] * sum(stage[0] for stage in STAGES)
    learns = {name: bool(part.grad.count_nonzero()) for name, part in network.named_parameters()}
    assert not any(learns[name] for name in learns if ".squeeze_excite." in name)
    assert learns["efficientnet.embeddings.convolution.weight"]


def test_photos_become_what_the_original_takes(folder: Path) -> None:
    """The middle 224 pixels of the photo at 256, minus 127, over 128: by our own reading and by transformers'."""
    values = np.random.default_rng(2).integers(0, 256, (256, 300, 3), np.uint8)
    photo = Image.fromarray(values)
    sink = io.BytesIO()
    photo.save(sink, "PNG")
    expected = (torch.from_numpy(values[16:240, 38:262].copy()).permute(2, 0, 1).float() - 127) / 128
    inputs = read_image_inputs(folder)
    ours = normalised(tensor_of([decoded(sink.getvalue(), inputs, 10**6).tobytes()], inputs), inputs)
    theirs = AutoImageProcessor.from_pretrained(folder)(photo, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours[0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs[0], expected, atol=1e-5, rtol=0)
    assert (inputs.shortest, inputs.resample) == (256, Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_bn1.weight": None}, "encoder.top_bn.weight"),
        ({"_blocks.3._se_reduce.weight": torch.zeros(1)}, "blocks.3._se_reduce.weight"),
        ({"_fc.bias": None}, "without _fc.bias"),
        ({"_fc.bias": Path("code")}, "UnpicklingError"),
    ],
)
def test_other_weights_are_refused(
    change: dict[str, object],
    said: str,
    original: tuple[State, Tensor, Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = {**original[0], **change}
    torch.save({name: value for name, value in changed.items() if value is not None}, tmp_path / "w.pth")
    assert main([str(tmp_path / "model"), "--weights", str(tmp_path / "w.pth")]) == 1
    shown = capsys.readouterr().err
    assert "not the weights of EfficientNet-Lite0" in shown
    assert said in shown
    assert not (tmp_path / "model").exists()
