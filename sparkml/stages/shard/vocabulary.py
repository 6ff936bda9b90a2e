"""The tokenizer: trained in one task on a hash sample of the training documents.

`bpe` and `unigram` work on bytes, as GPT-2 does: every text can be written in 256 byte tokens, so [UNK] never occurs
and nothing is lost. `wordpiece` works as BERT does: white space is lost, and what the alphabet lacks is [UNK].
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from sparkml.frame import storage
from sparkml.frame.artifacts import identity, new_artifact
from sparkml.log import get_logger
from sparkml.models.directory import copy_inputs
from sparkml.models.folder import TOKENIZER_FILE, write_json
from sparkml.models.inputs import SENTINEL, TextInputs

_log = get_logger(__name__)
TokenizerKind = Literal["bpe", "wordpiece", "unigram"]
# The order is the id: every tokenizer that is trained here starts with these five.
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_UNK_ID, _CLS_ID, _SEP_ID = 1, 2, 3
# Longer merges are rulers ("======"), base64 and minified code: they would use up the vocabulary.
_MAX_TOKEN_BYTES = 32
# A pair seen once is not a pattern.
_MIN_FREQUENCY = 2
# Of WordPiece, each character of the alphabet takes two pieces: at a word's beginning, and inside.
_ALPHABET_SHARE = 4
# One enormous document must not be the whole sample.
SAMPLE_CHARACTERS_PER_DOCUMENT = 65_536
_HASH_RANGE = 1 << 31
# What transformers calls the special tokens, in their order.
_ROLES = ("pad", "unk", "cls", "sep", "mask")


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, sentinels: int = 0, kind: TokenizerKind = "bpe"
) -> str:
    """Train on `texts`; returns the content of `tokenizer.json`.

    The vocabulary is smaller than asked for when the texts are too few. `sentinels`: tokens that stand for spans. Equal
    texts give equal bytes, but for `unigram`, whose scores are sums in any order and differ in their third digit.
    """
    cls, sep = SPECIAL_TOKENS[_CLS_ID], SPECIAL_TOKENS[_SEP_ID]
    special = [*SPECIAL_TOKENS, *sentinel_tokens(sentinels)]
    train = {"bpe": _bpe, "wordpiece": _wordpiece, "unigram": _unigram}[kind]
    tokenizer = train(texts, vocabulary_size, special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, _CLS_ID), (sep, _SEP_ID)],
    )
    return str(tokenizer.to_str())


def _on_bytes(tokenizer: Tokenizer) -> list[str]:
    """Every byte is a character; returns these characters."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _bpe(texts: Iterable[str], vocabulary_size: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[_UNK_ID]))
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=special,
        initial_alphabet=_on_bytes(tokenizer),
        max_token_length=_MAX_TOKEN_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def _unigram(texts: Iterable[str], vocabulary_size: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary_size,
        special_tokens=special,
        unk_token=SPECIAL_TOKENS[_UNK_ID],
        initial_alphabet=_on_bytes(tokenizer),
        max_piece_length=_MAX_TOKEN_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def _wordpiece(texts: Iterable[str], vocabulary_size: int, special: list[str]) -> Tokenizer:
    texts = list(texts)
    counts = Counter(chain.from_iterable(texts))
    alphabet = sorted(counts, key=lambda sign: (-counts[sign], sign))[: vocabulary_size // _ALPHABET_SHARE]
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS[_UNK_ID]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=special,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    # Which pieces there are follows from the texts, their numbers do not: here they are in alphabetical order.
    pieces = sorted(tokenizer.get_vocab().keys() - set(special))
    numbered = {piece: number for number, piece in enumerate([*special, *pieces])}
    tokenizer.model = models.WordPiece(numbered, unk_token=SPECIAL_TOKENS[_UNK_ID])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(special)
    return tokenizer


def sentinel_tokens(n: int) -> list[str]:
    """The tokens that stand for spans of a text, as T5 names them."""
    return [SENTINEL.format(number) for number in range(n)]


def sample_texts(documents: DataFrame, total_bytes: int, sample_bytes: int, seed: int) -> DataFrame:
    """Heads of documents, about `sample_bytes` in all, chosen by a hash; all heads have `total_bytes`."""
    limit = _HASH_RANGE if total_bytes <= sample_bytes else round(sample_bytes / total_bytes * _HASH_RANGE)
    place = F.pmod(F.xxhash64(F.lit("tokenizer"), F.lit(seed).cast("long"), "doc_id"), F.lit(_HASH_RANGE))
    head = F.substring("text", 1, SAMPLE_CHARACTERS_PER_DOCUMENT)
    return documents.where(place < limit).select("doc_id", head.alias("text"))


def train_in_one_task(sample: DataFrame, vocabulary_size: int, sentinels: int, kind: TokenizerKind) -> str:
    """`train_tokenizer` inside one Spark task: the texts never come to the driver, only the tokenizer does."""
    ordered = sample.repartition(1).sortWithinPartitions("doc_id").select("text")
    rows = ordered.mapInArrow(_trainer(vocabulary_size, sentinels, kind), "tokenizer string").collect()
    # No documents, no task: an empty plan may have no partition that could answer.
    return str(rows[0]["tokenizer"]) if rows else train_tokenizer([], vocabulary_size, sentinels)


def _trainer(
    vocabulary_size: int, sentinels: int, kind: TokenizerKind
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def train(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        one_thread()
        texts = (text for batch in batches for text in batch.column(0).to_pylist())
        content = train_tokenizer(texts, vocabulary_size, sentinels, kind)
        yield pa.RecordBatch.from_pydict({"tokenizer": [content]})

    return train


def one_thread() -> None:
    """A task owns one core: the tokenizers library would start a thread for every core of the machine."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def save_tokenizer(content: str, artifacts: str, sentinels: int = 0) -> str:
    """Keep a tokenizer of ours as `<artifacts>/tokenizers/<sha256>/`, as transformers loads it; returns the SHA-256.

    The folder is there whole or not at all; one that is there already is the same one.
    """
    digest = hashlib.sha256(content.encode()).hexdigest()
    target = storage.join(artifacts, "tokenizers", digest)
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": token for name, token in zip(_ROLES, SPECIAL_TOKENS, strict=True)},
        **({"extra_special_tokens": sentinel_tokens(sentinels)} if sentinels else {}),
    }
    if identity(target) == "missing":
        with new_artifact(target) as staging:
            (staging / TOKENIZER_FILE).write_text(content, encoding="utf-8")
            write_json(staging / "tokenizer_config.json", described)
    _log.info("tokenizer %s", target)
    return digest


def keep_tokenizer(model: Path, inputs: TextInputs, artifacts: str) -> TextInputs:
    """Keep the tokenizer of a model beside those that are trained here, under the hash that manifests name."""
    target = storage.join(artifacts, "tokenizers", inputs.identity)
    if identity(target) == "missing":
        with new_artifact(target) as staging:
            copy_inputs(model, staging)
    return inputs
