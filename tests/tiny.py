"""Tiny tokenizer, encoder and classifier folders for tests: hidden 32, two layers."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sparkml.models.encoder import EncoderShape, build_masked_lm, save_model
from sparkml.models.tokenizer import SPECIAL_TOKENS

SHAPE = EncoderShape(hidden=32, layers=2, heads=2, intermediate=64, max_length=32, dropout=0.1)
WORDS = (
    "spam offer money win prize now click free cash claim",
    "meeting tomorrow lunch friend home train late book",
)


def tiny_tokenizer(folder: Path) -> Path:
    """Train a byte-level BPE on a few words and write it to `folder`/tokenizer.json."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{words} {words}" for words in WORDS], trainer=trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def tiny_encoder(folder: Path, seed: int = 1) -> Path:
    """Write an encoder with random weights into a folder, which is made where it is missing."""
    tokenizer = tiny_tokenizer(folder).read_bytes()
    vocabulary = Tokenizer.from_str(tokenizer.decode()).get_vocab_size()
    return save_model(build_masked_lm(SHAPE, vocabulary, seed), folder, tokenizer)
