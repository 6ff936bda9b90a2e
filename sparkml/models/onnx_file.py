"""What an ONNX file says of itself, read without the package onnx: names of inputs and outputs, files beside it.

An ONNX file is a protobuf message. Only its tags and lengths are walked over; weights are passed by, never copied.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sparkml.errors import InputError

# Of each message of onnx.proto the fields to look into, and what lies there. `TensorProto.external_data` (13) are pairs
# of strings, one of which may name a file; tensors stand in graphs, in their nodes and in functions.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "main", 20: "training", 25: "function"},
    "main": {1: "node", 5: "tensor", 11: "input", 12: "output", 15: "sparse"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "pair"},
    "input": {},
    "output": {},
    "pair": {},
}
_NAME, _VALUE = 1, 2  # of an input or output, and of a pair
_LOCATION = b"location"
_FIXED = {1: 8, 5: 4}  # bytes of a value, by the kind of a field
_DEEPEST = 64  # graphs within graphs, far more than there are


@dataclass
class OnnxFacts:
    """Names of inputs and outputs, in order; where weights lie that are not in the file."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    locations: set[str] = field(default_factory=set)


def read_onnx(file: Path) -> OnnxFacts:
    """What the file says; InputError where it is no ONNX file."""
    facts = OnnxFacts()
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _walk(data, 0, len(data), "model", facts, 0)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            "not an ONNX file",
            where=str(file),
            got=f"{type(error).__name__}: {error}",
            next_action="write the model again by the step that made it",
        ) from error
    return facts


def check_onnx(file: Path) -> OnnxFacts:
    """As `read_onnx`; InputError also where weights lie outside the file's directory, or are not there."""
    facts = read_onnx(file)
    folder = file.parent.resolve()
    for name in sorted(facts.locations):
        path = PurePosixPath(name)
        # A name with `*` is no file to ONNX Runtime but an address in memory.
        is_plain = name and not path.is_absolute() and ".." not in path.parts and not {"\\", "*"} & set(name)
        if not is_plain or not (folder / path).resolve().is_relative_to(folder):
            raise InputError(
                "an ONNX file may only read weights of its own directory",
                where=str(file),
                got=repr(name),
                expected=f"a file in {folder}",
            )
        if not (folder / path).is_file():
            raise InputError("weights of an ONNX file are missing", where=str(file), got=f"no {name}")
    return facts


def _walk(data: mmap.mmap, at: int, end: int, kind: str, facts: OnnxFacts, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs without end")
    strings: dict[int, bytes] = {}
    for number, start, stop in _fields(data, at, end):
        inner = _INSIDE[kind].get(number)
        if inner is not None:
            _walk(data, start, stop, inner, facts, depth + 1)
        elif not _INSIDE[kind] and number in (_NAME, _VALUE):
            strings[number] = data[start:stop]
    if kind == "input":
        facts.inputs.append(strings.get(_NAME, b"").decode())
    elif kind == "output":
        facts.outputs.append(strings.get(_NAME, b"").decode())
    elif kind == "pair" and strings.get(_NAME) == _LOCATION:
        facts.locations.add(strings.get(_VALUE, b"").decode())


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number of each field that has a length, and where its bytes begin and end."""
    while at < end:
        tag, at = _number(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _number(data, at)
        elif kind == 2:
            length, at = _number(data, at)
            if at + length > end:
                raise ValueError(f"cut off at byte {at}")
            yield tag >> 3, at, at + length
            at += length
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"field of unknown kind {kind} at byte {at}")
    if at != end:
        raise ValueError(f"cut off at byte {at}")


def _number(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A protobuf varint, and where the next byte is."""
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
        shift += 7
        if shift > 63:
            raise ValueError(f"no number at byte {at}")
