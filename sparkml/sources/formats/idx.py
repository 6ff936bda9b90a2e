"""idx, the files of MNIST: images of one byte a pixel, with their labels in a file beside them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from sparkml.sources.byte_stream import ByteStream
from sparkml.sources.compression import BrokenStreamError, compression_suffix
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, printable, too_large

# Two zeros, the type (8: a byte), the number of dimensions; then each dimension. All big-endian.
_IMAGES, _LABELS = 0x0803, 0x0801
_MOST_PIXELS = 1 << 31  # of an image, whatever a record may be


class _Header(NamedTuple):
    images: int
    rows: int
    columns: int


class _BadFileError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_idx(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every image: a PNG of its pixels, and its label; the locator is its number, from 0.

    A file of labels is read with the file of images beside it, `images-idx3` for `labels-idx1`, and holds no record.
    """
    number = 0
    try:
        stream = ByteStream(opened.chunks())
        kind = int.from_bytes(stream.peek(4), "big")
        if kind == _LABELS:
            _check_images_beside(opened)
            return
        header = _header(stream, kind)
        labels = _labels(opened, header.images)
        limit = opened.options.max_record_bytes
        size = header.rows * header.columns
        if size > limit:
            yield too_large(0, "file", size, limit)
            return
        for number in range(header.images):
            pixels = stream.read(size)
            if len(pixels) < size:
                raise _BadFileError(
                    "truncated_idx", f"image {number} of {header.images} is not there in full"
                )
            label = labels.read(1)
            if not label:
                raise _BadFileError(
                    "truncated_idx", f"the labels end before image {number} of {header.images}"
                )
            yield _record(opened, number, pixels, header, str(label[0]))
    except BrokenStreamError as error:
        yield Defect(number, f"{number}-", error.reason, error.detail, error.value, error.threshold)
    except _BadFileError as error:
        yield Defect(number, f"{number}-", error.reason, printable(str(error)), number)


def png(pixels: bytes, rows: int, columns: int) -> bytes:
    """A grey PNG (RFC 2083) of rows * columns bytes."""
    # Each row begins with its filter: 0, none.
    lines = b"".join(b"\0" + pixels[at : at + columns] for at in range(0, rows * columns, columns))
    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _header(stream: ByteStream, kind: int) -> _Header:
    head = stream.read(16)
    if kind != _IMAGES or len(head) < 16:
        shown = head[:4].hex(" ") or "nothing"
        raise _BadFileError(
            "malformed_idx",
            f"the file begins with {shown}, expected 00 00 08 03 (images) or 00 00 08 01 (labels)",
        )
    header = _Header(*struct.unpack(">4xIII", head))
    if not 0 < header.rows * header.columns <= _MOST_PIXELS:
        raise _BadFileError(
            "malformed_idx", f"{header.images} images of {header.rows} x {header.columns} pixels"
        )
    return header


def _labels(opened: OpenSplit, count: int) -> ByteStream:
    """The labels of so many images."""
    name = PurePosixPath(opened.split.path).name
    wanted = name.replace("images", "labels").replace("idx3", "idx1")
    for beside in _plain_and_compressed(wanted):
        if beside == name:
            continue
        stream = ByteStream(opened.chunks_beside(beside))
        try:
            head = stream.read(8)
        except FileNotFoundError:
            continue
        if len(head) < 8 or int.from_bytes(head[:4], "big") != _LABELS:
            raise _BadFileError("malformed_idx", f"{beside} is no file of labels (idx1, 00 00 08 01)")
        if (labels := int.from_bytes(head[4:], "big")) != count:
            raise _BadFileError("labels_mismatch", f"{count} images, and {labels} labels in {beside}")
        return stream
    raise _BadFileError("missing_labels", f"there is no {wanted} beside the images")


def _check_images_beside(opened: OpenSplit) -> None:
    name = PurePosixPath(opened.split.path).name
    wanted = name.replace("labels", "images").replace("idx1", "idx3")
    for beside in _plain_and_compressed(wanted):
        try:
            if beside != name and ByteStream(opened.chunks_beside(beside)).peek(4):
                return
        except FileNotFoundError:
            continue
    raise _BadFileError("missing_images", f"labels, and no {wanted} beside them")


def _plain_and_compressed(name: str) -> tuple[str, ...]:
    suffix = compression_suffix(name)
    return (name, name[: -len(suffix)]) if suffix is not None else (name, f"{name}.gz")


def _record(opened: OpenSplit, number: int, pixels: bytes, header: _Header, label: str) -> Record:
    options = opened.options
    fields = {
        options.labelled.media or "media": png(pixels, header.rows, header.columns),
        options.label_field or "label": label,
    }
    return Record(number, str(number), fields, pixels)
