"""Images as bytes: decoded and scaled on Spark's workers, turned and cut at random on the ranks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sparkml.models.media import ImageInputs
from sparkml.tasks.draws import Draws
from sparkml.tasks.media import BadMediaError

if TYPE_CHECKING:
    from torch import Tensor

UInt8 = npt.NDArray[np.uint8]
_PIXELS_PER_TOKEN = 256  # as a vision transformer with patches of 16 x 16 counts


def decoded(data: bytes, inputs: ImageInputs, max_pixels: int) -> UInt8:
    """uint8 [height, width, channels] of the size that the network takes; `BadMediaError` where that fails.

    The first frame counts, turned as its EXIF data say, on white where it is transparent.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = opened.width * opened.height
            if pixels > max_pixels:  # known from the header: nothing has been decoded yet
                raise BadMediaError(
                    "image_too_large", f"{opened.width} x {opened.height}", pixels, max_pixels
                )
            if not pixels:
                raise BadMediaError("broken_image", f"{opened.width} x {opened.height}")
            mode = "RGB" if inputs.channels == 3 else "L"
            # JPEG is decoded at the smallest eighth that is twice the wanted size: the filter has enough left.
            wanted = 2 * max(inputs.height, inputs.width, inputs.shortest)
            opened.draft(mode, (wanted, wanted))
            upright = ImageOps.exif_transpose(opened)
            image = _scaled(_opaque(upright).convert(mode), inputs)
    except BadMediaError:
        raise
    except Exception as error:  # each of Pillow's forty formats has errors of its own
        raise BadMediaError("broken_image", f"{type(error).__name__}: {error}"[:200]) from error
    return np.asarray(image, np.uint8).reshape(inputs.height, inputs.width, inputs.channels)


def _opaque(image: Any) -> Any:
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer)
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel: Pillow would clip instead of scale
        values = np.asarray(image, np.float64)
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(((values - low) * (255.0 / max(high - low, 1e-9))).astype(np.uint8))
    return image


def _scaled(image: Any, inputs: ImageInputs) -> Any:
    from PIL import Image

    resample = Image.Resampling(inputs.resample)
    if not inputs.shortest:
        return image.resize((inputs.width, inputs.height), resample)
    factor = max(inputs.shortest / min(image.size), inputs.width / image.width, inputs.height / image.height)
    width = max(round(image.width * factor), inputs.width)
    height = max(round(image.height * factor), inputs.height)
    left, top = (width - inputs.width) // 2, (height - inputs.height) // 2
    whole = image.resize((width, height), resample)
    return whole.crop((left, top, left + inputs.width, top + inputs.height))


def tokens_of(inputs: ImageInputs) -> int:
    """What an image counts in batches and rates: a token for every 256 pixels."""
    return -(-inputs.height * inputs.width // _PIXELS_PER_TOKEN)


def tensor_of(rows: npt.NDArray[Any], inputs: ImageInputs) -> Tensor:
    """float32 [rows, channels, height, width] in 0 to 1, from the bytes of each row."""
    import torch

    shape = (inputs.height, inputs.width, inputs.channels)
    pixels = np.stack([np.frombuffer(row, np.uint8).reshape(shape) for row in rows])
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float().div_(255.0)


def normalised(images: Tensor, inputs: ImageInputs) -> Tensor:
    """Minus the mean, over the deviation, by channel."""
    shape = (1, inputs.channels, 1, 1)
    return (images - images.new_tensor(inputs.mean).view(shape)) / images.new_tensor(inputs.deviation).view(
        shape
    )


def warped(
    images: Tensor,
    draws: Draws,
    *,
    flip: bool,
    crop: float,
    turn: float,
) -> Tensor:
    """Each image mirrored with even odds, cut to a part of `crop` to 1 of its area, and turned by up to `turn` degrees.

    What lies outside is as the border is. Bilinear.
    """
    import torch
    from torch.nn import functional as F

    n = len(images)
    drawn = np.array([rng.random(6) for rng in draws]).reshape(n, 6).T
    area = crop + (1.0 - crop) * drawn[0]
    ratio = (3 / 4) * (16 / 9) ** drawn[1] if crop < 1 else np.ones(n)
    width, height = np.minimum(np.sqrt(area * ratio), 1.0), np.minimum(np.sqrt(area / ratio), 1.0)
    x, y = (2 * drawn[2] - 1) * (1 - width), (2 * drawn[3] - 1) * (1 - height)
    angle = np.deg2rad(turn * (2 * drawn[4] - 1))
    mirror = np.where(drawn[5] < 0.5, -1.0, 1.0) if flip else np.ones(n)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.stack(
        [width * cosine * mirror, -width * sine, x, height * sine * mirror, height * cosine, y], axis=1
    )
    theta = torch.from_numpy(matrix.reshape(n, 2, 3).astype(np.float32))
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def erased(images: Tensor, draws: Draws, share: float) -> Tensor:
    """Random erasing (Zhong et al. 2020, arXiv:1708.04896): a rectangle of some images becomes their mean."""
    height, width = images.shape[2:]
    for image, rng in zip(images, draws, strict=True):
        if rng.random() >= share:
            continue
        area, ratio = rng.uniform(0.02, 0.25), np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        rows = int(np.clip(round(np.sqrt(area * ratio) * height), 1, height))
        columns = int(np.clip(round(np.sqrt(area / ratio) * width), 1, width))
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        image[:, top : top + rows, left : left + columns] = image.mean(dim=(1, 2))[:, None, None]
    return images
