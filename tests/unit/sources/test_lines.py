"""Lines, compression and wide encodings, cut at every place a chunk or a split can be cut."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Iterator

import pytest
import zstandard

from sparkml.sources.compression import BrokenStreamError, decompressed
from sparkml.sources.lines import Line, as_utf8, split_lines

DATA = b"one\n\ntwo two\nthree\n\n\nfour"
EXPECTED = [(0, b"one"), (4, b""), (5, b"two two"), (13, b"three"), (19, b""), (20, b""), (21, b"four")]


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_do_not_depend_on_the_chunks(size: int) -> None:
    found = list(split_lines(chunked(DATA, size), limit=100))
    assert [(line.offset, line.data) for line in found] == EXPECTED


@pytest.mark.parametrize("cut", range(len(DATA) + 1))
def test_every_line_belongs_to_the_split_in_which_it_begins(cut: int) -> None:
    first = split_lines(chunked(DATA, 4), limit=100, stop=cut) if cut else iter(())
    begin = max(cut - 1, 0)
    second = split_lines(chunked(DATA[begin:], 4), limit=100, offset=begin, stop=99, skip_first=cut > 0)
    assert [(line.offset, line.data) for line in (*first, *second)] == EXPECTED


def test_a_line_over_the_limit_is_measured_and_not_kept() -> None:
    data = b"a\n" + b"x" * 50 + b"\nb\n"
    assert list(split_lines(chunked(data, 7), limit=10)) == [
        Line(0, 1, b"a"),
        Line(2, 50, None),
        Line(53, 1, b"b"),
    ]


def test_a_huge_line_does_not_fill_the_memory() -> None:
    chunk = b"x" * 100_000
    tracemalloc.start()
    (line,) = split_lines((chunk for _ in range(500)), limit=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert line == Line(0, 50_000_000, None)
    assert peak < 5_000_000


def test_a_split_inside_a_huge_line_stops_at_its_own_end() -> None:
    pulled = []

    def chunks() -> Iterator[bytes]:
        for index in range(1000):
            pulled.append(index)
            yield b"x" * 100

    assert list(split_lines(chunks(), limit=10, offset=999, stop=2_000, skip_first=True)) == []
    assert len(pulled) < 15


COMPRESSORS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("size", [7, 100_000])
def test_concatenated_members_are_one_stream(suffix: str, size: int) -> None:
    body = bytes(range(256)) * 300
    data = COMPRESSORS[suffix](body) + COMPRESSORS[suffix](b"more")
    assert b"".join(decompressed(chunked(data, size), suffix)) == body + b"more"


def test_zero_padding_after_a_member_is_no_fault() -> None:
    assert b"".join(decompressed([gzip.compress(b"a") + b"\0" * 512], ".gz")) == b"a"


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_what_comes_before_a_cut_is_kept(suffix: str) -> None:
    body = b"".join(b"line %d\n" % index for index in range(50_000))
    data = COMPRESSORS[suffix](body)
    pieces: list[bytes] = []
    with pytest.raises(BrokenStreamError) as caught:
        pieces.extend(decompressed(chunked(data[: len(data) * 9 // 10], 1000), suffix))
    found = b"".join(pieces)
    assert body.startswith(found)
    assert suffix in (".bz2", ".xz") or len(found) > len(body) // 3
    assert caught.value.reason == ("truncated_gzip" if suffix == ".gz" else "truncated_compression")


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_bytes_of_another_kind_are_corrupt(suffix: str) -> None:
    with pytest.raises(BrokenStreamError) as caught:
        list(decompressed([b"this is plain text, not compressed at all"], suffix))
    assert caught.value.reason == "corrupt_compression"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_wide_files_become_utf8(encoding: str, size: int) -> None:
    text = "straße 😀\nzwei\n"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert b"".join(as_utf8(chunked(mark + text.encode(encoding), size))).decode() == text


def test_half_a_code_unit_spoils_only_its_own_line() -> None:
    data = "good\nbad".encode("utf-16") + b"\x00"
    lines = list(split_lines(as_utf8([data]), limit=100))
    assert lines[0].data == b"good"
    assert lines[1].data == b"bad\xff"


def test_other_streams_pass_unchanged() -> None:
    assert b"".join(as_utf8([b"a", b"", b"bcdef"])) == b"abcdef"
