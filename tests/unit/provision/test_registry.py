"""pip's configuration in uv's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkml.provision.registry import java_proxy, parse_pip_config, torch_configuration, uv_environment


def test_environment_beats_install_beats_global() -> None:
    listing = """\
:env:.timeout='7'
global.cert='/etc/ca.pem'
global.index-url='https://global.example/simple'
global.timeout='60'
install.index-url='https://install.example/simple'
download.index-url='https://other.example/simple'
"""
    assert parse_pip_config(listing) == {
        "cert": "/etc/ca.pem",
        "index-url": "https://install.example/simple",
        "timeout": "7",
    }


def test_names_with_underscores_and_many_values() -> None:
    listing = "global.extra_index_url='\\nhttps://a.example/cpu\\nhttps://b.example/simple'\n"
    assert parse_pip_config(listing) == {
        "extra-index-url": "\nhttps://a.example/cpu\nhttps://b.example/simple"
    }


def test_what_pip_was_told_becomes_what_uv_reads(tmp_path: Path) -> None:
    pip = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "\nhttps://a.example/cpu\nhttps://b.example/simple",
        "find-links": f"{tmp_path} https://wheels.example/torch.html",
        "cert": "/etc/ca.pem",
        "trusted-host": "a.example b.example",
        "default-timeout": "180",
        "proxy": "http://proxy.example:3128",
    }
    assert uv_environment(pip, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example/cpu https://b.example/simple",
        "UV_FIND_LINKS": f"{tmp_path},https://wheels.example/torch.html",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INSECURE_HOST": "a.example b.example",
        "UV_HTTP_TIMEOUT": "180",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "HTTP_PROXY": "http://proxy.example:3128",
    }


def test_nothing_told_nothing_said() -> None:
    assert uv_environment({}, {}) == {}


def test_folder_of_wheels_that_is_not_there_is_passed_over() -> None:
    assert uv_environment({"find-links": "/no/such/folder"}, {}) == {}


def test_no_index_keeps_the_folder_alone(tmp_path: Path) -> None:
    told = uv_environment({"find-links": str(tmp_path), "no-index": "true"}, {})
    assert (told["UV_NO_INDEX"], told["UV_FIND_LINKS"]) == ("true", str(tmp_path))


@pytest.mark.parametrize(
    ("environ", "uv_toml"),
    [
        ({"UV_DEFAULT_INDEX": "https://mine.example/simple"}, ""),
        ({"UV_INDEX_URL": "https://mine.example/simple"}, ""),
        ({}, '[[index]]\nurl = "https://mine.example/simple"\n'),
        ({}, '[pip]\nextra-index-url = ["https://mine.example/simple"]\n'),
    ],
)
def test_indexes_told_to_uv_itself_go_before(environ: dict[str, str], uv_toml: str) -> None:
    pip = {"index-url": "https://pip.example/simple", "cert": "/etc/ca.pem"}
    assert uv_environment(pip, environ, uv_toml) == {"SSL_CERT_FILE": "/etc/ca.pem"}


def test_uv_toml_without_indexes_leaves_pips() -> None:
    told = uv_environment({"index-url": "https://pip.example/simple"}, {}, "native-tls = true\n")
    assert told == {"UV_DEFAULT_INDEX": "https://pip.example/simple"}


def test_what_the_environment_says_already_stays() -> None:
    environ = {"SSL_CERT_FILE": "/my.pem", "https_proxy": "http://p:1", "UV_INDEX_STRATEGY": "first-index"}
    pip = {"cert": "/etc/ca.pem", "proxy": "http://q:2", "extra-index-url": "https://a.example"}
    assert uv_environment(pip, environ) == {"UV_INDEX": "https://a.example", "HTTP_PROXY": "http://q:2"}


def test_only_what_chooses_a_torch_changes_its_fingerprint() -> None:
    plain = torch_configuration({}, {}, "")
    assert torch_configuration({"SSL_CERT_FILE": "/x"}, {"PATH": "/y"}, "") == plain
    others = [
        torch_configuration({"UV_INDEX": "https://a.example/cpu"}, {}, ""),
        torch_configuration({}, {"UV_TORCH_BACKEND": "cpu"}, ""),
        torch_configuration({}, {"UV_FIND_LINKS": "/wheels"}, ""),
        torch_configuration({}, {}, 'torch-backend = "cpu"'),
    ]
    assert len({plain, *others}) == 5


def test_fingerprint_does_not_show_a_password() -> None:
    shown = torch_configuration({"UV_DEFAULT_INDEX": "https://me:secret@a.example/simple"}, {}, "")
    assert "secret" not in shown


def test_java_gets_the_proxy_and_its_exceptions() -> None:
    environ = {"HTTPS_PROXY": "http://me:secret@proxy.example:3128", "NO_PROXY": "localhost,.example.test"}
    assert java_proxy(environ) == [
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.nonProxyHosts=localhost|*.example.test",
    ]
    assert java_proxy({}) == []
