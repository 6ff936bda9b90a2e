"""Real documents for benchmarks: docstrings of the packages that are installed anyway."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

PACKAGES = ("transformers", "torch", "sympy", "scipy", "pyspark", "pandas")


def docstrings_of_packages(limit_bytes: int, min_words: int = 50) -> list[str]:
    """Different docstrings of at least `min_words` words, in a fixed order, up to `limit_bytes` in all."""
    texts: dict[str, None] = {}
    size = 0
    for _, text in _docstrings():
        if len(text.split()) >= min_words and text not in texts:
            texts[text] = None
            size += len(text.encode())
            if size >= limit_bytes:
                break
    return list(texts)


def labelled_docstrings(rows: int, min_words: int = 20) -> list[tuple[str, str]]:
    """So many different docstrings of at least `min_words` words with the package that each is of, as evenly as may be.

    In a fixed order, one package after the other in turn, so that every part of them has all packages.
    """
    found: dict[str, dict[str, None]] = {package: {} for package in PACKAGES}
    for package, text in _docstrings():
        mine, words = found[package], text.split()
        if len(words) >= min_words and len(mine) < 2 * rows // len(PACKAGES):
            mine[" ".join(words)] = None
    turns = zip_longest(*([(text, package) for text in texts] for package, texts in found.items()))
    return [row for turn in turns for row in turn if row is not None][:rows]


def _docstrings() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_path("purelib"))
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            try:
                tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    text = ast.get_docstring(node)
                    if text:
                        yield package, text.encode("utf-8", "replace").decode()
