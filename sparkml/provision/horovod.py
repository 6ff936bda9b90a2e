"""The Horovod wheel: built once per machine for a Python and a torch, and kept in the cache.

Horovod's last release asks for C++14 and torch's headers need 17. Its source stays untouched: a compiler
wrapper appends the later standard, which wins.
"""

from __future__ import annotations

import os
import platform
import re
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sparkml.errors import SparkmlError
from sparkml.provision import lockfile
from sparkml.provision.cache import wheels_folder
from sparkml.provision.packages import uv_install
from sparkml.provision.site import Site, VenvStep, remove_leftovers
from sparkml.provision.tools import Python, require_build_tools

BUILD_SETTINGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # CMake 4 refuses what Horovod's parts declare
}
# -g0: Horovod asks for debug information, which nobody reads and which costs time and size.
COMPILER_FLAGS = "-std=c++17 -g0"
_EXTENSION = re.compile(r"^horovod/torch/mpi_lib_v2.*\.so$")
_CHECK = "import horovod.torch as h, sys; h.init(); sys.exit(not (h.gloo_built() and h.size() == 1))"


@dataclass(frozen=True)
class InstallHorovod(VenvStep):
    """Horovod for exactly this torch, from the cache or compiled now."""

    python: Python
    name: str = "horovod"

    def describe(self, site: Site) -> str:
        version = _pin(site).version
        if cached_wheel(site):
            return f"horovod {version}, from the cache"
        return f"horovod {version}, compiled for torch {torch_version(site)} (some minutes, once per machine)"

    def inputs(self, site: Site) -> str:
        return wheel_key(site)

    def act(self, site: Site) -> None:
        wheel = cached_wheel(site) or build_wheel(site, self.python)
        uv_install(site, self.name, "--no-deps", "--reinstall-package=horovod", wheel)
        site.run(self.name, site.python, "-c", _CHECK)


def torch_version(site: Site) -> str:
    """torch's version with its build (`2.13.0+cu130`): read, as metadata lack the build."""
    path = site.packages / "torch" / "version.py"
    try:
        found = re.search(r"^__version__ = '([^']+)'", path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if not found:
        raise SparkmlError("torch is not installed", where=str(path), next_action="make setup")
    return found[1]


def wheel_key(site: Site) -> str:
    """The name of the cache's folder: all that a compiled wheel depends on."""
    major, minor = site.python_version or (0, 0)
    machine = re.sub(r"[-.]", "_", sysconfig.get_platform())
    libc = "".join(platform.libc_ver())
    operations = site.environ.get("HOROVOD_GPU_OPERATIONS", "") or "CPU"
    parts = [
        f"horovod-{_pin(site).version}",
        f"cp{major}{minor}",
        machine,
        libc,
        f"torch{torch_version(site)}",
    ]
    return "-".join([part for part in parts if part] + [operations])


def cached_wheel(site: Site) -> Path | None:
    return next((wheels_folder(site.cache) / wheel_key(site)).glob("*.whl"), None)


def has_any_wheel(cache: Path, python: Python) -> bool:
    """True when the cache has a wheel for this Python, so that a compiler may not be needed."""
    tag = f"cp{python.version[0]}{python.version[1]}"
    return any(wheels_folder(cache).glob(f"horovod-*-{tag}-*/*.whl"))


def build_wheel(site: Site, python: Python) -> Path:
    """Downloads the source, checks its hash, compiles it; gives the cached wheel (whole or not there)."""
    require_build_tools(site.environ, python)
    key, shelf = wheel_key(site), wheels_folder(site.cache)
    remove_leftovers(shelf.glob(".building-*"))
    shelf.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=shelf))
    try:
        wheel = _compile(site, work)
        os.rename(wheel.parent, shelf / key)
    finally:
        remove_leftovers([work])
    return shelf / key / wheel.name


def _compile(site: Site, work: Path) -> Path:
    out, temporary = work / "wheel", work / "tmp"
    temporary.mkdir()
    wanted = work / "horovod.txt"
    wanted.write_text(lockfile.as_requirements([_pin(site)]), encoding="utf-8")
    flags = ["--no-deps", "--no-build-isolation", "--no-binary=horovod", "--require-hashes", "--retries=2"]
    # pip's own cache of wheels does not know that a wheel belongs to one build of torch.
    flags.append("--no-cache-dir")
    path = f"{site.venv / 'bin'}{os.pathsep}{site.environ.get('PATH', os.defpath)}"
    build = {
        **BUILD_SETTINGS,
        "CXX": str(_compiler(work, site.environ.get("CXX") or "g++")),
        "TMPDIR": str(temporary),
        "PATH": path,
        "MAKEFLAGS": f"-j{_cores()}",
    }
    site.run("horovod", site.python, "-m", "pip", "wheel", *flags, "-r", wanted, "-w", out, env=build)
    wheels = list(out.glob("*.whl"))
    if len(wheels) != 1 or not _has_extension(wheels[0]):
        got = ", ".join(wheel.name for wheel in wheels) or "nothing"
        raise SparkmlError("the build of Horovod left no wheel with its torch part", got=got)
    return wheels[0]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compiler(work: Path, compiler: str) -> Path:
    wrapper = work / "c++17"
    wrapper.write_text(f'#!/bin/sh\nexec {compiler} "$@" {COMPILER_FLAGS}\n', encoding="utf-8")
    wrapper.chmod(0o755)
    return wrapper


def _has_extension(wheel: Path) -> bool:
    with zipfile.ZipFile(wheel) as archive:
        return any(_EXTENSION.match(name) for name in archive.namelist())


def _pin(site: Site) -> lockfile.Pin:
    return lockfile.pins_of(lockfile.read_lock(site.root / lockfile.LOCK_NAME), "horovod")[0]
