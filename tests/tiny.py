"""A tiny tokenizer and model directories for tests: hidden 32, two layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparkml.models.inputs import read_text_inputs, special_fields
from sparkml.models.networks import load_network, quiet, write_config
from sparkml.stages.shard.vocabulary import save_tokenizer, train_bpe

NETWORK: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "initializer_range": 0.1,
}
WORDS = (
    "spam offer money win prize now click free cash claim",
    "meeting tomorrow lunch friend home train late book",
)


def tiny_tokenizer(folder: Path) -> Path:
    """Train a byte-level BPE on a few words and write its files to `folder`, which is made where it is missing."""
    content = train_bpe([f"{words} {words}" for words in WORDS], 400)
    made = folder.parent / f".{folder.name}-tokenizers"
    digest = save_tokenizer(content, str(made))
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((made / "tokenizers" / digest / name).read_bytes())
    return folder / "tokenizer.json"


def tiny_encoder(folder: Path, seed: int = 1, head: str = "AutoModelForMaskedLM", **network: Any) -> Path:
    """Write a model directory with random weights; `network` are further fields of its configuration."""
    tiny_tokenizer(folder)
    inputs = read_text_inputs(folder)
    write_config({**NETWORK, **network}, folder, vocab_size=inputs.vocab_size, special=special_fields(inputs))
    loaded: Any = load_network(folder, head, seed=seed, random=True).network
    with quiet():
        loaded.save_pretrained(folder)
    return folder
