"""The cache of Horovod wheels: whole or not there, one for each Python and torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sparkml.errors import MissingToolError, SparkmlError
from sparkml.provision.horovod import (
    build_wheel,
    cached_wheel,
    has_any_wheel,
    torch_version,
    wheel_key,
)
from sparkml.provision.site import Site
from sparkml.provision.tools import Python

PYTHON = Python("/usr/bin/python3.11", (3, 11, 7), venv=True, headers=True)
WHEEL = "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"

# Instead of `python -m pip wheel ... -w FOLDER`: what a build leaves, by the variable BUILD.
FAKE_PYTHON = """#!/bin/sh
echo "$@" > "$SEEN/arguments"
env > "$SEEN/environment"
cat "$CXX" > "$SEEN/wrapper"
for last; do :; done
mkdir -p "$last"
cp "$SOURCE" "$last/horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
[ "$BUILD" = killed ] && kill -9 $$
[ "$BUILD" = failed ] && { echo 'x.cc:1: error: no'; exit 1; }
exit 0
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A checkout with a Python 3.11, torch 2.13.0+cpu, and a compiler that is not asked to compile."""
    root, tools = tmp_path / "checkout", tmp_path / "tools"
    binaries = root / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (root / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    torch = root / ".venv" / "lib" / "python3.11" / "site-packages" / "torch"
    torch.mkdir(parents=True)
    (torch / "version.py").write_text("__version__ = '2.13.0+cpu'\n")
    (root / "requirements.lock").write_text(f"horovod==0.28.1 \\\n    --hash=sha256:{'a' * 64}\n")
    _program(binaries / "python", FAKE_PYTHON)
    for tool in ("cmake", "g++", "make"):
        _program(tools / tool, "#!/bin/sh\n")
    seen = tmp_path / "seen"
    seen.mkdir()
    source = _wheel(tmp_path / "good.whl", "horovod/torch/mpi_lib_v2.cpython-311-x86_64-linux-gnu.so")
    environ = {"PATH": f"{tools}:/usr/bin:/bin", "SEEN": str(seen), "SOURCE": str(source), "BUILD": ""}
    return Site(root, tmp_path / "cache", environ)


def _program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def _wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


def _with(site: Site, **environ: str) -> Site:
    return Site(site.root, site.cache, {**site.environ, **environ})


def test_built_once_and_found_again(site: Site, tmp_path: Path) -> None:
    assert cached_wheel(site) is None
    assert not has_any_wheel(site.cache, PYTHON)
    wheel = build_wheel(site, PYTHON)
    assert wheel.name == WHEEL
    assert cached_wheel(site) == wheel
    assert has_any_wheel(site.cache, PYTHON)
    assert not has_any_wheel(site.cache, Python("/p", (3, 12, 0), venv=True, headers=True))
    assert [path.name for path in (site.cache / "wheels").iterdir()] == [wheel_key(site)]


def test_build_is_asked_for_as_it_must_be(site: Site, tmp_path: Path) -> None:
    build_wheel(site, PYTHON)
    arguments = (tmp_path / "seen" / "arguments").read_text().split()
    assert {"--no-cache-dir", "--require-hashes", "--no-build-isolation", "--no-deps"} <= set(arguments)
    environment = (tmp_path / "seen" / "environment").read_text().splitlines()
    assert {
        "HOROVOD_WITH_PYTORCH=1",
        "HOROVOD_WITH_GLOO=1",
        "HOROVOD_WITHOUT_MPI=1",
        "HOROVOD_WITHOUT_TENSORFLOW=1",
        "HOROVOD_WITHOUT_MXNET=1",
        "CMAKE_POLICY_VERSION_MINIMUM=3.5",
    } <= set(environment)
    assert not [line for line in environment if line.startswith("HOROVOD_GPU_OPERATIONS")]
    wrapper = (tmp_path / "seen" / "wrapper").read_text()
    assert wrapper == '#!/bin/sh\nexec g++ "$@" -std=c++17 -g0\n'


@pytest.mark.parametrize("build", ["killed", "failed"])
def test_interrupted_build_leaves_no_wheel(site: Site, build: str) -> None:
    with pytest.raises(SparkmlError):
        build_wheel(_with(site, BUILD=build), PYTHON)
    assert cached_wheel(site) is None
    assert list((site.cache / "wheels").iterdir()) == []
    assert cached_wheel(_with(site)) is None
    assert build_wheel(site, PYTHON).exists()


def test_leftovers_of_a_killed_set_up_go_and_are_never_a_wheel(site: Site) -> None:
    half = site.cache / "wheels" / ".building-old" / "wheel"
    half.mkdir(parents=True)
    (half / WHEEL).write_bytes(b"half")
    assert cached_wheel(site) is None
    assert not has_any_wheel(site.cache, PYTHON)
    build_wheel(site, PYTHON)
    assert [path.name for path in (site.cache / "wheels").iterdir()] == [wheel_key(site)]


def test_wheel_without_its_torch_part_is_refused(site: Site, tmp_path: Path) -> None:
    empty = _wheel(tmp_path / "empty.whl", "horovod/torch/__init__.py")
    with pytest.raises(SparkmlError, match="no wheel with its torch part"):
        build_wheel(_with(site, SOURCE=str(empty)), PYTHON)
    assert cached_wheel(site) is None


def test_missing_compiler_is_named_before_anything_is_done(site: Site, tmp_path: Path) -> None:
    (tmp_path / "tools" / "cmake").unlink()
    bare = _with(site, PATH=str(tmp_path / "tools"))
    with pytest.raises(MissingToolError, match="cmake is missing"):
        build_wheel(bare, PYTHON)
    assert not (site.cache / "wheels").exists()


def test_key_tells_apart_what_a_wheel_depends_on(site: Site) -> None:
    version = site.packages / "torch" / "version.py"
    keys = [wheel_key(site), wheel_key(_with(site, HOROVOD_GPU_OPERATIONS="NCCL"))]
    assert keys[0].startswith("horovod-0.28.1-cp311-")
    assert keys[0].endswith("-torch2.13.0+cpu-CPU")
    version.write_text("__version__ = '2.13.0+cu130'\n")
    keys.append(wheel_key(site))
    version.write_text("__version__ = '2.14.0+cpu'\n")
    keys.append(wheel_key(site))
    assert len(set(keys)) == 4


def test_no_torch_is_said(site: Site) -> None:
    (site.packages / "torch" / "version.py").unlink()
    with pytest.raises(SparkmlError, match="torch is not installed"):
        torch_version(site)
