"""The user's own registry configuration: what pip was told, in uv's words.

uv does not read pip's configuration. Whoever set up a mirror, a proxy's certificate, or an index with a CPU
build of torch for pip means it for this project too; what is said to uv itself (UV_* or uv.toml) goes before.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

UV_INDEX_KEYS = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
)
_UV_TOML_INDEX = re.compile(
    r"^\s*(\[\[(pip\.)?index\]\]|(index|index-url|extra-index-url|find-links|no-index)\s*=)", re.MULTILINE
)
_TRUE = {"1", "true", "yes", "on", "y", "t"}


def parse_pip_config(text: str) -> dict[str, str]:
    """The settings of `pip install` in what `pip config list` prints: environment, [install], [global]."""
    layers: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if equals and section in layers:
            layers[section][name.strip().replace("_", "-")] = _literal(value)
    return {**layers["global"], **layers["install"], **layers[":env:"]}


def uv_environment(pip: Mapping[str, str], environ: Mapping[str, str], uv_toml: str = "") -> dict[str, str]:
    """The variables that tell uv what pip was told, as far as uv was not told otherwise."""
    told = {
        "SSL_CERT_FILE": pip.get("cert", ""),
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
        "UV_INSECURE_HOST": _words(pip.get("trusted-host", "")),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
        "HTTPS_PROXY": pip.get("proxy", ""),
        "HTTP_PROXY": pip.get("proxy", ""),
        "UV_KEYRING_PROVIDER": "subprocess" if pip.get("keyring-provider") == "subprocess" else "",
    }
    if not any(environ.get(key) for key in UV_INDEX_KEYS) and not _UV_TOML_INDEX.search(uv_toml):
        told.update(_index_settings(pip))
    return {key: value for key, value in told.items() if value and not _is_told(key, environ)}


def _index_settings(pip: Mapping[str, str]) -> dict[str, str]:
    links = [
        link
        for link in pip.get("find-links", "").split()
        if "://" in link or Path(link).expanduser().exists()
    ]
    settings = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": _words(pip.get("extra-index-url", "")),
        # pip passes over a folder that is not there, uv stops at it.
        "UV_FIND_LINKS": ",".join(link if "://" in link else str(Path(link).expanduser()) for link in links),
        "UV_NO_INDEX": "true" if pip.get("no-index", "").lower() in _TRUE else "",
    }
    if settings["UV_INDEX"] or settings["UV_FIND_LINKS"]:
        # pip takes the best version of all its indexes; uv by itself stops at the first that has the name.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return settings


def read_uv_toml(environ: Mapping[str, str]) -> str:
    """uv's configuration files of the user and of the machine, one after the other."""
    if environ.get("UV_NO_CONFIG"):
        return ""
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    paths = [environ.get("UV_CONFIG_FILE", ""), os.path.join(config, "uv", "uv.toml"), "/etc/uv/uv.toml"]
    return "\n".join(
        Path(path).read_text(errors="replace") for path in paths if path and os.path.isfile(path)
    )


def torch_configuration(told: Mapping[str, str], environ: Mapping[str, str], uv_toml: str) -> str:
    """A fingerprint of all that decides which torch a machine gets (hashed: addresses carry passwords)."""
    keys = (*UV_INDEX_KEYS, "UV_INDEX_STRATEGY", "UV_TORCH_BACKEND")
    parts = [f"{key}={environ.get(key) or told.get(key, '')}" for key in keys]
    return hashlib.sha256("\n".join([*parts, uv_toml]).encode()).hexdigest()[:16]


def java_proxy(environ: Mapping[str, str]) -> list[str]:
    """Java's options for the proxy that HTTPS_PROXY and NO_PROXY name: Java does not read those."""
    options = []
    for scheme in ("https", "http"):
        address = environ.get(f"{scheme}_proxy") or environ.get(f"{scheme.upper()}_PROXY") or ""
        found = re.match(r"(?:\w+://)?(?:[^@/]*@)?([^:/]+)(?::(\d+))?", address)
        if found:
            options.append(f"-D{scheme}.proxyHost={found[1]}")
            options.append(f"-D{scheme}.proxyPort={found[2] or '80'}")
    without = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if options and without:
        hosts = [
            f"*{host}" if host.startswith(".") else host for host in re.split(r"[,\s]+", without) if host
        ]
        options.append("-Dhttp.nonProxyHosts=" + "|".join(hosts))
    return options


def _is_told(key: str, environ: Mapping[str, str]) -> bool:
    names = (key, key.lower(), "ALL_PROXY", "all_proxy") if key.endswith("_PROXY") else (key,)
    return any(environ.get(name) for name in names)


def _words(value: str) -> str:
    return " ".join(value.split())


def _literal(value: str) -> str:
    try:
        return str(ast.literal_eval(value.strip()))
    except (SyntaxError, ValueError):
        return value.strip()
