"""The embedded corpus on a small environment made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkml.sources.environment import environment_files, environment_state

Read = Callable[..., list[dict[str, Any]]]


def install(
    folder: Path, name: str, version: str, files: dict[str, bytes], listed: list[str] | None = None
) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/INSTALLER": b"uv",
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    names = listed if listed is not None else [*files, f"{info}/RECORD", "../../../bin/tool.py"]
    (folder / info / "RECORD").write_text("".join(f"{path},,\n" for path in names))


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    install(
        folder,
        "Big_Package",
        "1.2",
        {
            "big/__init__.py": b'"""The big package.\n\n    Indented.\n    """\n',
            "big/core.py": b'class Core:\n    """Core."""\n\n    def run(self):\n        """Run."""\n',
            "big/silent.py": b"x = 1\n",
            "big/broken.py": b'def f(:\n    "no"\n',
            "big/latin.py": b'# coding: latin-1\n"""caf\xe9"""\n',
            "big/wrong.py": b'"""caf\xe9"""\n',
            "big/data.csv": b"a,b\n",
            "big/README.rst": b"Read me.\n",
            "Big_Package-1.2.dist-info/licenses/LICENSE": b"Licence.\n",
            "Big_Package-1.2.dist-info/top_level.txt": b"big\n",
            "Big_Package-1.2.dist-info/entry_points.txt": b"[x]\n",
        },
    )
    (folder / "big" / "__pycache__").mkdir()
    (folder / "big" / "__pycache__" / "core.txt").write_bytes(b"grows with use")
    (folder / "big" / "made_later.py").write_bytes(b'"""Not listed."""')
    install(folder, "sparkml", "0.1", {"sparkml/a.py": b'"""Our own."""'})
    install(
        folder,
        "edited",
        "0.1",
        {
            "edited.py": b'"""Editable."""',
            "edited-0.1.dist-info/direct_url.json": b'{"dir_info": {"editable": true}}',
        },
    )
    install(folder, "gone", "0.1", {}, listed=["gone/never_installed.py"])
    return folder


def test_golden_documents(site_packages: Path, read: Read) -> None:
    rows = read(site_packages, format="python_env")
    kept = [
        (row["locator"], row["text"], row["label"], row["meta"].get("kind")) for row in rows if row["text"]
    ]
    assert kept == [
        ("0", "Licence.\n", "big-package", '"file"'),
        ("0", "Read me.\n", "big-package", '"file"'),
        ("big:1", "The big package.\n\nIndented.", "big-package", '"module"'),
        ("big.core.Core:1", "Core.", "big-package", '"class"'),
        ("big.core.Core.run:4", "Run.", "big-package", '"function"'),
        ("big.latin:1", "café", "big-package", '"module"'),
    ]
    assert rows[0]["title"] == "site-packages/Big_Package-1.2.dist-info/licenses/LICENSE"
    assert rows[2]["meta"] == {"kind": '"module"', "version": '"1.2"'}
    rejected = [(row["source"].rpartition("/")[2], row["drop_reason"]) for row in rows if row["drop_reason"]]
    assert rejected == [("broken.py", "python_syntax_error"), ("wrong.py", "undecodable_python")]


def test_the_same_environment_elsewhere_has_the_same_ids(site_packages: Path, read: Read) -> None:
    before = [row["doc_id"] for row in read(site_packages, format="python_env")]
    moved = site_packages.rename(site_packages.with_name("other"))
    assert [row["doc_id"] for row in read(moved, format="python_env")] == before


def test_the_state_changes_with_a_version_alone(site_packages: Path) -> None:
    before = environment_state(str(site_packages))
    (site_packages / "big" / "another.py").write_bytes(b"")
    assert environment_state(str(site_packages)) == before
    install(site_packages, "new", "2.0", {})
    assert "new==2.0" in environment_state(str(site_packages))


def test_the_running_environment_is_a_corpus() -> None:
    files = list(environment_files())
    assert len({file.relative for file in files}) == len(files)
    labels = {file.label for file in files}
    assert {"python-stdlib", "pyspark", "numpy"} <= labels
    assert "sparkml" not in labels
    assert not any("__pycache__" in file.relative for file in files)
    assert any(file.relative == "stdlib/json/decoder.py" for file in files)
