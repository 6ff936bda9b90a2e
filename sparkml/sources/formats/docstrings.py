"""The docstrings of a Python source file; nothing is ever imported.

A scanner finds where docstrings are, `ast` reads their literals: what `ast` alone would give, at twenty times its
speed. Where the scanner gives up, `ast` parses the whole file and says what is wrong with it. A file for another
version of Python keeps its documents where the scanner can recognise its definitions.
"""

from __future__ import annotations

import ast
import codecs
import gc
import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from sparkml.kernels.python_source import CLASS, MODULE, definitions
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, printable, too_large

_KINDS = {ast.FunctionDef: "function", ast.AsyncFunctionDef: "function", ast.ClassDef: "class"}
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_OTHER_ENCODING = re.compile(rb"^[ \t\f]*#.*?coding[:=](?![ \t]*(?:utf-?8)\b)", re.MULTILINE | re.IGNORECASE)


class Docstring(NamedTuple):
    """A docstring as its literal evaluates, with the qualified name and the line of what it documents."""

    kind: str
    name: str
    line: int
    text: str


class UnparsableError(Exception):
    """A file that this interpreter's version of Python cannot parse."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_docstrings(opened: OpenSplit) -> Iterator[Record | Defect]:
    """One record for every docstring of a source file; the locator is its qualified name and line.

    The text is what `help()` shows: the docstring without the indentation of the code around it.
    """
    split, limit = opened.split, opened.options.max_record_bytes
    source = opened.file.read(limit + 1)
    if len(source) > limit:
        yield too_large(0, "file", None, limit)
        return
    try:
        found = docstrings(source, module_name(split.relative))
    except UnparsableError as error:
        yield Defect(0, "file", error.reason, printable(str(error)))
        return
    for position, docstring in enumerate(found):
        fields: dict[str, Any] = {"title": docstring.name, "kind": docstring.kind, "version": split.version}
        fields[opened.options.text_field] = inspect.cleandoc(docstring.text)
        raw = docstring.text.encode("utf-8", "surrogatepass")
        yield Record(position, f"{docstring.name}:{docstring.line}", fields, raw)


def docstrings(source: bytes, module: str) -> list[Docstring]:
    """Every docstring that holds more than white space, in the order of the source; UnparsableError."""
    if b'"' not in source and b"'" not in source:
        return []
    found = scanned_docstrings(source, module)
    return parsed_docstrings(source, module) if found is None else found


def scanned_docstrings(source: bytes, module: str) -> list[Docstring] | None:
    """Docstrings by the scanner; None where it gives up."""
    source = source.removeprefix(codecs.BOM_UTF8)
    head = b"\n".join(source[:500].splitlines()[:2])  # where an encoding may be declared
    if b"\0" in source or _OTHER_ENCODING.search(head):
        return None
    if b"\r" in source:
        source = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        source.decode()
    except UnicodeDecodeError:
        return None
    places = definitions(source)
    if places is None:
        return None
    found, names = [], list[str]()
    try:
        for place in places:
            names.append(f"{names[place.parent]}.{place.name}" if place.parent >= 0 else module)
            text = _literal(place.literal) if place.literal is not None else None
            if text and not text.isspace():
                kind = "module" if place.kind == MODULE else "class" if place.kind == CLASS else "function"
                found.append(Docstring(kind, names[-1], place.line, text))
    except UnparsableError:
        return None
    return found


def parsed_docstrings(source: bytes, module: str) -> list[Docstring]:
    """Docstrings by `ast`: slow and exact; UnparsableError."""
    tree = _parse(source, "exec")
    found = []
    stack: list[tuple[Any, str]] = [(tree, module)]
    while stack:
        node, scope = stack.pop()
        kind = _KINDS.get(type(node), "module" if node is tree else None)
        if kind is not None:
            scope = scope if node is tree else f"{scope}.{node.name}"
            text = ast.get_docstring(node, clean=False)
            if text and not text.isspace():
                found.append(Docstring(kind, scope, 1 if node is tree else node.lineno, text))
        for block in reversed(_BLOCKS):
            inner = getattr(node, block, None)
            if type(inner) is list:  # a lambda's body is an expression
                stack.extend((child, scope) for child in reversed(inner))
    return sorted(found, key=lambda docstring: docstring.line)  # `else` comes before `except` in the tree


def module_name(relative: str) -> str:
    """`site-packages/json/decoder.py` -> `json.decoder`."""
    parts = list(PurePosixPath(relative).with_suffix("").parts[1:])
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def _literal(statement: str) -> str | None:
    """The text of a statement that is a string and nothing else; None for any other statement."""
    quotes = statement[:3]
    plain = quotes in ('"""', "'''") and len(statement) >= 6 and "\\" not in statement
    if plain and statement.find(quotes, 3) == len(statement.rstrip()) - 3:
        return statement[3 : statement.rindex(quotes)]
    node = _parse(statement.strip().encode(), "eval").body
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _parse(source: bytes, mode: str) -> Any:
    # The tree is a million small objects without cycles: the collector would walk it again and again for nothing.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are for their authors to fix
            return ast.parse(source, mode=mode)
    except (SyntaxError, ValueError) as error:
        reason = "undecodable_python" if _is_encoding_fault(error) else "python_syntax_error"
        raise UnparsableError(reason, str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise UnparsableError("python_too_deep", str(error)) from error
    finally:
        if collecting:
            gc.enable()


def _is_encoding_fault(error: Exception) -> bool:
    text = str(error)
    return "codec can't decode" in text or "encoding problem" in text or "unknown encoding" in text
