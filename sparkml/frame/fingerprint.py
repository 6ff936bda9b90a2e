"""What decides a stage's result besides its inputs: the code that it imports, and the packages that this code uses.

The code is read, not run: every `import` of a `sparkml` module, also one inside a function, leads to another file, and
all of them are hashed. Imports for type checkers alone are left out. A module that loads others by their names says so:
`LOADED_BY_NAME = ("sparkml.tasks.*",)`, every module of that package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_ROOT = "sparkml"
_BY_NAME = "LOADED_BY_NAME"
_SHOWN = "sparkml.report."  # how results are shown does not change them
# Names under which a distribution is imported, where they differ from its own.
_DISTRIBUTIONS = {"yaml": "pyyaml", "delta": "delta-spark", "google": "protobuf"}


@dataclass(frozen=True)
class Code:
    """The modules that a module reaches, with a hash of their sources, and the top-level packages that they import."""

    modules: tuple[str, ...]
    digest: str
    packages: tuple[str, ...]


def digest(value: object) -> str:
    """A stable hash of a JSON value: 16 lower-case hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=64)
def code_of(module: str) -> Code:
    """The import closure of a module within `sparkml` (and of the module's own package, for a stage from elsewhere)."""
    found: dict[str, str] = {}
    outside: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        file = _file(name)
        if file is None:  # a function or class, imported by its name
            continue
        found[name] = file.digest
        queue.extend(name.rpartition(".")[:1] if "." in name else ())
        for imported in file.imports:
            if f"{imported}.".startswith(_SHOWN):
                continue
            if imported.split(".")[0] in (_ROOT, module.split(".")[0]):
                queue.append(imported)
            else:
                outside.add(imported.split(".")[0])
    packages = sorted(name for name in outside if name not in sys.stdlib_module_names)
    return Code(tuple(sorted(found)), digest(found), tuple(packages))


@dataclass(frozen=True)
class _File:
    digest: str
    imports: tuple[str, ...]


@lru_cache(maxsize=1024)
def _file(module: str) -> _File | None:
    spec = _spec(module)
    source = spec.loader.get_source(module) if spec and isinstance(spec.loader, InspectLoader) else None
    if source is None:
        return None
    return _File(hashlib.sha256(source.encode()).hexdigest(), tuple(_imports(ast.parse(source), module)))


def _spec(module: str) -> ModuleSpec | None:
    """Where a module lies; nothing is imported for it (`importlib.util.find_spec` would import its parents)."""
    path: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        loaded = sys.modules.get(name)
        path = list(getattr(loaded, "__path__", None) or spec.submodule_search_locations or ())
    return spec


def _imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Every module that is imported or loaded by its name, and every name that might be one."""
    for node in _walk(tree):
        if isinstance(node, ast.Assign) and any(ast.unparse(name) == _BY_NAME for name in node.targets):
            for pattern in ast.literal_eval(node.value):
                yield from _modules_of(pattern.removesuffix(".*"))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _modules_of(package: str) -> Iterator[str]:
    spec = _spec(package)
    for module in pkgutil.iter_modules(list(spec.submodule_search_locations or ()) if spec else ()):
        yield f"{package}.{module.name}"


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _walk(node)


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of packages, of Python, and of its Unicode tables."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "unicode": unicodedata.unidata_version}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(_DISTRIBUTIONS.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the checkout that runs; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    shown = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    )
    return shown.stdout.strip() or None
