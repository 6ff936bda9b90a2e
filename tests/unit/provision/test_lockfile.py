"""The lock: what it must hold, and what must not stand in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparkml.errors import ConfigError
from sparkml.provision.lockfile import (
    LOCK_NAME,
    TORCH_FAMILY,
    normalise,
    parse_lock,
    pins_of,
    read_lock,
    without_torch_family,
    write_atomically,
)

ROOT = Path(__file__).parents[3]
A, B, C = "a" * 64, "b" * 64, "c" * 64
LOCK = f"""\
# made by
#    make lock
Absl_Py==2.5.1 ; python_full_version < '3.13' \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via tensorboard
nvidia-cublas==13.1.1.3 \\
    --hash=sha256:{C}
torch==2.13.0 \\
    --hash=sha256:{A}
    # via
    #   sparkml
zstandard==0.25.0 \\
    --hash=sha256:{B}
"""


def declared_requirements() -> list[str]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]


def test_parses_name_version_marker_and_hashes() -> None:
    pins = parse_lock(LOCK)
    assert [(pin.name, pin.version, pin.marker, pin.hashes) for pin in pins] == [
        ("absl-py", "2.5.1", "python_full_version < '3.13'", (A, B)),
        ("nvidia-cublas", "13.1.1.3", "", (C,)),
        ("torch", "2.13.0", "", (A,)),
        ("zstandard", "0.25.0", "", (B,)),
    ]
    assert pins[0].constraint == "Absl_Py==2.5.1 ; python_full_version < '3.13'".replace("Absl_Py", "absl-py")
    assert pins[1].constraint == "nvidia-cublas==13.1.1.3"


def test_leaves_torch_and_its_libraries_out_and_keeps_the_rest_to_the_letter() -> None:
    head, rest = LOCK.split("nvidia-cublas", 1)
    assert without_torch_family(LOCK) == head + "zstandard" + rest.split("zstandard", 1)[1]


@pytest.mark.parametrize(
    "name", ["torch", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "cuda-toolkit", "cuda-bindings"]
)
def test_family_of_torch(name: str) -> None:
    assert TORCH_FAMILY.match(name)


@pytest.mark.parametrize("name", ["torchao", "pytorch-metric-learning", "transformers", "tritonclient"])
def test_not_family_of_torch(name: str) -> None:
    assert not TORCH_FAMILY.match(name)


@pytest.mark.parametrize(
    "damage",
    ["absl-py==2.5.1\n", f"absl-py>=2 \\\n    --hash=sha256:{A}\n", "-e .\n", "<<<<<<< ours\n"],
    ids=["no hash", "no exact version", "an option", "a merge conflict"],
)
def test_damaged_lock_is_refused_with_its_line(damage: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_lock("# head\n" + damage)
    assert raised.value.where == f"{LOCK_NAME}, line 2"
    assert raised.value.next_action == "make lock"


def test_missing_lock_and_missing_package_say_make_lock(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the lock is missing"):
        read_lock(tmp_path / LOCK_NAME)
    with pytest.raises(ConfigError, match="the lock does not hold uv"):
        pins_of(parse_lock(LOCK), "uv")


def test_write_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "file", "first")
    write_atomically(tmp_path / "new" / "file", "second")
    assert [(path.name, path.read_text()) for path in (tmp_path / "new").iterdir()] == [("file", "second")]


def test_project_lock_names_no_registry() -> None:
    text = (ROOT / LOCK_NAME).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"--(index|extra-index|find-links|trusted-host)", text)
    assert not re.search(r"\.(org|com|net|io)\b", text)


def test_project_lock_holds_all_that_pyproject_asks_for() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    locked: dict[str, list[str]] = {}
    for pin in read_lock(ROOT / LOCK_NAME):
        locked.setdefault(pin.name, []).append(pin.version)
    for text in declared_requirements():
        asked = packaging.Requirement(text)
        if TORCH_FAMILY.match(normalise(asked.name)):
            continue
        versions = locked.get(normalise(asked.name), [])
        assert versions, f"{text}: not in {LOCK_NAME}; make lock"
        assert all(asked.specifier.contains(version) for version in versions), (
            f"{text}: {versions}; make lock"
        )


def test_project_lock_has_what_the_set_up_itself_needs_and_no_torch() -> None:
    pins = read_lock(ROOT / LOCK_NAME)
    assert {"uv", "hatchling", "horovod", "setuptools", "pyspark"} <= {pin.name for pin in pins}
    assert not [pin.name for pin in pins if TORCH_FAMILY.match(pin.name)]
    assert [pin.version for pin in pins if pin.name == "horovod"] == ["0.28.1"]
    assert sum(re.fullmatch(r"torch==[\d.]+", text) is not None for text in declared_requirements()) == 1
