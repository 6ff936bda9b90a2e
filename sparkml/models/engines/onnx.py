"""Networks as ONNX files, by ONNX Runtime: any architecture that could be exported, without transformers.

A row's answer depends on the row alone, up to 1e-5 as under the other engines. A file that quantises activations as
they come (`DynamicQuantizeLinear`: one scale a batch) would break that: it runs here, but no method writes such a file.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sparkml.errors import InputError
from sparkml.models.engines import Engine
from sparkml.models.folder import ONNX_FILE, ONNX_FOLDER
from sparkml.models.networks import NetworkSpec

OUTPUT = "logits"


class OnnxNetwork:
    """Called as a network of transformers is: tensors by name in, `logits` float32 out."""

    def __init__(self, session: Any, where: Path) -> None:
        self._session, self._where = session, where
        self._names = [one.name for one in session.get_inputs()]

    def __call__(self, **inputs: Any) -> SimpleNamespace:
        """InputError where the file wants an input that the task does not make."""
        import torch

        missing = [name for name in self._names if name not in inputs]
        if missing:
            raise InputError(
                "the ONNX network wants inputs that the task does not make",
                where=str(self._where),
                got=", ".join(missing),
                expected=", ".join(inputs),
            )
        fed = {name: inputs[name].numpy() for name in self._names}
        (logits,) = self._session.run([OUTPUT], fed)
        return SimpleNamespace(logits=torch.from_numpy(logits))


def _why_not(spec: NetworkSpec, folder: Path) -> str:
    from sparkml.models.onnx_file import read_onnx

    if spec.writes:
        return "it writes text token by token, which an ONNX network without a cache of its own does not"
    file = folder / ONNX_FOLDER / ONNX_FILE
    if not file.is_file():
        return f"there is no {ONNX_FOLDER}/{ONNX_FILE}"
    outputs = read_onnx(file).outputs
    return (
        "" if OUTPUT in outputs else f"its ONNX network gives {', '.join(outputs) or 'nothing'}, not {OUTPUT}"
    )


def _load(spec: NetworkSpec, folder: Path) -> Any:
    from sparkml.models.folder import check_folder
    from sparkml.models.onnx_file import check_onnx

    file = check_folder(folder / ONNX_FOLDER, ONNX_FILE) / ONNX_FILE
    check_onnx(file)
    return OnnxNetwork(new_session(file), file)


def new_session(file: Path) -> Any:
    """A session on the CPU with as many threads as torch has; InputError where the file cannot be run."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Threads that wait sleep: the cores belong to other tasks too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Batches have many shapes: plans of memory are kept for each, and an arena keeps the most of all.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise InputError(
            "ONNX Runtime cannot run this file", where=str(file), got=str(error).splitlines()[0]
        ) from error


ENGINE = Engine("any network as an ONNX file, by ONNX Runtime", 0, _why_not, _load)
