"""requirements.lock: what it must hold, and what must not stand in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.setup.steps import LOCK, TORCH_FAMILY, pins

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / LOCK).read_text(encoding="utf-8")
LOCKED = pins(TEXT)


def test_a_pin_has_its_name_and_its_lines() -> None:
    head = "# made by\n#    make lock\n"
    first = (
        "absl-py==2.5.1 ; python_full_version < '3.13' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    )
    second = "torch==2.13.0 \\\n    --hash=sha256:cc\n    # via\n    #   sparkml\n"
    assert pins(head + first + second) == [("absl-py", first), ("torch", second)]


@pytest.mark.parametrize(
    "name", ["torch", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "cuda-toolkit", "cuda-bindings"]
)
def test_family_of_torch(name: str) -> None:
    assert TORCH_FAMILY.fullmatch(name)


@pytest.mark.parametrize("name", ["torchao", "pytorch-metric-learning", "transformers", "tritonclient"])
def test_not_family_of_torch(name: str) -> None:
    assert not TORCH_FAMILY.fullmatch(name)


def test_every_pin_is_exact_and_hashed() -> None:
    exact = re.compile(r"[a-z0-9-]+==\S+ .*\\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+(    #.*\n)+")
    assert [lines for _, lines in LOCKED if not exact.fullmatch(lines)] == []


def test_the_lock_names_no_registry() -> None:
    assert "://" not in TEXT
    assert not re.search(r"--(index|extra-index|find-links|trusted-host)|\.(org|com|net|io)\b", TEXT)


def test_the_lock_holds_all_that_pyproject_asks_for() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    versions: dict[str, list[str]] = {}
    for name, lines in LOCKED:
        versions.setdefault(name, []).append(lines.split()[0].partition("==")[2])
    for text in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
        asked = packaging.Requirement(text)
        if not TORCH_FAMILY.fullmatch(asked.name):
            assert versions.get(asked.name), f"{text}: not in {LOCK}; make lock"
            assert all(asked.specifier.contains(version) for version in versions[asked.name]), (
                f"{text}; make lock"
            )


def test_the_lock_has_what_the_set_up_itself_needs_and_no_torch() -> None:
    names = [name for name, _ in LOCKED]
    assert {"uv", "hatchling", "setuptools", "pyspark"} <= set(names)
    assert [lines.split()[0] for name, lines in LOCKED if name == "horovod"] == ["horovod==0.28.1"]
    assert not [name for name in names if TORCH_FAMILY.fullmatch(name)]
