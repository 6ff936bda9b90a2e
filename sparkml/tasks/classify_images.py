"""Classify images by label: any vision network of transformers, or a small one of ours (`cnn`, `resnet`)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from sparkml.models.media import ImageInputs, read_image_inputs, write_image_inputs
from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws
from sparkml.tasks.label_counts import LabelOptions
from sparkml.tasks.labels import TARGET, Labels
from sparkml.tasks.media import MEDIA_TOKENS, encode_media, missing_media
from sparkml.tasks.task import Batch, Encoded, Purpose, Rows
from sparkml.tasks.texts import batch_of

_PIXELS = ("pixels", pa.binary())
# The linear model sees this many pixels a side.
_BASELINE_SIDE = 32


class ImageOptions(LabelOptions):
    """Settings of `task:` where its name is `classify_images`."""

    max_pixels: int = Field(
        64_000_000, ge=1, description="A larger image, by its header, is a reject and never decoded"
    )
    flip: bool = Field(True, description="Training: mirror half of the images; not for letters and digits")
    crop: float = Field(
        0.7, gt=0, le=1, description="Training: smallest part of the area that is kept; 1: all"
    )
    turn: float = Field(0.0, ge=0, le=180, description="Training: turned by up to so many degrees")
    erase: float = Field(0.0, ge=0, le=1, description="Training: part of the images that lose a rectangle")
    mixup: float = Field(0.0, ge=0, description="Training: alpha of mixup; 0: none")


class ClassifyImages(Labels[ImageOptions]):
    """One label an image, or several."""

    name = "classify_images"
    summary = "images by label"
    reads: ClassVar[tuple[str, ...]] = ("media", "label")
    columns = (_PIXELS, TARGET)
    Options = ImageOptions
    token_budget = MEDIA_TOKENS
    inputs: ImageInputs

    @classmethod
    def read_inputs(cls, folder: str) -> ImageInputs:
        """Size, mean and deviation of a model directory."""
        return read_image_inputs(folder)

    @classmethod
    def example(cls) -> dict[str, Any]:
        """A small red square."""
        from PIL import Image

        sink = io.BytesIO()
        Image.new("RGB", (32, 32), (220, 40, 40)).save(sink, "PNG")
        return {"media": sink.getvalue()}

    @classmethod
    def begin(cls, network: Mapping[str, Any], folder: Path, inputs: Path | None) -> None:
        """Images of the size and channels that the new network says, values from -1 to 1."""
        from sparkml.models.networks import write_config

        write_config(network, folder)
        write_image_inputs(read_image_inputs(folder), folder)

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """The image as the network takes it, uint8; one that cannot be decoded is left out."""
        from sparkml.tasks.pixels import decoded, tokens_of

        rejects = missing_media(examples)
        targets = self.targets_of(examples, rejects, purpose)
        n_tokens = tokens_of(self.inputs)

        def windows(data: bytes) -> list[tuple[bytes, int]]:
            return [(decoded(data, self.inputs, self.options.max_pixels).tobytes(), n_tokens)]

        return encode_media(examples, rejects, targets, self.columns, windows)

    def network(self) -> NetworkSpec:
        """transformers' image classifier."""
        return self.classifier("AutoModelForImageClassification")

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """`pixel_values` float32 [rows, channels, height, width]; with `draws` changed at random, labels mixed too."""
        from sparkml.tasks.mixing import mixed
        from sparkml.tasks.pixels import erased, normalised, tensor_of, tokens_of, warped

        options, gold = self.options, self.gold_of(rows)
        images = tensor_of(rows["pixels"], self.inputs)
        if draws is not None:
            images = warped(images, draws, flip=options.flip, crop=options.crop, turn=options.turn)
            images = erased(images, draws, options.erase)
            if options.mixup and len(images) > 1:
                images, gold["target"] = mixed(
                    images, gold["target"], len(self.targets.labels), options.mixup, draws[0]
                )
        tokens = len(images) * tokens_of(self.inputs)
        return batch_of({"pixel_values": normalised(images, self.inputs)}, gold, len(images), tokens)

    def features(self, train: pa.Table, held_out: pa.Table) -> tuple[Any, Any]:
        """The pixels of the images at 32 x 32."""
        return _pixels(train, self.inputs), _pixels(held_out, self.inputs)


def _pixels(examples: pa.Table, inputs: ImageInputs) -> np.ndarray[Any, np.dtype[np.float32]]:
    from sparkml.tasks.pixels import decoded

    small = replace(
        inputs, height=min(_BASELINE_SIDE, inputs.height), width=min(_BASELINE_SIDE, inputs.width), shortest=0
    )
    rows = [
        decoded(data, small, 1 << 40).reshape(-1).astype(np.float32) / 255.0
        for data in examples.column("media").to_pylist()
    ]
    return np.stack(rows) - np.float32(0.5)


TASK = ClassifyImages
