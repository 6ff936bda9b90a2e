"""Images and sounds, in folders and archives; archives that are broken, that bite, or that grow."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkml.kernels.hashing import content_hash, document_id
from sparkml.sources.magic import media_type_of

Read = Callable[..., list[dict[str, Any]]]
PNG = b"\x89PNG\r\n\x1a\n" + b"rest of a png"
JPEG = b"\xff\xd8\xff\xe0" + b"rest of a jpeg"
WAV = b"RIFF\x24\0\0\0WAVEfmt " + b"rest of a wav"


def outline(rows: list[dict[str, Any]]) -> list[tuple[str, bytes | None, str | None]]:
    return [(row["locator"], row["media"], row["drop_reason"]) for row in rows]


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return held.getvalue()


def tarred(members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return held.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (b"GIF87a..", "image/gif"),
        (b"GIF89a..", "image/gif"),
        (b"II*\0....", "image/tiff"),
        (b"MM\0*....", "image/tiff"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "image/bmp"),
        (WAV, "audio/wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "audio/wav"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"RIFF\x10\0\0\0AVI LIST", None),
        (b"BMW makes cars, and what else", None),
        (b"\x89PNG\n\x1a\n", None),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_first_bytes_say_what_it_is(data: bytes, expected: str | None) -> None:
    assert media_type_of(data) == expected


def test_an_image_file_becomes_a_golden_row(tmp_path: Path, read: Read) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(PNG)
    (row,) = read(tmp_path, label_field="folder")
    assert {name: value for name, value in row.items() if value is not None} == {
        "doc_id": document_id("d", "cat/1.jpg", "0"),
        "source": f"file://{tmp_path}/cat/1.jpg",
        "locator": "0",
        "content_hash": content_hash(PNG),
        "media": PNG,
        "media_type": "image/png",
        "label": "cat",
        "meta": {"file_name": '"1.jpg"'},
        "position": 0,
    }


def test_what_is_no_image_is_a_reject(tmp_path: Path, read: Read) -> None:
    for name, data in {"a.png": b"text", "b.png": b"", "c.png": WAV, "d.txt": PNG, "e.bin": JPEG}.items():
        (tmp_path / name).write_bytes(data)
    rows = read(tmp_path, format="images")
    assert [row["drop_reason"] for row in rows] == ["not_an_image"] * 3 + [None, None]
    assert [row["detail"] for row in rows[:3]] == [
        "4 bytes that begin 74 65 78 74, by its first bytes",
        "empty, by its first bytes",
        "audio/wav, by its first bytes",
    ]
    assert [row["drop_reason"] for row in read(tmp_path / "*.png", format="audio")] == ["not_audio"] * 2 + [
        None
    ]


def test_extensions_say_images_and_sounds(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.JPG").write_bytes(JPEG)
    (tmp_path / "b.wav").write_bytes(WAV)
    (tmp_path / "c.txt").write_bytes(b"text")
    rows = read(tmp_path)
    assert [(row["text"], row["media_type"]) for row in rows] == [
        (None, "image/jpeg"),
        (None, "audio/wav"),
        ("text", None),
    ]


def test_a_file_over_the_limit_is_a_reject(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.png").write_bytes(PNG + bytes(1_000))
    (tmp_path / "b.png.gz").write_bytes(gzip.compress(PNG + bytes(1_000)))
    (tmp_path / "c.png.gz").write_bytes(gzip.compress(PNG))
    rows = read(tmp_path, max_record_bytes=100)
    assert outline(rows) == [
        ("0", None, "record_too_large"),
        ("0", None, "record_too_large"),
        ("0", PNG, None),
    ]
    assert (rows[0]["value"], rows[0]["threshold"]) == (1_021.0, 100.0)


MEMBERS = {"in/cat/1.png": PNG, "in/dog/2.png": JPEG, "in/words.txt": b"text"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", zipped(MEMBERS)),
        ("a.zip", zipped(MEMBERS, zipfile.ZIP_STORED)),
        ("a.tar", tarred(MEMBERS)),
        ("a.tar", tarred(MEMBERS, tarfile.GNU_FORMAT)),
        ("a.tar", tarred(MEMBERS, tarfile.USTAR_FORMAT)),
        ("a.tar.gz", gzip.compress(tarred(MEMBERS))),
        ("a.tgz", gzip.compress(tarred(MEMBERS))),
        ("a.tar.bz2", bz2.compress(tarred(MEMBERS))),
    ],
)
def test_archives_are_read_in_place(tmp_path: Path, read: Read, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    rows = read(tmp_path, format="images", label_field="folder", split_pattern="^(test)/")
    assert outline(rows) == [
        ("in/cat/1.png", PNG, None),
        ("in/dog/2.png", JPEG, None),
        ("in/words.txt", None, "not_an_image"),
    ]
    assert [row["label"] for row in rows] == ["cat", "dog", None]
    assert rows[0]["doc_id"] == document_id("d", name, "in/cat/1.png")
    assert rows[0]["content_hash"] == content_hash(PNG)
    assert rows[0]["source"] == f"file://{tmp_path}/{name}"


def test_a_pattern_looks_inside_the_archive_and_then_at_its_own_path(tmp_path: Path, read: Read) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.tar").write_bytes(tarred({"3_ann_0.wav": WAV, "test/x.wav": WAV}))
    first, second = read(tmp_path, format="audio", label_pattern=r"^(\d)_", split_pattern="(train|test)/")
    assert (first["label"], first["split"]) == ("3", "train")
    assert (second["label"], second["split"]) == (None, "test")


def test_long_names_and_odd_ones(tmp_path: Path, read: Read) -> None:
    long = "/".join(["folder"] * 40) + "/ü.png"
    for name, form in (("a.tar", tarfile.PAX_FORMAT), ("b.tar", tarfile.GNU_FORMAT)):
        (tmp_path / name).write_bytes(tarred({long: PNG, "./b.png": PNG}, form))
    (tmp_path / "c.zip").write_bytes(
        zipped({long: PNG, "x\\b.png": PNG, "__MACOSX/c.png": PNG, ".d.png": PNG})
    )
    assert [row["locator"] for row in read(tmp_path, format="images")] == [
        long,
        "b.png",
        long,
        "b.png",
        long,
        "x/b.png",
    ]


def linked(name: str, target: str) -> bytes:
    """A tar archive with a link in it."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        archive.addfile(info)
        inside = tarfile.TarInfo("b.png")
        inside.size = len(PNG)
        archive.addfile(inside, io.BytesIO(PNG))
    return held.getvalue()


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../../a.png", "/etc/a.png", "in/../../a.png", "C:/a.png", "x/.."])
def test_a_path_that_leads_out_is_a_reject(tmp_path: Path, read: Read, pack: Any, name: str) -> None:
    (tmp_path / "a.archive").write_bytes(pack({name: PNG, "b.png": PNG}))
    bad, good = read(tmp_path / "a.archive", format="images")
    assert (bad["drop_reason"], bad["locator"]) == ("unsafe_path", f"0//{name}")
    assert (good["locator"], good["media"]) == ("b.png", PNG)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.archive"]


def test_links_are_not_followed(tmp_path: Path, read: Read) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "a.tar").write_bytes(linked("a.png", "secret.png"))
    bad, good = read(tmp_path / "a.tar", format="images")
    assert (bad["drop_reason"], bad["locator"]) == ("not_a_file", "0//a.png")
    assert good["locator"] == "b.png"


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_given_twice_stays_with_its_first_member(
    tmp_path: Path, read: Read, pack: Any
) -> None:
    (tmp_path / "a.archive").write_bytes(pack({"a.png": PNG, "./a.png": JPEG}))
    assert outline(read(tmp_path / "a.archive", format="images")) == [
        ("a.png", PNG, None),
        ("1//./a.png", None, "duplicate_member"),
    ]


def test_a_zip_that_is_cut_has_no_directory(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(MEMBERS)[:-30])
    (row,) = read(tmp_path, format="images")
    assert (row["drop_reason"], row["locator"]) == ("corrupt_archive", "0//")
    assert row["detail"] == "zip: File is not a zip file"


def test_a_tar_that_is_cut_keeps_what_came_before(tmp_path: Path, read: Read) -> None:
    whole = tarred(MEMBERS)
    (tmp_path / "a.tar").write_bytes(whole[:1_540])  # two blocks a member: within the second's contents
    (tmp_path / "b.tar").write_bytes(whole[:2_048])
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(whole, 0)[:1_555])
    rows = read(tmp_path, format="images")
    assert outline(rows) == [
        ("in/cat/1.png", PNG, None),
        ("1//", None, "truncated_archive"),
        ("in/cat/1.png", PNG, None),
        ("in/dog/2.png", JPEG, None),
        ("2//", None, "truncated_archive"),
        ("in/cat/1.png", PNG, None),
        ("1//", None, "truncated_gzip"),
    ]


def test_rot_in_an_archive(tmp_path: Path, read: Read) -> None:
    stored = bytearray(zipped(MEMBERS, zipfile.ZIP_STORED))
    stored[stored.index(b"rest of a png")] ^= 255
    (tmp_path / "a.zip").write_bytes(stored)
    packed = bytearray(tarred(MEMBERS))
    packed[1_024] ^= 255  # the second header's name, which its sum covers
    (tmp_path / "b.tar").write_bytes(packed)
    assert outline(read(tmp_path, format="images")) == [
        ("in/cat/1.png", None, "corrupt_member"),
        ("in/dog/2.png", JPEG, None),
        ("in/words.txt", None, "not_an_image"),
        ("in/cat/1.png", PNG, None),
        ("1//", None, "corrupt_archive"),
    ]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_damage_of_any_byte_is_a_reject_and_no_error(tmp_path: Path, read: Read, pack: Any) -> None:
    whole = pack({"a.png": PNG, "b.png": PNG})
    damaged = 0
    for place in range(0, len(whole), 1 if pack is zipped else 7):
        for byte in {0, 255} - {whole[place]}:
            (tmp_path / "a.archive").write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            rows = read(tmp_path / "a.archive", format="images")
            assert len({row["doc_id"] for row in rows}) == len(rows)
            damaged += any(row["drop_reason"] is not None for row in rows)
    assert damaged > 50


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_huge_member_is_not_read(tmp_path: Path, read: Read, pack: Any) -> None:
    (tmp_path / "a.archive").write_bytes(pack({"a.png": PNG + bytes(50_000_000), "b.png": PNG}))
    large, good = read(tmp_path / "a.archive", format="images", max_record_bytes=1_000)
    assert (large["drop_reason"], large["value"], large["locator"]) == (
        "record_too_large",
        50_000_021.0,
        "a.png",
    )
    assert good["media"] == PNG


def test_many_members_of_one_byte_repeated_are_cut(tmp_path: Path, read: Read) -> None:
    members = {f"{index:02}.png": PNG + bytes(10_000_000) for index in range(8)}
    (tmp_path / "a.zip").write_bytes(zipped(members))
    (tmp_path / "b.tar.bz2").write_bytes(bz2.compress(tarred(members)))
    rows = read(tmp_path, format="images", max_record_bytes=20_000_000, max_inflation=10)
    assert [row["locator"] for row in rows if row["source"].endswith("zip")] == [
        *[f"{index:02}.png" for index in range(6)],
        "6//",
    ]
    cut = [row for row in rows if row["drop_reason"] is not None]
    assert [(row["drop_reason"], row["threshold"]) for row in cut] == [("decompression_limit", 10.0)] * 2
    assert cut[1]["locator"] == "6//"


def test_members_that_the_library_would_inflate_without_a_bound(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"a.png": PNG + bytes(5_000_000)}, zipfile.ZIP_BZIP2))
    (tmp_path / "b.zip").write_bytes(zipped({"a.png": PNG}, zipfile.ZIP_LZMA))
    encrypted = bytearray(zipped({"a.png": PNG}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(mark) + place] |= 1
    (tmp_path / "c.zip").write_bytes(encrypted)
    rows = read(tmp_path, format="images", max_record_bytes=100_000_000)
    assert [row["drop_reason"] for row in rows] == ["unreadable_member"] * 3
    assert [row["detail"] for row in rows] == [
        "compression method 12, expected stored or deflated",
        "compression method 14, expected stored or deflated",
        "the member is encrypted",
    ]


def test_a_header_of_a_tar_that_asks_for_too_much(tmp_path: Path, read: Read) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    (tmp_path / "a.tar").write_bytes(tarred({"b.png": PNG})[:1_024] + info.tobuf(tarfile.GNU_FORMAT))
    assert outline(read(tmp_path, format="images")) == [
        ("b.png", PNG, None),
        ("1//", None, "corrupt_archive"),
    ]


def test_empty_archives_hold_nothing(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({}))
    (tmp_path / "b.tar").write_bytes(tarred({}))
    assert read(tmp_path, format="images") == []


def test_batches_are_cut_by_the_bytes_of_media(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.tar").write_bytes(tarred({f"{index}.png": PNG + bytes(1_000) for index in range(20)}))
    assert read(tmp_path, format="images", batch_bytes=1) == read(tmp_path, format="images")
