"""What is found of a pinned file that is no longer as it was."""

from __future__ import annotations

import hashlib

from sparkml.hosting.verify import damage_of


def test_a_file_is_sound_cut_off_altered_or_missing(tmp_path):
    path, content = tmp_path / "part.parquet", b"what was pinned" * 1000
    path.write_bytes(content)
    pinned = (str(path), len(content), hashlib.sha256(content).hexdigest())
    assert damage_of(*pinned) is None
    path.write_bytes(content[:-1])
    assert damage_of(*pinned) == f"it has {len(content) - 1} bytes, not {len(content)}"
    path.write_bytes(content.replace(b"was", b"wax"))
    assert damage_of(*pinned) == "its bytes have changed"
    path.unlink()
    assert damage_of(*pinned) == "it is missing"
    assert damage_of(str(tmp_path), 1, "").startswith("it cannot be read")
