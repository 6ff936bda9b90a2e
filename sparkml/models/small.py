"""Small convolutional networks of ours, as transformers knows networks: importing this module registers them.

    model_type sparkml_cnn        images of 28 x 28 and the like: 3 convolutions
    model_type sparkml_resnet     images of 32 x 32 and more: residual blocks (He et al. 2016, arXiv:1603.05027)
    model_type sparkml_audio_cnn  log-mel energies: 8 convolutions

Group norms instead of batch norms: an answer depends on its example alone, and ranks have nothing to agree on.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput, SequenceClassifierOutput

_GROUPS = 8


class CnnConfig(PretrainedConfig):
    """A small network for small images."""

    model_type = "sparkml_cnn"

    def __init__(
        self,
        image_size: int = 28,
        num_channels: int = 1,
        hidden_size: int = 64,
        dropout: float = 0.2,
        **other: Any,
    ) -> None:
        self.image_size, self.num_channels = image_size, num_channels
        self.hidden_size, self.dropout = hidden_size, dropout
        super().__init__(**other)


class ResnetConfig(PretrainedConfig):
    """Stages of residual blocks, each stage after the first with half the sides and twice the channels."""

    model_type = "sparkml_resnet"

    def __init__(
        self,
        image_size: int = 32,
        num_channels: int = 3,
        hidden_size: int = 32,
        depths: tuple[int, ...] = (1, 1, 1),
        dropout: float = 0.1,
        **other: Any,
    ) -> None:
        self.image_size, self.num_channels = image_size, num_channels
        self.hidden_size, self.depths, self.dropout = hidden_size, list(depths), dropout
        super().__init__(**other)


class AudioCnnConfig(PretrainedConfig):
    """A small network for log-mel energies."""

    model_type = "sparkml_audio_cnn"

    def __init__(
        self,
        sampling_rate: int = 16_000,
        num_mel_bins: int = 40,
        hidden_size: int = 96,
        dropout: float = 0.2,
        **other: Any,
    ) -> None:
        self.sampling_rate, self.num_mel_bins = sampling_rate, num_mel_bins
        self.hidden_size, self.dropout = hidden_size, dropout
        super().__init__(**other)


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.GroupNorm(_GROUPS, after), nn.ReLU()
    )


class _Block(nn.Module):
    """Norm, activation and convolution twice, added to what came in."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, before), nn.GroupNorm(_GROUPS, after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(before, after, 1, stride, bias=False)
            if (before, stride) != (after, 1)
            else nn.Identity()
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """[rows, before, height, width] -> [rows, after, height / stride, width / stride]."""
        ready = self.norm1(hidden).relu()
        added: Tensor = self.shortcut(ready) + self.conv2(self.norm2(self.conv1(ready)).relu())
        return added


class _Classifier(PreTrainedModel):
    """Base: `body` gives maps, their mean over the places a vector, `classifier` the logits."""

    base_model_prefix = "body"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.body, width = self.make_body(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def make_body(self, config: Any) -> tuple[nn.Module, int]:
        """The convolutions, and the channels that they end with."""
        raise NotImplementedError

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            nn.init.zeros_(module.bias)

    def _logits(self, maps: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.dropout(self.body(maps).mean(dim=(2, 3))))
        return found


class CnnForImageClassification(_Classifier):
    """Three convolutions, each followed by half the sides."""

    config_class = CnnConfig

    def make_body(self, config: Any) -> tuple[nn.Module, int]:
        """Channels n, 2n, 4n."""
        n, pool = config.hidden_size // 2, nn.MaxPool2d(2)
        body = nn.Sequential(
            *(_convolution(config.num_channels, n), pool),
            *(_convolution(n, 2 * n), pool),
            *(_convolution(2 * n, 4 * n), _convolution(4 * n, 4 * n)),
        )
        return body, 4 * n

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """`pixel_values` float32 [rows, channels, height, width] -> logits [rows, labels]."""
        return ImageClassifierOutput(logits=self._logits(pixel_values))


class ResnetForImageClassification(_Classifier):
    """A convolution, stages of residual blocks, a norm."""

    config_class = ResnetConfig

    def make_body(self, config: Any) -> tuple[nn.Module, int]:
        """One stage per entry of `depths`."""
        width = config.hidden_size
        parts: list[nn.Module] = [nn.Conv2d(config.num_channels, width, 3, padding=1, bias=False)]
        for stage, depth in enumerate(config.depths):
            after = config.hidden_size << stage
            for block in range(depth):
                parts.append(_Block(width, after, 2 if stage and not block else 1))
                width = after
        return nn.Sequential(*parts, nn.GroupNorm(_GROUPS, width), nn.ReLU()), width

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """`pixel_values` float32 [rows, channels, height, width] -> logits [rows, labels]."""
        return ImageClassifierOutput(logits=self._logits(pixel_values))


class CnnForAudioClassification(_Classifier):
    """Four pairs of convolutions over time and frequency, each pair followed by half of both.

    Where in the spectrum something is counts, when it is does not: bands stay apart, over time mean and maximum are
    added (as in PANNs, Kong et al. 2020, arXiv:1912.10211).
    """

    config_class = AudioCnnConfig
    main_input_name = "input_features"

    def make_body(self, config: Any) -> tuple[nn.Module, int]:
        """Channels n / 6 to n, a vector for each band that is left."""
        n, bands = config.hidden_size, config.num_mel_bins
        widths = [1, n // 6, n // 3, 2 * n // 3, n]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [_convolution(before, after), _convolution(after, after)]
            parts.append(nn.MaxPool2d(2, ceil_mode=True))
            bands = -(-bands // 2)
        return nn.Sequential(*parts), n * bands

    def forward(self, input_features: Tensor, **_: Any) -> SequenceClassifierOutput:
        """`input_features` float32 [rows, frames, mels] -> logits [rows, labels]."""
        maps = self.body(input_features[:, None]).transpose(2, 3).flatten(1, 2)
        vector = maps.mean(dim=2) + maps.amax(dim=2)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(vector)))


def _register() -> None:
    for network, auto in (
        (CnnForImageClassification, AutoModelForImageClassification),
        (ResnetForImageClassification, AutoModelForImageClassification),
        (CnnForAudioClassification, AutoModelForAudioClassification),
    ):
        AutoConfig.register(network.config_class.model_type, network.config_class, exist_ok=True)
        auto.register(network.config_class, network, exist_ok=True)


_register()
