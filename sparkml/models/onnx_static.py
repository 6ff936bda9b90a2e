"""An ONNX file in static int8 by ONNX Runtime's own quantiser: one scale a tensor, calibrated on real inputs.

Fixed scales: a row's answer depends on the row alone. Weights have one scale an output channel.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sparkml.models.folder import ONNX_FILE
from sparkml.models.onnx_export import without_remarks

_PRODUCTS = ("MatMul", "Gemm", "Conv")


def quantise_static(folder: Path, batches: Sequence[Mapping[str, Tensor]], *, every_operator: bool) -> None:
    """Put the int8 form in the place of `folder/model.onnx`: products alone, or all operators that there are in int8.

    `batches` are inputs by name; the scales are those of the least and greatest values seen.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped
        """The batches, once."""

        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            """The next batch; None after the last."""
            inputs = next(self._left, None)
            return None if inputs is None else {name: tensor.numpy() for name, tensor in inputs.items()}

    with tempfile.TemporaryDirectory(dir=folder.parent) as name, without_remarks(""):
        made = Path(name, "made")
        made.mkdir()
        quantization.quantize_static(
            str(folder / ONNX_FILE),
            str(made / ONNX_FILE),
            Reader(),
            op_types_to_quantize=None if every_operator else list(_PRODUCTS),
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"ActivationSymmetric": not every_operator, "WeightSymmetric": True},
        )
        shutil.rmtree(folder)
        shutil.move(made, folder)
