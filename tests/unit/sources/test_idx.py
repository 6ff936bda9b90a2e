"""The files of MNIST: images with the labels beside them."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkml.kernels.hashing import content_hash, document_id

Read = Callable[..., list[dict[str, Any]]]
PIXELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5) * 4


def images(pixels: np.ndarray[Any, Any] = PIXELS) -> bytes:
    return struct.pack(">IIII", 0x803, *pixels.shape) + pixels.tobytes()


def labels(*values: int) -> bytes:
    return struct.pack(">II", 0x801, len(values)) + bytes(values)


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def pixels_of(png: bytes) -> bytes:
    """The grey pixels of a PNG whose rows have no filter."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, held, head = 8, b"", b""
    while at < len(png):
        size, name = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + data)
        head = data if name == b"IHDR" else head
        held += data if name == b"IDAT" else b""
        at += 12 + size
    width, height, *rest = struct.unpack(">IIBBBBB", head)
    assert rest == [8, 0, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(held), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:].tobytes()


@pytest.mark.parametrize(
    ("pictures", "answers"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"),
    ],
)
def test_an_image_becomes_a_golden_row(tmp_path: Path, read: Read, pictures: str, answers: str) -> None:
    write(tmp_path, {pictures: images(), answers: labels(7, 0, 255)})
    rows = read(tmp_path, format="idx", split_pattern="^(train|t10k)-")
    assert [(row["locator"], row["label"], row["drop_reason"]) for row in rows] == [
        ("0", "7", None),
        ("1", "0", None),
        ("2", "255", None),
    ]
    last = rows[2]
    assert pixels_of(last["media"]) == PIXELS[2].tobytes()
    assert (last["media_type"], last["split"], last["meta"]) == ("image/png", "train", {})
    assert last["doc_id"] == document_id("d", pictures, "2")
    assert last["content_hash"] == content_hash(PIXELS[2].tobytes())


def test_extensions_and_both_sets(tmp_path: Path, read: Read) -> None:
    files = {f"{name}-labels.idx1-ubyte": labels(1, 2, 3) for name in ("t10k", "train")}
    write(tmp_path, {**files, **{f"{name}-images.idx3-ubyte": images() for name in ("t10k", "train")}})
    rows = read(tmp_path, split_pattern="^(train|t10k)-")
    assert [row["split"] for row in rows] == ["test"] * 3 + ["train"] * 3


@pytest.mark.parametrize(
    ("files", "good", "reason", "said"),
    [
        ({"a-images-idx3": images()}, 0, "missing_labels", "there is no a-labels-idx1 beside the images"),
        ({"a-labels-idx1": labels(1)}, 0, "missing_images", "labels, and no a-images-idx3 beside them"),
        (
            {"a-images-idx3": images(), "a-labels-idx1": labels(1, 2)},
            0,
            "labels_mismatch",
            "3 images, and 2 labels in a-labels-idx1",
        ),
        (
            {"a-images-idx3": images()[:-1], "a-labels-idx1": labels(1, 2, 3)},
            2,
            "truncated_idx",
            "image 2 of 3 is not there in full",
        ),
        (
            {"a-images-idx3": images(), "a-labels-idx1": labels(1, 2, 3)[:-1]},
            2,
            "truncated_idx",
            "the labels end before image 2 of 3",
        ),
        (
            {"a-images-idx3": images(), "a-labels-idx1": b"text"},
            0,
            "malformed_idx",
            "a-labels-idx1 is no file of labels",
        ),
        ({"a-images-idx3": b""}, 0, "malformed_idx", "the file begins with nothing, expected 00 00 08 03"),
        ({"a-images-idx3": b"plain"}, 0, "malformed_idx", "the file begins with 70 6c 61 69, expected"),
        (
            {"a-images-idx3": struct.pack(">IIII", 0x803, 5, 0, 5)},
            0,
            "malformed_idx",
            "5 images of 0 x 5 pixels",
        ),
        (
            {"a-images-idx3": struct.pack(">IIII", 0x803, 1, 1 << 31, 1 << 31)},
            0,
            "malformed_idx",
            "1 images of 2147483648 x 2147483648 pixels",
        ),
        (
            {"a-images-idx3": struct.pack(">IIII", 0x803, 1, 2_000, 2_000), "a-labels-idx1": labels(1)},
            0,
            "record_too_large",
            "4000000 bytes, at most 1048576",
        ),
    ],
)
def test_broken_files(
    tmp_path: Path, read: Read, files: dict[str, bytes], good: int, reason: str, said: str
) -> None:
    write(tmp_path, files)
    rows = [row for row in read(tmp_path, format="idx") if "labels" not in row["source"] or len(files) == 1]
    assert [row["drop_reason"] for row in rows] == [None] * good + [reason]
    assert rows[-1]["detail"].startswith(said)
    assert len({row["doc_id"] for row in rows}) == good + 1
