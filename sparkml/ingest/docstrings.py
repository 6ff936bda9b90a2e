"""The docstrings of a Python source file, parsed with `ast`; nothing is ever imported."""

from __future__ import annotations

import ast
import gc
import inspect
import warnings
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from sparkml.ingest.records import Defect, Record, Split, printable, too_large

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_KINDS = {ast.FunctionDef: "function", ast.AsyncFunctionDef: "function", ast.ClassDef: "class"}
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def read_docstrings(source: bytes, split: Split, limit: int, text_field: str) -> Iterator[Record | Defect]:
    """One record for every docstring of a source file; the locator is its qualified name and line.

    The text is what `help()` shows: the docstring without the indentation of the code around it.
    """
    if len(source) > limit:
        yield too_large(0, "file", len(source), limit)
        return
    if b'"' not in source and b"'" not in source:
        return
    tree = _parse(source)
    if isinstance(tree, Defect):
        yield tree
        return
    name = module_name(split.relative)
    for position, (kind, qualified, line, docstring) in enumerate(_documented(tree, name)):
        fields: dict[str, Any] = {"title": qualified, "kind": kind, "version": split.version}
        fields[text_field] = inspect.cleandoc(docstring)
        raw = docstring.encode("utf-8", "surrogatepass")
        yield Record(position, f"{qualified}:{line}", fields, raw)


def module_name(relative: str) -> str:
    """`site-packages/json/decoder.py` -> `json.decoder`."""
    parts = list(PurePosixPath(relative).with_suffix("").parts[1:])
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def _parse(source: bytes) -> ast.Module | Defect:
    # The tree is a million small objects without cycles: the collector would walk it again and again in vain.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are their authors' business
            return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        reason = "undecodable_python" if _is_encoding_fault(error) else "python_syntax_error"
        return Defect(0, "file", reason, printable(str(error)))
    except (RecursionError, MemoryError) as error:
        return Defect(0, "file", "python_too_deep", printable(str(error)))
    finally:
        if collecting:
            gc.enable()


def _is_encoding_fault(error: Exception) -> bool:
    text = str(error)
    return "codec can't decode" in text or "encoding problem" in text or "unknown encoding" in text


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[str, str, int, str]]:
    """Kind, qualified name, line and docstring of everything that has one, in the order of the source."""
    docstring = _docstring(tree)
    if docstring is not None:
        yield "module", module, 1, docstring
    stack: list[tuple[Any, str]] = [(node, module) for node in reversed(tree.body)]
    while stack:
        node, scope = stack.pop()
        kind = _KINDS.get(type(node))
        if kind is not None:
            scope = f"{scope}.{node.name}"
            docstring = _docstring(node)
            if docstring is not None:
                yield kind, scope, node.lineno, docstring
        for block in _BLOCKS:
            inner = getattr(node, block, None)
            if type(inner) is list:  # a lambda's body is an expression
                stack.extend((child, scope) for child in reversed(inner))


def _docstring(node: ast.Module | _Definition) -> str | None:
    """The docstring where there is one that holds more than white space."""
    docstring = ast.get_docstring(node, clean=False)
    return docstring if docstring and not docstring.isspace() else None
