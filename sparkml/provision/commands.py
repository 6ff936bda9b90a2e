"""Running a program quietly, and saying in one line why it failed."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparkml.errors import SparkmlError

_PR_SET_PDEATHSIG = 1
_REGISTRY = "check the network, the proxy and your pip, uv or SPARKML_IVY_SETTINGS, then repeat"

# What programs say, what it means, what to do. The first that matches wins: a full disk breaks downloads too,
# and a wrong certificate also ends in a failed connection.
CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|os error 28|Disk quota exceeded",
        "the disk is full",
        "make room, then repeat",
    ),
    (
        r"hash mismatch|do not match the hashes|invalid sha1|invalid checksum",
        "a download is not the file whose hash the project holds",
        "repeat; if it stays, the registry or a mirror serves another file",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|invalid peer certificate|PKIX path",
        "the certificate of the registry is not trusted",
        "point SSL_CERT_FILE to your authority (Java: JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=...)",
    ),
    (
        r"error sending request|dns error|Failed to fetch|Could not connect|Connection (refused|reset)"
        r"|Name or service not known|Temporary failure in name resolution|Network is unreachable|timed out"
        r"|ProxyError|Max retries exceeded|NewConnectionError|UnknownHostException|ConnectException"
        r"|Server access error|Host .* not found|tunnel error|SocketTimeoutException",
        "the registry cannot be reached",
        _REGISTRY,
    ),
    (
        r"No matching distribution found|No solution found|was not found in the package registry"
        r"|UNRESOLVED DEPENDENCIES|not found in the registry",
        "the registry does not have what the project asks for",
        _REGISTRY,
    ),
)


def run(
    command: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path, keep: Sequence[int] = ()
) -> None:
    """Runs a program with its words in `log`; raises `SparkmlError` with the cause when it fails.

    `keep`: file descriptors (the lock of the set-up) that stay open in the program, so that a set-up that was
    killed leaves the lock with whoever still writes.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as words:
        words.write(f"$ {' '.join(str(part) for part in command)}\n".encode())
        words.flush()
        try:
            done = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                pass_fds=tuple(keep),
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
                check=False,
            )
        except OSError as error:
            raise SparkmlError(f"{command[0]} cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        raise failure(log)


def output(command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path) -> str:
    """What a program prints."""
    asked = [str(part) for part in command]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, env=dict(env), cwd=cwd, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SparkmlError("a program failed", where=" ".join(asked), got=str(error)) from error
    return done.stdout


def failure(log: Path) -> SparkmlError:
    """The error that a log tells of: its cause when it is a known one, and the line that says so."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace").rpartition("\n$ ")[2])
    text = text.partition("\n")[2]  # the command itself names no cause
    for pattern, cause, action in CAUSES:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            start = text.rfind("\n", 0, found.start()) + 1
            line = text[start:].partition("\n")[0]
            return SparkmlError(cause, got=_short(line), next_action=f"{action} (log: {log})")
    lines = [line for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"\s*[\w.]*(Error|Exception): ", line)]
    telling = [line for line in lines if re.search(r"error|fail|cannot|denied", line, re.IGNORECASE)]
    # A traceback ends with what happened; a compiler and a shell begin with it.
    said = (raised[-1:] or telling or lines or [""])[0]
    return SparkmlError("a program failed", got=_short(said), next_action=f"see the log: {log}")


def one_line(error: SparkmlError) -> str:
    """The whole error as one line for the terminal."""
    parts = [error.what, error.got and f"({error.got})", error.where and f"in {error.where}"]
    head = " ".join(part for part in parts if part)
    tail = [error.expected and f"expected {error.expected}", error.next_action]
    return "; ".join(" ".join(part.split()) for part in [head, *tail] if part)


def _short(line: str, limit: int = 200) -> str:
    # Credentials may stand in an address.
    line = re.sub(r"://[^/@\s]+@", "://", " ".join(line.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _die_with_parent() -> None:
    """In the child: end with the set-up, so that a repeated one does not meet a writer of the old one."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for the programs of a set-up: the user's, without what would bend an installation."""
    dropped = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    dropped |= {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT", "PIP_CONSTRAINT"}
    dropped |= {"UV_SYSTEM_PYTHON", "UV_PYTHON", "UV_REQUIRE_HASHES", "UV_PROJECT", "UV_WORKING_DIR"}
    kept = {k: v for k, v in (os.environ if environ is None else environ).items() if k not in dropped}
    return {**kept, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
