"""What a machine brings: its programs, its user's registry configuration, and a way to run a program quietly."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

# What programs say, what it means and what to do. The first that matches wins: a full disk breaks downloads too, and
# a wrong certificate also ends in a failed connection.
_CAUSES = {
    r"No space left on device|os error 28|Disk quota exceeded": "the disk is full; make room",
    r"hash mismatch|do not match the hashes": "a download is not the file whose hash the project holds",
    r"certificate.verify.failed|invalid peer certificate|PKIX path": "the registry's certificate is not trusted; "
    "set SSL_CERT_FILE (Java: JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=...)",
    r"error sending request|dns error|Failed to fetch|Could not connect|Connection (refused|reset)|timed out"
    r"|name resolution|Network is unreachable|ProxyError|Max retries exceeded|NewConnectionError|UnknownHost"
    r"|ConnectException|Server access error|tunnel error": "the registry cannot be reached; check the network, "
    "the proxy and your pip, uv or SPARKML_IVY_SETTINGS",
    r"No matching distribution|No solution found|not found in the (package )?registry|UNRESOLVED DEPENDENCIES": "the "
    "registry does not have what the project asks for; check your pip, uv or SPARKML_IVY_SETTINGS",
}
# What would bend an installation: another target, another interpreter, make's own flags.
_DROPPED = re.compile(
    r"MAKE.*|MFLAGS|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|PIP_(TARGET|PREFIX|ROOT|REQUIREMENT|CONSTRAINT)"
    r"|UV_(SYSTEM_PYTHON|PYTHON|REQUIRE_HASHES|PROJECT|WORKING_DIR)"
)


class SetupError(Exception):
    """One line for the terminal: what is wrong, what was found, what to do next."""


def run(command: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
    """Runs a program with its words in `log`; raises `SetupError` with the cause when it fails.

    Inheritable files stay open in it: of a set-up that was killed, whoever still writes keeps the lock.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as said:
        print("$", *command, file=said, flush=True)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env, cwd=cwd, close_fds=False
        )
    if done.returncode != 0:
        raise SetupError(failure(log))


def failure(log: Path) -> str:
    """What the last program of a log failed of: the cause when it is a known one, and the line that says so."""
    text = re.sub(
        r"\x1b\[[0-9;]*m|(?<=://)[^/@\s]+@", "", log.read_text(errors="replace").rpartition("\n$ ")[2]
    )
    lines = [" ".join(line.split())[:200] for line in text.splitlines()[1:] if line.strip()]
    for pattern, cause in _CAUSES.items():
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{cause}, then repeat ({line}; log: {log})"
    # A traceback ends with what happened; a compiler and a shell begin with it.
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)][-1:]
    telling = [line for line in lines if re.search(r"error|fail|cannot|denied", line, re.IGNORECASE)]
    return f"a program failed ({[*raised, *telling, *lines, 'it said nothing'][0]}); see the log: {log}"


def find_java(environ: Mapping[str, str]) -> str:
    """Java's path: JAVA_HOME's, or the first on the PATH, as PySpark chooses it."""
    home = environ.get("JAVA_HOME")
    path = str(Path(home, "bin", "java")) if home else shutil.which("java", path=environ.get("PATH"))
    install = "Spark runs on it; install Java 17 (Debian: openjdk-17-jre-headless), or set JAVA_HOME to one"
    if not path or not os.access(path, os.X_OK):
        raise SetupError(f"Java is missing ({path or 'no java on the PATH'}); {install}")
    said = subprocess.run([path, "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', said)
    if not found or int(found[1]) < 17:  # Java 8 calls itself 1.8
        raise SetupError(f"Java is too old or broken ({path}: {' '.join(said.split())[:80]}); {install}")
    return path


def require_build_tools(environ: Mapping[str, str]) -> None:
    """Raises `SetupError` for the first thing that the build of Horovod would miss."""
    compiler = (environ.get("CXX") or "g++").split()[0]
    for tool, package in (("cmake", "cmake"), (compiler, "g++"), ("make", "make")):
        if not shutil.which(tool, path=environ.get("PATH")):
            raise SetupError(
                f"{tool} is missing; Horovod is compiled with it; install it (Debian: {package})"
            )
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.exists():
        package = f"python{sysconfig.get_python_version()}-dev"
        raise SetupError(f"{header} is missing; Horovod is compiled with it; install it (Debian: {package})")


def program_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What every program of the set-up gets: the user's environment, and what pip was told in uv's words.

    uv does not read pip's configuration. Whoever set up a mirror, a certificate, or an index with a CPU or CUDA build
    of torch for pip means it for this project too; what is said to uv itself (UV_* or uv.toml) goes before.
    """
    kept = {key: value for key, value in environ.items() if not _DROPPED.fullmatch(key)}
    told = {key: value for key, value in _as_uv(_pip_settings(environ), kept).items() if value}
    return {**told, **kept, "PIP_USER": "0"}  # a pip.conf with `user = true` would refuse an environment


def index_choice(environ: Mapping[str, str]) -> str:
    """All that decides which build of torch a machine gets; empty where uv was told nothing."""
    chosen = re.compile(r"UV_.*(INDEX|FIND_LINKS|TORCH_BACKEND)")
    said = [f"{key}={environ[key]}" for key in sorted(environ) if chosen.match(key) and environ[key]]
    own = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    files = [environ.get("UV_CONFIG_FILE", ""), f"{own}/uv/uv.toml", "/etc/uv/uv.toml"]
    texts = [Path(file).read_text(errors="replace") for file in files if os.path.isfile(file)]
    return "\n".join(said + [text for text in texts if re.search(r"index|find-links|torch-backend", text)])


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of `pip install`: [global], then [install] of its files in their order, then PIP_* variables."""
    home, last = Path.home(), environ.get("PIP_CONFIG_FILE", "")
    own = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", f"{home}/.pip/pip.conf", f"{own}/pip/pip.conf", last]
    parser = configparser.RawConfigParser()
    try:
        parser.read([] if last == os.devnull else files)
    except configparser.Error as error:
        raise SetupError(f"pip's configuration cannot be read: {' '.join(str(error).split())}") from error
    told = {key[4:].lower(): value for key, value in environ.items() if key.startswith("PIP_")}
    sections = [dict(parser[name]) if parser.has_section(name) else {} for name in ("global", "install")]
    return {key.replace("_", "-"): value for part in (*sections, told) for key, value in part.items()}


def _as_uv(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings as uv's variables; its proxy and its indexes only where the user has no others."""
    told = {
        "SSL_CERT_FILE": pip.get("cert", ""),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
    }
    if not {"https_proxy", "http_proxy", "all_proxy"} & {key.lower() for key in environ}:
        told.update(dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), pip.get("proxy", "")))
    if not re.search(r"(?i)index(?!.strategy)|find.links", index_choice(environ)):
        # pip passes over a folder that is not there, uv stops at it. pip takes the best version of all its indexes, uv
        # by itself stops at the first that has the name.
        links = [link for link in pip.get("find-links", "").split() if "://" in link or os.path.exists(link)]
        told["UV_DEFAULT_INDEX"] = pip.get("index-url", "")
        told["UV_INDEX"] = " ".join(pip.get("extra-index-url", "").split())
        told["UV_FIND_LINKS"] = ",".join(links)
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match" if told["UV_INDEX"] or links else ""
        told["UV_NO_INDEX"] = "1" if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else ""
    return told
