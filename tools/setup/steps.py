"""The set-up, step by step, and its command line."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.setup import jars, machine

LOCK = "requirements.lock"
PYTHON = sysconfig.get_python_version()
# Which build of torch a machine gets is for the configuration of pip or uv to say: torch and what it pins itself are
# not in the lock.
TORCH_FAMILY = re.compile(r"torch|triton|pytorch-triton.*|nvidia-.*|cuda-.*")
HOROVOD = [
    "env",
    "HOROVOD_WITH_PYTORCH=1",
    "HOROVOD_WITHOUT_TENSORFLOW=1",
    "HOROVOD_WITHOUT_MXNET=1",
    "HOROVOD_WITH_GLOO=1",
    "HOROVOD_WITHOUT_MPI=1",
    "CMAKE_POLICY_VERSION_MINIMUM=3.5",  # CMake 4 refuses what Horovod's parts declare
    f"CXX={Path(__file__).with_name('c++17')}",
    f"MAKEFLAGS=-j{len(os.sched_getaffinity(0))}",
]
CHECK_HOROVOD = "import horovod.torch as h, sys; h.init(); sys.exit(not (h.gloo_built() and h.size() == 1))"

# Images for containers often keep Python from writing bytecode: every worker and every rank would then compile all of
# torch anew at its start. Written once here, it is there for all. Also shows whether everything can be imported.
IMPORT_ALL = """
import compileall, importlib, importlib.util, pkgutil, sparkml
for module in pkgutil.walk_packages(sparkml.__path__, "sparkml."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import horovod.torch, mlflow.tracking, pyspark.daemon, torch.utils.tensorboard, transformers.models.bert.modeling_bert
compileall.compile_dir(importlib.util.find_spec("petastorm").submodule_search_locations[0], quiet=2)
"""


class Site:
    """A checkout (`root`), what all checkouts of the machine share (`cache`), and the programs' environment."""

    def __init__(self, root: Path, cache: Path, environ: Mapping[str, str]) -> None:
        self.root, self.cache, self.environ = root, cache, environ
        self.venv = root / ".venv"
        self.python, self.uv = self.venv / "bin" / "python", self.venv / "bin" / "uv"
        self.packages = self.venv / "lib" / f"python{PYTHON}" / "site-packages"
        # Servers that only tests start: Spark must not find them among its own jars.
        self.servers = self.venv / "share" / "sparkml-tests"
        # Whoever deletes the environment deletes what was said about it.
        self.stamp = self.venv / "sparkml-setup"
        self.lock = (root / LOCK).read_text()
        # What follows is for the linters.
        self.project = (root / "pyproject.toml").read_text().partition("[tool.ruff]")[0]

    def run(self, step: str, *command: str | Path) -> None:
        machine.run(command, log=self.cache / "logs" / f"{step}.log", env=self.environ, cwd=self.root)

    def install(self, step: str, *arguments: str | Path) -> None:
        self.run(step, self.uv, "pip", "install", "--python", self.python, *arguments)

    def pinned(self, file: str, chosen: Callable[[str], bool]) -> Path:
        """A file of requirements with the chosen packages of the lock."""
        path = self.venv / file
        path.write_text("".join(lines for name, lines in pins(self.lock) if chosen(name)))
        return path

    def is_made(self) -> bool:
        """True when the environment was made, to its end, of what would make it now."""
        return self.python.exists() and self.stamp.is_file() and self.stamp.read_text() == self.state()

    def state(self) -> str:
        """The hash of all that the environment depends on."""
        inputs = [PYTHON, str(self.root), self.lock, self.project, jars.LOCK.read_text(), self.gpu_operations]
        return hashlib.sha256("\n".join([*inputs, machine.index_choice(self.environ)]).encode()).hexdigest()

    @property
    def gpu_operations(self) -> str:
        return self.environ.get("HOROVOD_GPU_OPERATIONS") or "CPU"

    def wheels(self, torch: str) -> Path:
        """The cache's folder for Horovod's wheel, named by all that it depends on."""
        version = re.findall(r"^horovod==(\S+)", self.lock, re.MULTILINE)[0]
        system = f"{platform.system().lower()}_{platform.machine()}-{''.join(platform.libc_ver())}"
        name = f"horovod-{version}-cp{PYTHON.replace('.', '')}-{system}-torch{torch}-{self.gpu_operations}"
        return self.cache / "wheels" / name


def pins(lock: str) -> list[tuple[str, str]]:
    """The name of every package of a lock, and its lines: pin, hashes, comments."""
    blocks = re.split(r"^(?=[^\s#])", lock, flags=re.MULTILINE)[1:]
    return [(block.partition("==")[0], block) for block in blocks]


def set_up(site: Site, *, s3: bool, kafka: bool = False, slow: bool = False) -> None:
    """Makes the environment when what it depends on has changed, and puts the jars there that it lacks.

    `slow`: also the servers of the slow tests.
    """
    start = time.monotonic()
    java, folder = machine.find_java(site.environ), site.packages / "pyspark" / "jars"
    known = jars.read_lock(jars.LOCK.read_text())
    # Jars of S3 or Kafka that were fetched once come again into an environment that is made anew.
    asked = {
        "s3": s3 or any(folder.glob("hadoop-aws-*.jar")),
        "kafka": kafka or any(folder.glob("kafka-clients-*.jar")),
    }
    wanted = known["delta"] + [
        jar for section, is_asked in asked.items() if is_asked for jar in known[section]
    ]
    servers = {site.servers: known["slow"], site.servers / "kafka": known["broker"]} if slow else {}
    placed = {folder: wanted, **servers}
    is_placed = all(jar.is_in(place) for place, listed in placed.items() for jar in listed)
    if not (site.is_made() and is_placed):
        with only_one(site.cache):
            if not site.is_made():
                make_environment(site)
            with step("jars", f"{len(wanted)} for Spark"):
                jars.place(wanted, folder, site.cache / "jars", site, java)
                for place, listed in servers.items():
                    place.mkdir(parents=True, exist_ok=True)
                    jars.place(listed, place, site.cache / "jars", site, java, ivy=folder)
            with step("classes", "an archive of those that Spark loads: sessions start faster"):
                archive_classes(site)
    print(f"setup: everything is in place ({time.monotonic() - start:.1f} s)", flush=True)


@contextmanager
def only_one(cache: Path) -> Iterator[None]:
    """Holds the machine's lock of set-ups: two of them would write the same environment or the same cache."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "setup.lock").open("a") as handle:
        os.set_inheritable(handle.fileno(), True)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: waiting for another set-up of this machine", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        shutil.rmtree(cache / "logs", ignore_errors=True)
        yield


@contextmanager
def step(name: str, says: str) -> Iterator[None]:
    """A line on the terminal while the block works."""
    start = time.monotonic()
    print(f"setup: {name:<8} {says} ...", end=" ", flush=True)
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - start:.1f} s", flush=True)


def make_environment(site: Site) -> None:
    """`.venv` from nothing (nobody knows what a kill left of one that is there); its stamp comes last."""
    torch = re.findall(r'"(torch==[^"]+)"', site.project)[0]  # no tomllib on Python 3.10
    if not any((site.cache / "wheels").glob(site.wheels("*").name)):
        machine.require_build_tools(site.environ)  # said now, not after minutes of downloads
    with step("packages", f".venv with Python {PYTHON}, the packages of {LOCK} by their hashes"):
        make_venv(site)
        wanted = site.pinned("packages.txt", lambda name: name != "horovod")
        builder = site.pinned("build.txt", lambda name: name == "setuptools")
        # Hashes decide what a file is, so which of the user's indexes serves it does not matter. What is only there
        # as source (pyspark) is built by the lock's own setuptools.
        flags = ["--no-deps", "--require-hashes", "--index-strategy=unsafe-best-match"]
        site.install("packages", *flags, "--build-constraints", builder, "-r", wanted)
    with step("torch", f"{torch}, the build that your pip or uv configuration names"):
        site.install("torch", torch, "-c", wanted)
    with step("horovod", "from the cache, or compiled for this torch (two minutes, once per machine)"):
        install_horovod(site)
    with step("sparkml", "editable; everything is imported once"):
        site.install("sparkml", "--no-deps", "--no-build-isolation", "--editable", site.root)
        site.run("sparkml", "env", "PYTHONDONTWRITEBYTECODE=", site.python, "-c", IMPORT_ALL)
    site.stamp.write_text(site.state())


def archive_classes(site: Site) -> None:
    """Best effort: not every Java can do it, and sessions work without."""
    try:
        site.run("classes", site.python, "-m", "sparkml.frame.class_archive")
    except machine.SetupError as error:
        print(f"left out ({error})", end=" ", flush=True)


def make_venv(site: Site) -> None:
    """An empty `.venv` with the lock's uv."""
    # It may be the environment's own Python that runs.
    base = getattr(sys, "_base_executable", sys.executable)
    site.run("packages", base, "-m", "venv", "--clear", site.venv)
    wanted = site.pinned("uv.txt", lambda name: name == "uv")
    flags = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    site.run("packages", site.python, "-m", "pip", "install", *flags, "-r", wanted)


def install_horovod(site: Site) -> None:
    """Horovod for exactly this torch: the cache's wheel, compiled where there is none."""
    version = (site.packages / "torch" / "version.py").read_text()
    torch = re.findall(r"^__version__ = '(.+)'", version, re.MULTILINE)[0]  # metadata lack the build (+cpu)
    wheels = site.wheels(torch)
    if wheels.exists():
        use_wheel(site, wheels)
    else:
        build_wheel(site, wheels)


def use_wheel(site: Site, folder: Path) -> None:
    site.install("horovod", "--no-deps", *folder.glob("*.whl"))
    site.run("horovod", site.python, "-c", CHECK_HOROVOD)


def build_wheel(site: Site, wheels: Path) -> None:
    """Compiles Horovod from its source, checked by hash; `wheels` appears with a wheel that works, or not at all."""
    machine.require_build_tools(site.environ)
    wheels.parent.mkdir(parents=True, exist_ok=True)
    for left in wheels.parent.glob(".building-*"):
        shutil.rmtree(left)
    wanted = site.pinned("horovod.txt", lambda name: name == "horovod")
    # pip's own cache of wheels does not know that a wheel belongs to one build of torch.
    flags = ["--no-deps", "--require-hashes", "--no-build-isolation", "--no-binary=horovod", "--no-cache-dir"]
    with tempfile.TemporaryDirectory(prefix=".building-", dir=wheels.parent) as work:
        path = f"PATH={site.venv / 'bin'}{os.pathsep}{site.environ.get('PATH', os.defpath)}"
        compiler = f"SPARKML_CXX={site.environ.get('CXX', '')}"
        build = [*HOROVOD, compiler, path, f"TMPDIR={work}", str(site.python), "-m", "pip", "wheel", *flags]
        site.run("horovod", *build, "-r", wanted, "-w", f"{work}/wheel")
        use_wheel(site, Path(work, "wheel"))
        os.rename(f"{work}/wheel", wheels)


def write_lock(site: Site, *, upgrade: bool) -> None:
    """Resolves pyproject.toml anew into the lock (fitting pins stay unless `upgrade`)."""
    if not site.uv.exists():
        make_venv(site)
    work = site.venv / LOCK
    work.write_text(site.lock)
    flags = ["--extra=minilm", "--group=dev", "--universal", "--python-version=3.10", "--generate-hashes"]
    flags += ["--no-emit-index-url", "--custom-compile-command=make lock", *["--upgrade"] * upgrade]
    site.run("lock", site.uv, "pip", "compile", "pyproject.toml", *flags, "-o", work)
    text = work.read_text()
    for name, lines in pins(text):
        text = text.replace(lines, "") if TORCH_FAMILY.fullmatch(name) else text
    work.write_text(text)
    os.replace(work, site.root / LOCK)


def main(arguments: Sequence[str]) -> int:
    """Sets the checkout up; returns the exit code."""
    parser = argparse.ArgumentParser("python3 -B tools/setup", description="Makes .venv; skips what is done.")
    parser.add_argument("--s3", action="store_true", help="also the jars for s3a:// lakes")
    parser.add_argument("--kafka", action="store_true", help="also the jars for streams from Kafka")
    parser.add_argument("--slow", action="store_true", help="also the servers of the slow tests")
    parser.add_argument("--lock", action="store_true", help=f"resolve {LOCK} instead, from pyproject.toml")
    parser.add_argument("--upgrade", action="store_true", help="with --lock: take the newest versions")
    asked = parser.parse_args(arguments)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sparkml")
    try:
        site = Site(Path(__file__).resolve().parents[2], cache, machine.program_environment(os.environ))
        if asked.lock:
            with only_one(cache):
                write_lock(site, upgrade=asked.upgrade)
        else:
            set_up(site, s3=asked.s3, kafka=asked.kafka, slow=asked.slow)
    except (machine.SetupError, OSError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; repeat it to go on from here", file=sys.stderr)
        return 130
    return 0
