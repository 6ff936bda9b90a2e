"""Several real ranks: processes of this machine that torch.distributed joins, without Spark."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest

from sparkml.training.settings import SpreadSettings, TrainingJob

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
DECODER = {**TINY, "num_key_value_heads": 2, "vocab_size": 60, "max_position_embeddings": 32}
ENCODER = {
    **TINY,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
DISTILBERT = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "vocab_size": 60,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
VISION = {**TINY, "image_size": 8, "patch_size": 4, "hidden_dropout_prob": 0.0}
# Model types with an Auto class and a small configuration.
SPLIT = [
    ("bert", "AutoModelForMaskedLM", ENCODER),
    ("roberta", "AutoModelForSequenceClassification", ENCODER),
    ("xlm-roberta", "AutoModelForTokenClassification", ENCODER),
    ("camembert", "AutoModelForMaskedLM", ENCODER),
    ("electra", "AutoModelForSequenceClassification", {**ENCODER, "embedding_size": 16}),
    ("distilbert", "AutoModelForSequenceClassification", {**DISTILBERT, "seq_classif_dropout": 0.0}),
    ("vit", "AutoModelForImageClassification", VISION),
    ("llama", "AutoModelForCausalLM", DECODER),
    ("mistral", "AutoModelForSequenceClassification", {**DECODER, "pad_token_id": 0}),
    ("qwen2", "AutoModelForCausalLM", DECODER),
]
REFUSED = [
    ("gpt2", "AutoModelForCausalLM", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 60}),
    ("modernbert", "AutoModelForMaskedLM", {**TINY, "vocab_size": 60, "pad_token_id": 0}),
    ("bert", "AutoModelForMaskedLM", {**ENCODER, "num_attention_heads": 1}),
]


def train_on_ranks(jobs: Sequence[TrainingJob], size: int) -> list[dict[str, float]]:
    """What rank 0 measured of each job, one after the other on the same ranks; an error of a rank is raised here."""
    found: list[dict[str, float]] = on_ranks(_train, [job.to_payload() for job in jobs], size)
    return found


def compare_architectures(size: int) -> list[tuple[str, float]]:
    """By how much losses and gradients in parts differ from those of the whole network, as a part of the largest."""
    found: list[tuple[str, float]] = on_ranks(_compare, None, size)
    return found


def texts_in_parts(folders: Sequence[str], size: int) -> list[tuple[list[str], list[str]]]:
    """What rank 0 writes with each model whole, and with a part of it, while other ranks write shorter texts."""
    found: list[tuple[list[str], list[str]]] = on_ranks(_texts, list(folders), size)
    return found


def on_ranks(function: Callable[[Any, Any], Any], payload: Any, size: int) -> Any:
    """What rank 0 gives: every rank is a process that runs `function(payload, collective)`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    results: Any = spawn.Queue()
    ranks = [
        spawn.Process(target=_rank, args=(function, payload, rank, size, port, results), daemon=True)
        for rank in range(size)
    ]
    for rank in ranks:
        rank.start()
    found = {}
    try:
        for _ in ranks:
            number, error, result = results.get(timeout=240)
            assert error is None, f"rank {number}: {error}"
            found[number] = result
    finally:
        for rank in ranks:
            rank.terminate()
            rank.join()
    return found[0]


def _rank(
    function: Callable[[Any, Any], Any], payload: Any, rank: int, size: int, port: int, results: Any
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch.distributed as dist

    from sparkml.distributed.torch_group import TorchCollective

    try:
        store = dist.TCPStore("127.0.0.1", port, size, is_master=rank == 0)
        results.put((rank, None, function(payload, TorchCollective(rank, size, rank, store))))
    except Exception:
        results.put((rank, traceback.format_exc(), None))
        sys.exit(1)


def _train(payloads: list[dict[str, Any]], group: Any) -> list[dict[str, float]]:
    from sparkml.distributed.reporter import Reporter
    from sparkml.training.run import train

    return [train(TrainingJob.from_payload(payload), group, Reporter(None)) for payload in payloads]


def _texts(folders: list[str], group: Any) -> list[tuple[list[str], list[str]]]:
    import torch

    from sparkml.distributed.reporter import Reporter
    from sparkml.inference.scorer import load_scorer, rows_of
    from sparkml.models.adapt import AdaptSettings, adapt
    from sparkml.tasks.generating import Text
    from sparkml.training.in_parts import InParts
    from tests.writers import backwards

    texts, _ = backwards(6, seed=3)
    mine = texts if group.rank == 0 else sorted(texts, key=len)[: group.rank]
    found = []
    for folder in folders:
        scorer = load_scorer(folder)
        encoded = scorer.task.encode(pa.RecordBatch.from_pydict({"text": mine}), purpose="answer")
        batch = scorer.task.collate(rows_of(encoded.samples), None)
        steps = {"total_steps": 1, "epoch_steps": 1, "seed": 1}
        with torch.no_grad():
            whole = [Text.of_array(one).text for one in scorer.task.outputs(scorer.network, batch)]
            adapted = adapt(scorer.network, AdaptSettings(), new_modules=(), **steps)
            spread = SpreadSettings(parallel="fsdp")
            parts = InParts(adapted, spread, group, Reporter(None), torch.device("cpu"), batch, lower=False)
            outputs = parts.call(scorer.task.outputs, batch)
        found.append((whole, [Text.of_array(one).text for one in outputs]))
    return found


def _compare(_: None, group: Any) -> list[tuple[str, float]]:
    from sparkml.errors import ConfigError

    found = []
    for model_type, head, config in SPLIT:
        for spread in (SpreadSettings(parallel="fsdp"), SpreadSettings(parallel="fsdp", tensor_ranks=2)):
            found.append(
                (f"{model_type} {spread.tensor_ranks}", _difference(model_type, head, config, spread, group))
            )
    for model_type, head, config in REFUSED:
        with pytest.raises(ConfigError, match="cannot be computed by several ranks together"):
            _difference(model_type, head, config, SpreadSettings(parallel="fsdp", tensor_ranks=2), group)
    return found


def _difference(
    model_type: str, head: str, config: dict[str, Any], spread: SpreadSettings, group: Any
) -> float:
    """Every rank is given the same batch, so the sum over readers is so many times the gradient of one."""
    import torch
    import transformers

    from sparkml.distributed.reporter import Reporter
    from sparkml.models.adapt import AdaptSettings, adapt
    from sparkml.tasks.task import Batch
    from sparkml.training.in_parts import InParts

    torch.manual_seed(1)
    described = transformers.AutoConfig.for_model(model_type, **config)
    network = getattr(transformers, head).from_config(described)
    steps = {"total_steps": 1, "epoch_steps": 1, "seed": 1}
    adapted = adapt(network, AdaptSettings(), new_modules=(), **steps)
    inputs = (
        {"input_ids": torch.randint(3, 60, (3, 7))}
        if "Image" not in head
        else {"pixel_values": torch.randn(3, 3, 8, 8)}
    )
    batch = Batch(inputs, {}, 3, 21)

    def loss(called: Any, given: Batch) -> torch.Tensor:
        total: torch.Tensor = called(**given.inputs).logits.square().sum()
        return total

    expected = loss(network, batch)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    parts = InParts(adapted, spread, group, Reporter(None), torch.device("cpu"), batch, lower=False)
    found = parts.call(loss, batch)
    parts.backward(found)
    worst = float((found - expected).abs() / expected.abs())
    scale = max(float(one.abs().max()) for one in wanted.values())
    readers = group.size // spread.tensor_ranks
    for name, parameter in network.named_parameters():
        if name not in wanted:
            continue
        gradient: Any = parameter.grad
        whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
        worst = max(worst, float((whole / readers - wanted[name]).abs().max()) / scale)
    return worst
