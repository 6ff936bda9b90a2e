"""Where a network answers: on the processor, or on the GPU of the task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from sparkml.errors import ConfigError
from sparkml.models.folder import INT8_FOLDER, ONNX_FOLDER, form_of

CPU = "cpu"
DEVICES = ("auto", CPU, "cuda")
# What our int8 and ONNX Runtime compute with lies on the processor; the GPU runs networks of transformers.
_ON_CPU_ALONE = frozenset({INT8_FOLDER, ONNX_FOLDER})
GPU_ENGINE = "torch"


def device_for(wanted: str, engine: str, folder: Path, gpu: int | None) -> str:
    """`cpu` or `cuda:N`: where a model directory answers, of a process whose GPU is number `gpu`, or that has none.

    `wanted`: `auto` takes the GPU where it can run the model. ConfigError where there is no such device.
    """
    if wanted not in DEVICES:
        raise ConfigError("no such device", where="device", got=wanted, expected=", ".join(DEVICES))
    reason = _why_no_gpu(engine, folder, gpu)
    if wanted == CPU or (wanted == "auto" and reason):
        return CPU
    if reason:
        raise ConfigError(
            "the model cannot answer on a GPU", where="device", got=reason, expected="auto or cpu"
        )
    return f"cuda:{gpu}"


def _why_no_gpu(engine: str, folder: Path, gpu: int | None) -> str:
    if gpu is None:
        return "torch sees no GPU"
    if engine not in ("auto", GPU_ENGINE):
        return f"the engine {engine} runs on the processor"
    form = form_of(folder)
    return f"its weights are in {form}/, for the processor" if form in _ON_CPU_ALONE else ""


def gpu_of_task(wanted: str = "auto") -> int | None:
    """Which of the GPUs that torch sees is this process's: the one that Spark gave to its task.

    Where Spark knows of none, its tasks take turns; without Spark it is torch's current one. None: torch sees none,
    or the processor is `wanted`. ConfigError where torch does not see what Spark gave.
    """
    if wanted == CPU or not torch.cuda.is_available():
        return None
    task = _spark_task()
    if task is None:
        return torch.cuda.current_device()
    given = task.resources().get("gpu")
    if given is None:
        return int(task.partitionId()) % torch.cuda.device_count()
    address = str(given.addresses[0])
    for number in range(torch.cuda.device_count()):
        if address == str(number) or str(torch.cuda.get_device_properties(number).uuid) in address:
            return number
    raise ConfigError(
        "torch does not see the GPU that Spark gave to the task",
        where="spark.executor.resource.gpu.discoveryScript",
        got=address,
        expected="the number of a GPU that torch sees, or its UUID",
    )


def _spark_task() -> Any:
    # A process without Spark need not import it to learn that it runs no task.
    spark = sys.modules.get("pyspark")
    return None if spark is None else spark.TaskContext.get()
