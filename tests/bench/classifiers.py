"""Classifiers with random weights for benchmarks, of the size asked for."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sparkml.models.heads import build_network
from sparkml.models.inputs import TextInputs, special_fields
from sparkml.models.networks import write_config
from sparkml.tasks.classify import Classify, ClassifyOptions
from sparkml.tasks.task import Targets

LABELS = tuple(f"label-{number}" for number in range(10))
MAX_LENGTH = 128


def random_classifier(
    folder: Path, inputs: TextInputs, *, hidden: int, layers: int, heads: int, deviation: float = 0.02
) -> tuple[Classify, nn.Module]:
    """A BERT that takes the mean over its tokens, in eval mode, and its task; writes config.json into `folder`."""
    config = {
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": MAX_LENGTH,
        "type_vocab_size": 1,
        "initializer_range": deviation,
    }
    write_config(config, folder, vocab_size=inputs.vocab_size, **special_fields(inputs))
    task = Classify(ClassifyOptions(max_length=MAX_LENGTH, pooling="mean"), Targets(labels=LABELS), inputs)
    network, _ = build_network(task.network(), folder, seed=0, random=True)
    return task, network.eval()
