"""What a machine brings: programs that are missing or fail are told in one line; pip's configuration in uv's words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools.setup.machine import (
    SetupError,
    failure,
    find_java,
    index_choice,
    program_environment,
    require_build_tools,
    run,
)

SAID = [
    (
        "error: Failed to fetch: `https://r.example/uv/`\n  Caused by: dns error\n",
        "the registry cannot be reached",
    ),
    (
        "Retrying after 'NewConnectionError'\nERROR: No matching distribution found",
        "the registry cannot be reached",
    ),
    (" Server access error at url x (java.net.ConnectException)\n", "the registry cannot be reached"),
    ("  Hash mismatch for `x==1`\n Expected: sha256:a\n", "is not the file whose hash"),
    ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE FILE.", "is not the file whose hash"),
    ("error: Failed to fetch\n invalid peer certificate: UnknownIssuer", "certificate is not trusted"),
    ("Failed to fetch\n No space left on device (os error 28)\n", "the disk is full"),
    (
        "ERROR: No matching distribution found for horovod==0.28.1\n",
        "does not have what the project asks for",
    ),
    ("starting\nfile.cc:3: fatal error: no header\nmore\n", "file.cc:3: fatal error: no header"),
    ("error: Failed to build `x`\nModuleNotFoundError: No module named 'y'\nhint\n", "No module named 'y'"),
    ("", "it said nothing"),
]


@pytest.mark.parametrize(("said", "told"), SAID)
def test_a_failure_is_told_in_one_line(tmp_path: Path, said: str, told: str) -> None:
    log = tmp_path / "step.log"
    log.write_text("$ one\nerror: an older failure\n$ uv pip install\n" + said)
    line = failure(log)
    assert told in line
    assert str(log) in line
    assert "\n" not in line


def test_a_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_text("$ uv\nerror: Failed to fetch: `https://me:secret@r.example/simple/`\n")
    assert "https://r.example/simple/" in failure(log)
    assert "secret" not in failure(log)


def test_a_program_that_fails_leaves_its_words_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "step.log"
    run([sys.executable, "-c", "print('fine')"], log=log, env=os.environ, cwd=tmp_path)
    assert log.read_text().endswith("\nfine\n")
    full = [sys.executable, "-c", "import sys; sys.exit('No space left on device')"]
    with pytest.raises(SetupError, match="the disk is full; make room, then repeat"):
        run(full, log=log, env=os.environ, cwd=tmp_path)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ('openjdk version "1.8.0_392"', "Java is too old"),
        ('openjdk version "11.0.2"', "Java is too old"),
        ("", "too old"),
    ],
)
def test_old_java_is_refused(tmp_path: Path, version: str, told: str) -> None:
    program(tmp_path / "bin" / "java", f"echo '{version}' >&2")
    with pytest.raises(SetupError, match=told):
        find_java({"JAVA_HOME": str(tmp_path)})


def test_java_of_the_path_and_of_java_home(tmp_path: Path) -> None:
    java = program(tmp_path / "bin" / "java", """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    assert find_java({"PATH": str(tmp_path / "bin")}) == str(java)
    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": "/none"}) == str(java)
    for environ in ({"PATH": "/none"}, {"JAVA_HOME": "/none", "PATH": str(tmp_path / "bin")}):
        with pytest.raises(SetupError, match="Java is missing"):
            find_java(environ)


def test_a_compiler_that_is_missing_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("cmake", "clang++"):
        program(tmp_path / tool, "exit 0")
    with pytest.raises(SetupError, match=r"g\+\+ is missing.*Debian: g\+\+"):
        require_build_tools({"PATH": str(tmp_path)})
    with pytest.raises(SetupError, match=r"make is missing"):
        require_build_tools({"PATH": str(tmp_path), "CXX": "clang++ -O2"})
    program(tmp_path / "make", "exit 0")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": "/none"})
    with pytest.raises(SetupError, match=r"/none/Python\.h is missing.*Debian: python3\.\d+-dev"):
        require_build_tools({"PATH": str(tmp_path), "CXX": "clang++ -O2"})


def test_what_pip_was_told_becomes_what_uv_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "pip.conf"
    config.write_text(
        "[install]\nindex-url = https://mirror.example/simple\n[global]\nindex-url = https://other.example\n"
        "extra_index_url =\n    https://a.example/cpu\n    https://b.example\ntimeout = 60\nuser = true\n"
        f"find-links = {tmp_path} /no/such/folder\nproxy = http://proxy.example:3128\n"
    )
    told = program_environment(
        {"PIP_CONFIG_FILE": str(config), "PIP_TIMEOUT": "7", "PIP_CERT": "/etc/ca.pem"}
    )
    expected = {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example/cpu https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": str(tmp_path),
        "UV_HTTP_TIMEOUT": "7",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "PIP_USER": "0",
    }
    assert expected.items() <= told.items()


def test_a_folder_of_wheels_that_is_not_there_is_passed_over() -> None:
    told = program_environment({"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "/no/such/folder"})
    assert not [key for key in told if key.startswith("UV_")]


@pytest.mark.parametrize("own", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS", "uv.toml"])
def test_indexes_told_to_uv_itself_go_before(tmp_path: Path, own: str) -> None:
    environ = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_EXTRA_INDEX_URL": "https://pip.example",
        "PIP_TIMEOUT": "9",
    }
    if own == "uv.toml":
        (tmp_path / "uv.toml").write_text('[[index]]\nurl = "https://mine.example"\n')
        environ["UV_CONFIG_FILE"] = str(tmp_path / "uv.toml")
    else:
        environ[own] = "https://mine.example"
    told = program_environment(environ)
    assert "UV_INDEX" not in told
    assert told["UV_HTTP_TIMEOUT"] == "9"


def test_a_build_of_torch_named_to_uv_leaves_pips_mirror() -> None:
    environ = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://mirror.example",
        "UV_TORCH_BACKEND": "cpu",
    }
    assert program_environment(environ)["UV_DEFAULT_INDEX"] == "https://mirror.example"


def test_the_users_own_proxy_and_certificate_stay() -> None:
    environ = {"PIP_CONFIG_FILE": os.devnull, "PIP_PROXY": "http://q:2", "https_proxy": "http://p:1"}
    told = program_environment({**environ, "PIP_CERT": "/pip.pem", "SSL_CERT_FILE": "/my.pem"})
    assert (told["https_proxy"], told["SSL_CERT_FILE"]) == ("http://p:1", "/my.pem")
    assert "HTTPS_PROXY" not in told


def test_programs_do_not_inherit_what_bends_an_installation() -> None:
    bending = {
        "MAKEFLAGS": "-s",
        "PYTHONPATH": "/x",
        "PIP_TARGET": "/y",
        "UV_REQUIRE_HASHES": "1",
        "VIRTUAL_ENV": "/z",
    }
    told = program_environment({**bending, "PIP_CONFIG_FILE": os.devnull, "PATH": "/bin"})
    assert not bending.keys() & told.keys()
    assert told["PATH"] == "/bin"


def test_only_what_chooses_a_torch_is_a_choice(tmp_path: Path) -> None:
    config = tmp_path / "uv.toml"
    choices = [
        {"UV_INDEX": "https://a.example/cpu"},
        {"UV_TORCH_BACKEND": "cpu"},
        {"UV_FIND_LINKS": "/wheels"},
    ]
    plain = index_choice({"PATH": "/bin", "UV_HTTP_TIMEOUT": "9", "UV_CONFIG_FILE": str(config)})
    seen = {plain, *(index_choice(choice) for choice in choices)}
    config.write_text('torch-backend = "cpu"')
    seen.add(index_choice({"UV_CONFIG_FILE": str(config)}))
    assert len(seen) == 5


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
