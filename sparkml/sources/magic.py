"""What kind of image or sound bytes are: by the magic number at their beginning, never by a file's name."""

from __future__ import annotations

IMAGES, SOUNDS = "image/", "audio/"
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"fLaC", "audio/flac"),
)
# RIFF and its form for large files name their content behind the length.
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
# "BM" alone begins many a text: the size of the header that follows must be one of those in use.
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)


def media_type_of(data: bytes) -> str | None:
    """The MIME type of an image (png, jpeg, gif, bmp, webp, tiff) or a sound (wav, flac); None for anything else."""
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    if data[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(data[8:12])
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "image/bmp"
    return None
