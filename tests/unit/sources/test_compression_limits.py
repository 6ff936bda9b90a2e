"""Bombs: a few bytes that stand for gigabytes, in every codec, against memory, time and the limit of inflation."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pyarrow import fs

from sparkml.sources import compression
from sparkml.sources.codecs import MOST_DECODER_BYTES
from sparkml.sources.compression import FREE_BYTES, BrokenStreamError, decompressed, within_inflation
from sparkml.sources.formats.plain_text import read_text_file
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import ReadOptions, Split

Read = Callable[..., list[dict[str, Any]]]
MEGABYTE = 1_000_000
LARGEST_PIECE = {".gz": 1 << 17, ".bz2": 1 << 22, ".xz": 1 << 17, ".zst": 1 << 17}
COMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.compressobj(1, wbits=31),
    ".bz2": bz2.BZ2Compressor,
    ".xz": lambda: lzma.LZMACompressor(preset=0),
    ".zst": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
}


def bomb(suffix: str, megabytes: int, head: bytes = b"") -> bytes:
    """`head`, then so many megabytes of zeros, as one member."""
    compressor = COMPRESSORS[suffix]()
    zeros = bytes(MEGABYTE)
    parts = [compressor.compress(head), *(compressor.compress(zeros) for _ in range(megabytes))]
    return b"".join([*parts, compressor.flush()])


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_no_call_gives_out_more_than_a_piece(suffix: str) -> None:
    pieces = [len(piece) for piece in decompressed([bomb(suffix, 20) * 2], suffix)]
    assert max(pieces) <= LARGEST_PIECE[suffix]
    assert sum(pieces) == 40 * MEGABYTE


READ_IN_A_CHILD = """
import json, sys
import pyarrow
from sparkml.sources.reader import read_splits
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Files

def peak():
    # Not resource.getrusage: its maximum outlives an exec and begins at the parent's.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

config = IngestConfig(source={"path": sys.argv[1], "dataset": "d"}, max_record_bytes=1_000_000)
files = Files(config)
splits = files.splits()
pyarrow.array([1])  # the first array of a process imports pandas
with open("/proc/self/clear_refs", "w") as peaks:
    peaks.write("5")  # the peak begins anew at what is resident now
before = peak()
reasons = [r for b in read_splits(splits, files.options) for r in b.column("drop_reason").to_pylist()]
print(json.dumps([peak() - before, reasons]))
"""


def read_in_a_child(path: Path) -> tuple[float, list[str | None]]:
    """MiB by which the peak of the resident memory grew, and the reasons of the rows in their order."""
    command = [sys.executable, "-c", READ_IN_A_CHILD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kibibytes, reasons = json.loads(done.stdout)
    return kibibytes / 1024, reasons


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_bomb_without_newlines_keeps_to_a_few_megabytes(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(bomb(suffix, 70, b'{"text": "a"}\n'))
    (tmp_path / f"b.txt{suffix}").write_bytes(bomb(suffix, 20))
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "c"}\n')
    grown, reasons = read_in_a_child(tmp_path)
    assert grown < 40
    # Deflate cannot grow 1,000 times: all of its zeros are one line that is too large.
    end = "record_too_large" if suffix == ".gz" else "decompression_limit"
    assert reasons == [None, end, "record_too_large", None]


@pytest.mark.parametrize("suffix", [".bz2", ".xz", ".zst"])
def test_beyond_the_limit_the_file_is_cut_and_its_lines_are_kept(
    tmp_path: Path, read: Read, suffix: str
) -> None:
    lines = b"".join(b'{"text": "%d"}\n' % index for index in range(100))
    (tmp_path / f"a.jsonl{suffix}").write_bytes(bomb(suffix, 70, lines))
    size = (tmp_path / f"a.jsonl{suffix}").stat().st_size
    *kept, cut = read(tmp_path)
    assert [row["text"] for row in kept] == [str(index) for index in range(100)]
    assert (cut["drop_reason"], cut["locator"]) == ("decompression_limit", str(len(lines)))
    assert (cut["value"], cut["threshold"]) == (FREE_BYTES / size, 1_000)
    assert f"{size} bytes inflate to more than {FREE_BYTES}" in cut["detail"]
    *_, large = read(tmp_path, max_inflation=10**7)
    assert (large["drop_reason"], large["value"]) == ("record_too_large", 70 * MEGABYTE)


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_the_place_of_the_cut_does_not_depend_on_the_pieces(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "FREE_BYTES", 100)
    body = random.Random(3).randbytes(2_001)
    found: list[bytes] = []
    with pytest.raises(BrokenStreamError) as caught:
        found.extend(within_inflation(chunked(body, size), compressed_bytes=20, max_inflation=100))
    assert b"".join(found) == body[:2_000]
    assert (caught.value.reason, caught.value.value, caught.value.threshold) == (
        "decompression_limit",
        100,
        100,
    )
    for most in (21, 2_001):  # exactly as many bytes as are allowed
        limit = {"compressed_bytes": most, "max_inflation": 100 if most == 21 else 1}
        assert b"".join(within_inflation(chunked(body, size), **limit)) == body


def test_logs_that_shrink_a_hundredfold_are_read_whole(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "FREE_BYTES", 1_000)
    lines = b"".join(b'{"text": "request %d was served", "status": 200}\n' % (i % 9) for i in range(20_000))
    data = zstandard.compress(lines)
    assert len(lines) / len(data) > 100
    (tmp_path / "a.jsonl.zst").write_bytes(data)
    rows = read(tmp_path)
    assert [row["drop_reason"] for row in rows] == [None] * 20_000


def window_frame(log: int) -> bytes:
    """A zstd frame that asks for a window of 2**log bytes, and holds one run of 100 letters."""
    header = b"\x28\xb5\x2f\xfd" + b"\0" + bytes([(log - 10) << 3])
    return header + (100 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"a"


def test_a_zstd_window_beyond_the_limit_is_refused() -> None:
    assert b"".join(decompressed([window_frame(27)], ".zst")) == b"a" * 100
    for chunks in ([window_frame(28)], chunked(window_frame(28), 1)):
        with pytest.raises(BrokenStreamError) as caught:
            list(decompressed(chunks, ".zst"))
        assert caught.value.reason == "decompression_memory"
        assert (caught.value.value, caught.value.threshold) == (2**28, MOST_DECODER_BYTES)


def xz_with_dictionary(size_code: int) -> bytes:
    """An xz stream whose block header asks for another dictionary (xz file format, 5.3.1)."""
    data = bytearray(lzma.compress(b"abc", preset=0))
    at, length = 12, (data[12] + 1) * 4
    assert data[at + 2 : at + 4] == b"\x21\x01"  # LZMA2, one byte of properties
    data[at + 4] = size_code
    checksum = zlib.crc32(data[at : at + length - 4])
    data[at + length - 4 : at + length] = checksum.to_bytes(4, "little")
    return bytes(data)


def test_an_xz_dictionary_beyond_the_limit_is_refused() -> None:
    assert b"".join(decompressed([xz_with_dictionary(28)], ".xz")) == b"abc"  # 64 MiB: `xz -9`
    with pytest.raises(BrokenStreamError) as caught:
        list(decompressed([xz_with_dictionary(32)], ".xz"))  # 256 MiB
    assert caught.value.reason == "decompression_memory"
    assert (caught.value.value, caught.value.threshold) == (None, MOST_DECODER_BYTES)


@pytest.mark.parametrize("size", [1, 1_000, 1 << 20])
def test_zstd_frames_of_every_make(size: int) -> None:
    source = random.Random(5)
    bodies = [b"", b"a", bytes(300_000), source.randbytes(150_000), b"words and words " * 30_000]
    frames = []
    for body in bodies:
        for write in (True, False):
            options: dict[str, bool] = {"write_checksum": write, "write_content_size": not write}
            frames.append((body, zstandard.ZstdCompressor(**options).compress(body)))
        flushed = zstandard.ZstdCompressor().compressobj()
        parts = [flushed.compress(body[:7]), flushed.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
        frames.append((body, b"".join([*parts, flushed.compress(body[7:]), flushed.flush()])))
        frames.append((b"", b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"skip!"))
        frames.append((b"", bytes(10)))
    data = b"".join(frame for _, frame in frames)
    pieces = list(decompressed(chunked(data, size), ".zst"))
    assert b"".join(pieces) == b"".join(body for body, _ in frames)
    assert max(map(len, pieces)) <= LARGEST_PIECE[".zst"]


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_what_comes_before_a_flipped_bit_is_kept(suffix: str) -> None:
    source = random.Random(11)
    body = "\n".join(str(source.random()) for _ in range(140_000)).encode()
    compressor = COMPRESSORS[suffix]()
    if suffix == ".zst":  # as the zstd program does, and the library does not by itself
        compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    data = bytearray(compressor.compress(body) + compressor.flush())
    data[len(data) * 3 // 4] ^= 0x40
    found: list[bytes] = []
    with pytest.raises(BrokenStreamError) as caught:
        found.extend(decompressed(chunked(bytes(data), 1 << 20), suffix))
    assert caught.value.reason == "corrupt_compression"
    # Deflate finds out at its checksum: behind the bit its bytes are wrong.
    kept = b"".join(found)[: len(body) // 2]
    assert body.startswith(kept)
    assert len(kept) > len(body) // 3


class CountedFile(io.BytesIO):
    """A file as Arrow opens it, that counts the bytes read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data

    def size(self) -> int:
        return len(self.getvalue())


def text_split(data: bytes, name: str, limit: int) -> tuple[CountedFile, OpenSplit]:
    options = ReadOptions("/", "d", "text", None, None, True, None, None, limit, 1 << 20, 1_000)
    split = Split(0, 0, "text", f"/{name}", f"file:///{name}", name, 0, -1, None, None)
    file = CountedFile(data)
    return file, OpenSplit(file, split, options, fs.LocalFileSystem())


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt", "wide.txt"])
def test_a_text_over_the_limit_is_not_read_to_its_end(name: str) -> None:
    body = random.Random(7).randbytes(5 * MEGABYTE)
    data = gzip.compress(body, 1) if name.endswith(".gz") else body
    data = "ä".encode("utf-16") * MEGABYTE if name.startswith("wide") else data
    file, opened = text_split(data, name, 100_000)
    (defect,) = read_text_file(opened)
    assert file.taken <= (4 if name == "a.txt" else 4 + (1 << 20))
    if name == "a.txt":  # the size of a plain file is known
        assert defect[2:] == ("record_too_large", "5000000 bytes, at most 100000", 5_000_000, 100_000)
    else:
        assert defect[2:] == ("record_too_large", "more than 100000 bytes", 100_001, 100_000)


def test_a_wide_text_that_is_within_the_limit_once_decoded() -> None:
    _, opened = text_split(("a" * 90_000).encode("utf-16"), "a.txt", 100_000)
    (record,) = read_text_file(opened)
    assert record.fields["text"] == "a" * 90_000
