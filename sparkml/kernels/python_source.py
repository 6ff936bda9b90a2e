"""Where the docstrings of a Python source file lie, found in one pass over its bytes.

`ast.parse` makes an object of every expression (5 MB/s); documentation needs only definitions and the statement
after each header. This scanner knows what separates logical lines (strings, comments, brackets, line
continuations) and the indentation that nests definitions (Python reference, chapter 2), nothing of expressions.
Where it does not understand something (an open string or bracket, a header without its colon) it gives up, and the
real parser decides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparkml.kernels.compiled import kernel

MODULE, CLASS, FUNCTION = 0, 1, 2
_NL, _CR, _SPACE, _TAB, _FF = 10, 13, 32, 9, 12
_DOUBLE, _SINGLE, _HASH, _BACKSLASH = 34, 39, 35, 92
_OPEN, _CLOSE, _COLON, _SEMICOLON = 40, 41, 58, 59
_MOST_NESTED = 100  # CPython's own limit of indentation levels

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]


class Definition(NamedTuple):
    """A module, class or function: its parent's index (-1: none), line and name, its docstring's literal."""

    kind: int
    parent: int
    line: int
    name: str
    literal: str | None


def definitions(source: bytes) -> list[Definition] | None:
    """Every definition of a UTF-8 source with newlines `\\n`, the module first; None where this gives up.

    `literal` is the source of the statement that stands where a docstring would: it begins with a string or a
    bracket before one, and the caller evaluates it.
    """
    data = np.frombuffer(source, dtype=np.uint8)
    capacity = source.count(b"def") + source.count(b"class") + 1
    table = np.zeros((capacity, 7), dtype=np.int64)
    found = _scan(data, table, np.full((2, _MOST_NESTED + 1), -1, dtype=np.int64))
    if found < 0:
        return None
    return [_definition(source, row) for row in table[:found].tolist()]


def _definition(source: bytes, row: list[int]) -> Definition:
    kind, parent, line, name_start, name_stop, start, stop = row
    name = source[name_start:name_stop].decode()
    literal = source[start:stop].decode() if stop > start else None
    return Definition(kind, parent, line, name, literal)


@kernel
def _scan(data: U8, table: I64, nesting: I64) -> int:
    """Fill `table` with kind, parent, line, name start and stop, docstring start and stop; -1 to give up."""
    size = len(data)
    columns, owners = nesting[0], nesting[1]  # open definitions: how far they are indented, which they are
    owners[0] = 0  # the module
    top = 0
    found = 1
    line = 1
    waiting = 0  # the definition whose first statement comes next
    at = 0
    table[0, 1] = -1
    table[0, 2] = 1
    while at < size:
        at, column = _indentation(data, at)
        if at >= size:
            break
        if data[at] == _NL:
            at += 1
            line += 1
            continue
        if data[at] == _HASH:
            at = _line_end(data, at)
            continue
        while top > 0 and columns[top] >= column:
            top -= 1
        header, name_start = _header(data, at)
        capturing = -1
        if waiting >= 0 and header == MODULE and _begins_string(data, at):
            capturing = waiting
            table[capturing, 5] = at
        waiting = -1
        if header != MODULE:
            if top + 1 > _MOST_NESTED or found >= len(table):
                return -1
            top += 1
            columns[top] = column
            owners[top] = found
            at = _name_end(data, name_start)
            if at == name_start:
                return -1
            table[found, 0] = header
            table[found, 1] = owners[top - 1]
            table[found, 2] = line
            table[found, 3] = name_start
            table[found, 4] = at
            found += 1
        depth = 0
        in_header = header != MODULE
        while at < size:
            byte = data[at]
            if byte in (_DOUBLE, _SINGLE):
                after = _string_end(data, at)
                if after < 0:
                    return -1
                line += _newlines(data, at, after)
                at = after
                continue
            if byte == _HASH:
                if capturing >= 0 and depth == 0:
                    table[capturing, 6] = at
                    capturing = -1
                at = _line_end(data, at)
                continue
            if byte == _NL:
                if depth == 0:
                    break
                line += 1
            elif byte == _BACKSLASH:
                if at + 1 >= size or data[at + 1] != _NL:
                    return -1
                line += 1
                at += 1
            elif byte == _OPEN or byte == 91 or byte == 123:
                depth += 1
            elif byte == _CLOSE or byte == 93 or byte == 125:
                depth -= 1
                if depth < 0:
                    return -1
            elif depth == 0 and byte == _COLON and in_header:
                in_header = False
                waiting = found - 1
                body = _blanks_end(data, at + 1)
                if body < size and data[body] != _NL and data[body] != _HASH:
                    if _begins_string(data, body):  # a body on the header's own line
                        capturing = waiting
                        table[capturing, 5] = body
                    waiting = -1
            elif depth == 0 and byte == _SEMICOLON and capturing >= 0:
                table[capturing, 6] = at
                capturing = -1
            at += 1
        if depth != 0 or in_header:
            return -1
        if capturing >= 0:
            table[capturing, 6] = at
        at += 1
        line += 1
    return found


@kernel
def _indentation(data: U8, at: int) -> tuple[int, int]:
    """Past the white space at the start of a line; the column as CPython counts it."""
    column = 0
    while at < len(data):
        if data[at] == _SPACE:
            column += 1
        elif data[at] == _TAB:
            column = (column // 8 + 1) * 8
        elif data[at] == _FF:
            column = 0
        else:
            break
        at += 1
    return at, column


@kernel
def _line_end(data: U8, at: int) -> int:
    while at < len(data) and data[at] != _NL:
        at += 1
    return at


@kernel
def _blanks_end(data: U8, at: int) -> int:
    while at < len(data) and (data[at] == _SPACE or data[at] == _TAB or data[at] == _FF):
        at += 1
    return at


@kernel
def _newlines(data: U8, start: int, stop: int) -> int:
    count = 0
    for at in range(start, stop):
        if data[at] == _NL:
            count += 1
    return count


@kernel
def _is_name(byte: int) -> bool:
    """A letter, a digit, `_`, or a part of a code point beyond ASCII."""
    return 97 <= byte <= 122 or 65 <= byte <= 90 or 48 <= byte <= 57 or byte == 95 or byte >= 128


@kernel
def _name_end(data: U8, at: int) -> int:
    while at < len(data) and _is_name(data[at]):
        at += 1
    return at


@kernel
def _header(data: U8, at: int) -> tuple[int, int]:
    """Does a definition begin here? Its kind (MODULE: none does) and where its name begins."""
    end = _name_end(data, at)
    kind = _keyword(data, at, end)
    if kind == -1:  # async: only with def after it
        at = _blanks_end(data, end)
        end = _name_end(data, at)
        kind = _keyword(data, at, end)
        if kind != FUNCTION:
            return MODULE, 0
    if kind == MODULE:
        return MODULE, 0
    return kind, _blanks_end(data, end)


@kernel
def _keyword(data: U8, at: int, end: int) -> int:
    """CLASS, FUNCTION, -1 for `async`, MODULE for any other word."""
    if end - at == 3 and data[at] == 100 and data[at + 1] == 101 and data[at + 2] == 102:
        return FUNCTION
    if end - at != 5:
        return MODULE
    if data[at] == 99 and data[at + 1] == 108 and data[at + 2] == 97 and data[at + 3] == 115:
        return CLASS if data[at + 4] == 115 else MODULE
    if data[at] == 97 and data[at + 1] == 115 and data[at + 2] == 121 and data[at + 3] == 110:
        return -1 if data[at + 4] == 99 else MODULE
    return MODULE


@kernel
def _begins_string(data: U8, at: int) -> bool:
    """A string without prefix or with r or u (no bytes, no f-string), or a bracket before one."""
    while at < len(data) and data[at] == _OPEN:
        at += 1
        while at < len(data) and (data[at] == _NL or data[at] == _SPACE or data[at] == _TAB):
            at += 1
    if at < len(data) and (data[at] | 32 == 114 or data[at] | 32 == 117):
        at += 1
    return at < len(data) and (data[at] == _DOUBLE or data[at] == _SINGLE)


@kernel
def _string_end(data: U8, at: int) -> int:
    """Past the string that begins at `at`; -1 where it is open. A backslash guards a quote, raw or not."""
    quote = data[at]
    size = len(data)
    triple = at + 2 < size and data[at + 1] == quote and data[at + 2] == quote
    at += 3 if triple else 1
    while at < size:
        byte = data[at]
        if byte == _BACKSLASH:
            at += 2
            continue
        if byte == quote:
            if not triple:
                return at + 1
            if at + 2 < size and data[at + 1] == quote and data[at + 2] == quote:
                return at + 3
        elif byte == _NL and not triple:
            return -1
        at += 1
    return -1
