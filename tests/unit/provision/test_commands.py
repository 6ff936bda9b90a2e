"""Failures in one line, and no program that outlives its set-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkml.errors import MissingToolError, SparkmlError
from sparkml.provision.commands import child_environment, failure, one_line, run

SAID = [
    (
        "error: Failed to fetch: `https://r.example/simple/uv/`\n  Caused by: error sending request\n",
        "the registry cannot be reached",
    ),
    (
        "WARNING: Retrying after 'NewConnectionError'\nERROR: No matching distribution found",
        "the registry cannot be reached",
    ),
    (
        "[NOT FOUND  ] io.delta\n Server access error at url x (java.net.ConnectException)\n",
        "the registry cannot",
    ),
    ("  Hash mismatch for `x==1`\n Expected: sha256:a\n", "is not the file whose hash"),
    (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
        "is not the file whose hash",
    ),
    (
        "error: Failed to fetch\n Caused by: invalid peer certificate: UnknownIssuer",
        "certificate of the registry",
    ),
    ("Failed to fetch\n No space left on device (os error 28)\n", "the disk is full"),
    (
        "ERROR: No matching distribution found for horovod==0.28.1\n",
        "does not have what the project asks for",
    ),
]


@pytest.mark.parametrize(("said", "cause"), SAID)
def test_cause_is_named_in_one_line(tmp_path: Path, said: str, cause: str) -> None:
    log = tmp_path / "step.log"
    log.write_text("$ uv pip install\n" + said)
    line = one_line(failure(log))
    assert cause in line
    assert "\n" not in line
    assert str(log) in line


def test_unknown_failure_shows_the_line_that_tells(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_text(
        "$ one\nerror: an older failure\n$ make\nstarting\nfile.cc:3: fatal error: no header\nmore\n"
    )
    assert failure(log).got == "file.cc:3: fatal error: no header"


def test_traceback_is_told_by_its_end(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_text(
        "$ uv\nerror: Failed to build `x`\n  File x\nModuleNotFoundError: No module named 'y'\nhint\n"
    )
    assert failure(log).got == "ModuleNotFoundError: No module named 'y'"


def test_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_text("$ uv\nerror: Failed to fetch: `https://me:secret@r.example/simple/`\n")
    assert "secret" not in one_line(failure(log))


def test_one_line_of_an_error_with_all_parts() -> None:
    error = MissingToolError("Java is missing", got="no java", expected="17", next_action="install it")
    assert one_line(error) == "Java is missing (no java); expected 17; install it"


def test_run_writes_the_log_and_raises_on_failure(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "step.log"
    run([sys.executable, "-c", "print('fine')"], log=log, env=os.environ, cwd=tmp_path)
    assert log.read_text().endswith("\nfine\n")
    with pytest.raises(SparkmlError, match="the disk is full"):
        run(
            [sys.executable, "-c", "import sys; sys.exit('No space left on device')"],
            log=log,
            env=os.environ,
            cwd=tmp_path,
        )


def test_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SparkmlError, match="/no/such/program cannot be started: No such file"):
        run(["/no/such/program"], log=tmp_path / "log", env={}, cwd=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_program_dies_with_a_killed_set_up(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from sparkml.provision.commands import run
        run(["/bin/sh", "-c", "echo $$ > {child}.new; mv {child}.new {child}; exec sleep 60"],
            log=Path("{tmp_path}/log"), env=os.environ, cwd=Path("{tmp_path}"))
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])
    _wait(lambda: child.exists())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    pid = int(child.read_text())
    _wait(lambda: not _runs(pid))


def test_children_do_not_inherit_what_bends_an_installation() -> None:
    bending = {"MAKEFLAGS": "-s", "PYTHONPATH": "/x", "PIP_TARGET": "/y", "UV_REQUIRE_HASHES": "1"}
    kept = {"PATH": "/bin", "PIP_INDEX_URL": "https://a.example", "UV_TORCH_BACKEND": "cpu"}
    assert child_environment({**bending, **kept, "PIP_USER": "1"}) == {
        **kept,
        "PIP_USER": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
    }


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
