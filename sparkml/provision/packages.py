"""The environment and its packages: venv, uv, what the lock holds, torch, and sparkml itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sparkml.errors import ConfigError
from sparkml.provision import lockfile
from sparkml.provision.commands import output
from sparkml.provision.registry import parse_pip_config, read_uv_toml, torch_configuration, uv_environment
from sparkml.provision.site import Site, Step, VenvStep, broken_distributions
from sparkml.provision.tools import Python

APART = frozenset({"horovod"})  # built by its own step

# Imports what the stages import, theirs and what they only import when they need it.
_IMPORT_ALL = """
import importlib, pkgutil, sparkml
for module in pkgutil.walk_packages(sparkml.__path__, "sparkml."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from sparkml.compat.petastorm import load_petastorm
load_petastorm()
import horovod.torch, mlflow.tracking, pyspark.daemon, torch.utils.tensorboard
import transformers.models.bert.modeling_bert
"""


@dataclass(frozen=True)
class MakeVenv(Step):
    """`.venv`, made anew when its Python is another one or when an interruption left it broken."""

    python: Python
    name: str = "venv"

    def describe(self, site: Site) -> str:
        version = ".".join(map(str, self.python.version))
        again = ", after an interruption" if site.changing.exists() else ""
        return f".venv with Python {version}{again}"

    def inputs(self, site: Site) -> str:
        return ".".join(map(str, self.python.version[:2]))

    def is_done(self, site: Site) -> bool:
        return site.python.exists() and not site.changing.exists() and super().is_done(site)

    def act(self, site: Site) -> None:
        if site.python_version == self.python.version[:2] and not broken_distributions(site.packages):
            clear = []  # packages that are whole stay
        else:
            clear = ["--clear"]
        site.run(self.name, self.python.path, "-m", "venv", *clear, site.venv)
        site.changing.unlink(missing_ok=True)


@dataclass(frozen=True)
class InstallUv(VenvStep):
    """uv, from the registry that pip knows."""

    name: str = "uv"

    def describe(self, site: Site) -> str:
        return f"uv {_pins(site, 'uv')[0].version}, the installer"

    def inputs(self, site: Site) -> str:
        return lockfile.as_requirements(_pins(site, "uv"))

    def act(self, site: Site) -> None:
        wanted = site.stamps / "uv.txt"
        lockfile.write_atomically(wanted, self.inputs(site))
        flags = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--retries=2"]
        site.run(self.name, site.python, "-m", "pip", "install", *flags, "-r", wanted)


@dataclass(frozen=True)
class InstallPackages(VenvStep):
    """All that the lock holds with hashes."""

    name: str = "packages"

    def describe(self, site: Site) -> str:
        return f"the packages of {lockfile.LOCK_NAME}, each checked by its hash"

    def inputs(self, site: Site) -> str:
        return lockfile.as_requirements(_locked(site))

    def act(self, site: Site) -> None:
        wanted = site.stamps / "packages.txt"
        lockfile.write_atomically(wanted, self.inputs(site))
        # Hashes decide what a file is; so which of the user's indexes serves it does not matter.
        flags = ["--no-deps", "--require-hashes", "--index-strategy=unsafe-best-match"]
        # What is only there as source (pyspark) is built by the lock's own setuptools.
        uv_install(site, self.name, *flags, "--build-constraints", wanted, "-r", wanted)


@dataclass(frozen=True)
class InstallTorch(VenvStep):
    """torch, in the build that the user's own pip or uv configuration names; the registry's own otherwise."""

    name: str = "torch"

    def describe(self, site: Site) -> str:
        return f"{torch_requirement(site.root)}, the build that your pip and uv configuration names"

    def inputs(self, site: Site) -> str:
        told = uv_settings(site)
        chosen = torch_configuration(told, site.environ, read_uv_toml(site.environ))
        return f"{torch_requirement(site.root)}\n{chosen}"

    def act(self, site: Site) -> None:
        limits = site.stamps / "constraints.txt"
        lockfile.write_atomically(limits, "".join(f"{pin.constraint}\n" for pin in _locked(site)))
        # Another build has the same version number: without a reinstallation the old one would do.
        uv_install(
            site, self.name, torch_requirement(site.root), "-c", limits, "--reinstall-package", "torch"
        )


@dataclass(frozen=True)
class InstallSparkml(VenvStep):
    """sparkml itself, editable, with its command; ends with a look whether everything can be imported."""

    name: str = "sparkml"

    def describe(self, site: Site) -> str:
        return "sparkml itself, editable; everything is imported once"

    def inputs(self, site: Site) -> str:
        return (site.root / "pyproject.toml").read_text(encoding="utf-8")

    def act(self, site: Site) -> None:
        uv_install(site, self.name, "--no-deps", "--no-build-isolation", "--editable", site.root)
        # Images for containers often keep Python from writing bytecode: every worker and every rank would then
        # compile all of torch anew at its start. Written once here, it is there for all.
        site.run(self.name, site.python, "-c", _IMPORT_ALL, env={"PYTHONDONTWRITEBYTECODE": ""})


def uv_install(site: Site, step: str, *arguments: str | Path) -> None:
    """`uv pip install` into the environment, with the user's pip configuration in uv's words."""
    site.run(step, site.uv, "pip", "install", "--python", site.python, *arguments, env=uv_settings(site))


def uv_settings(site: Site) -> dict[str, str]:
    """The variables that tell uv what pip was told."""
    listing = output([site.python, "-m", "pip", "config", "list"], env=site.environ, cwd=site.root)
    return uv_environment(parse_pip_config(listing), site.environ, read_uv_toml(site.environ))


def torch_requirement(root: Path) -> str:
    """`torch==...` as pyproject.toml asks for it (no tomllib on Python 3.10, hence by pattern)."""
    found = re.search(r'"(torch==[^"\s]+)"', (root / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise ConfigError(
            "pyproject.toml does not pin torch", expected='"torch==VERSION" among the dependencies'
        )
    return found[1]


def write_lock(site: Site, *, upgrade: bool) -> int:
    """Resolves pyproject.toml anew into the lock (fitting pins stay unless `upgrade`); their number."""
    path = site.root / lockfile.LOCK_NAME
    work = site.stamps / "resolved.txt"
    lockfile.write_atomically(work, path.read_text(encoding="utf-8"))
    flags = [
        "--group=dev",
        "--universal",
        "--python-version=3.10",
        "--generate-hashes",
        "--no-emit-index-url",
    ]
    flags += ["--custom-compile-command=make lock", *(["--upgrade"] if upgrade else [])]
    site.run("lock", site.uv, "pip", "compile", "pyproject.toml", *flags, "-o", work, env=uv_settings(site))
    text = lockfile.without_torch_family(work.read_text(encoding="utf-8"))
    if "://" in text:
        raise ConfigError(
            "the resolved lock holds an address", next_action="resolve without a direct reference"
        )
    lockfile.write_atomically(path, text)
    return len({pin.name for pin in lockfile.parse_lock(text)})


def steps_of_environment(python: Python) -> tuple[Step, ...]:
    return MakeVenv(python), InstallUv(), InstallPackages(), InstallTorch()


def _pins(site: Site, name: str) -> list[lockfile.Pin]:
    return lockfile.pins_of(lockfile.read_lock(site.root / lockfile.LOCK_NAME), name)


def _locked(site: Site) -> list[lockfile.Pin]:
    return [pin for pin in lockfile.read_lock(site.root / lockfile.LOCK_NAME) if pin.name not in APART]
