"""Real documents for benchmarks: docstrings of the packages that are installed anyway."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("transformers", "torch", "sympy", "scipy", "pyspark", "pandas")


def docstrings_of_packages(limit_bytes: int, min_words: int = 50) -> list[str]:
    """Different docstrings of at least `min_words` words, in a fixed order, up to `limit_bytes` in all."""
    texts: dict[str, None] = {}
    size = 0
    for text in _docstrings():
        if len(text.split()) >= min_words and text not in texts:
            texts[text] = None
            size += len(text.encode())
            if size >= limit_bytes:
                break
    return list(texts)


def _docstrings() -> Iterator[str]:
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
                        yield text.encode("utf-8", "replace").decode()
