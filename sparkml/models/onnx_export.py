"""A network as an ONNX file by torch's exporter, for any number of rows and tokens, checked on real rows."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparkml.errors import ConfigError, InputError
from sparkml.models.engines.onnx import OUTPUT, OnnxNetwork, new_session
from sparkml.models.folder import ONNX_FILE
from sparkml.models.linear import use_torch

Inputs = Mapping[str, Tensor]
_NEEDS = ("onnx", "onnxscript")
_ROWS = 2  # of the batch that is traced: of one row the tracer would take the number for fixed


class _Logits(nn.Module):
    """A network as the tracer wants it: tensors in their order in, one tensor out."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: Tensor) -> Tensor:
        """`logits` in float32."""
        logits: Tensor = self.network(**dict(zip(self.names, tensors, strict=True))).logits
        return logits.float()


def require_onnx() -> None:
    """ConfigError that says what to install where a package is missing that writes ONNX files."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            "a package that writes ONNX files is missing",
            got=f"no {', '.join(missing)}",
            next_action="pip install 'sparkml[onnx]'",
        )


def export_onnx(network: nn.Module, batches: Sequence[Inputs], folder: Path, *, tolerance: float) -> float:
    """Write `network`, in eval mode, as `folder/model.onnx`, its weights beside it; returns the largest difference.

    `batches` are real inputs: the first is traced, on all of them outputs may differ by `tolerance` at most. InputError
    where they differ by more, or where the network cannot be traced: then nothing is written.
    """
    require_onnx()
    plain = use_torch(network).eval()
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        file = Path(name, ONNX_FILE)
        try:
            with without_remarks("torch.onnx"):
                _export(plain, batches[0], file)
        except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                "the network cannot be written as ONNX",
                got=f"{type(plain).__name__}: {str(error.__cause__ or error).strip().splitlines()[0]}",
                next_action="take another method for this architecture",
            ) from error
        most = _largest_difference(plain, OnnxNetwork(new_session(file), file), batches)
        if not most <= tolerance:  # nor where it is not a number
            raise InputError(
                "the ONNX network answers otherwise than the one it was made of",
                got=f"outputs that differ by {most:.2g}",
                expected=f"{tolerance:.2g} at most",
                next_action="raise the method's tolerance, or take another method for this architecture",
            )
        folder.mkdir()
        for written in Path(name).iterdir():
            shutil.move(written, folder / written.name)
    return most


def _export(network: nn.Module, inputs: Inputs, file: Path) -> None:
    tensors = tuple(_two_rows(tensor) for tensor in inputs.values())
    # Every axis may vary as far as the network lets it: which do is found out by tracing.
    free = tuple(dict.fromkeys(range(tensor.ndim), torch.export.Dim.AUTO) for tensor in tensors)
    program = torch.onnx.export(
        _Logits(network, list(inputs)).eval(),
        tensors,
        dynamic_shapes=(free,),
        input_names=list(inputs),
        output_names=[OUTPUT],
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter gave nothing")
    _drop_notes(program.model)
    # Weights in a file of their own are mapped into memory, by all processes of a machine together.
    program.save(str(file), external_data=True)


def _drop_notes(model: Any) -> None:
    """Without what the exporter notes at each operator: stack traces of this machine, ten times the graph's bytes."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _two_rows(tensor: Tensor) -> Tensor:
    return tensor[:_ROWS] if len(tensor) >= _ROWS else tensor.repeat(_ROWS, *[1] * (tensor.ndim - 1))


def _largest_difference(network: nn.Module, other: Any, batches: Sequence[Inputs]) -> float:
    """Over all batches and over a single row, whose shape differs from theirs."""
    single = {name: tensor[:1] for name, tensor in batches[-1].items()}
    most = torch.zeros(())
    with torch.inference_mode():
        for inputs in (*batches, single):
            off = (network(**inputs).logits.float() - other(**inputs).logits).abs().amax()
            most = torch.maximum(most, off)  # keeps what is not a number
    return float(most)


@contextlib.contextmanager
def without_remarks(logger: str) -> Iterator[None]:
    """Without what a library says of its own work: warnings, and what comes through the logger of that name."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
