from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from sparkml.models.inputs import TextInputs, parse, read_text_inputs
from sparkml.stages.shard.encoder import cut, tokenise
from sparkml.stages.shard.pack import blocks, packing
from sparkml.stages.shard.vocabulary import SPECIAL_TOKENS, save_tokenizer, train_tokenizer

TEXTS = ["the cat sat on the mat", "the dog sat on the cat", "a cat and a dog", "the mat and the cat"] * 3


@pytest.fixture(scope="module")
def tokenizer_json() -> str:
    return train_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def inputs(tokenizer_json: str, tmp_path_factory: pytest.TempPathFactory) -> TextInputs:
    artifacts = tmp_path_factory.mktemp("tokenizers")
    return read_text_inputs(artifacts / "tokenizers" / save_tokenizer(tokenizer_json, str(artifacts)))


def test_training_is_deterministic_and_gives_special_tokens_their_ids(tokenizer_json: str) -> None:
    assert train_tokenizer(iter(TEXTS), 300) == tokenizer_json
    tokenizer = Tokenizer.from_str(tokenizer_json)
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert tokenizer.encode("the cat").ids[0] == 2
    assert tokenizer.encode("the cat").ids[-1] == 3


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_every_kind_is_loaded_by_transformers_and_packs(kind: str, tmp_path: Path) -> None:
    content = train_tokenizer(TEXTS, 300, 2, kind)
    folder = tmp_path / "tokenizers" / save_tokenizer(content, str(tmp_path), 2)
    inputs, theirs = read_text_inputs(folder), AutoTokenizer.from_pretrained(folder)
    assert (inputs.pad_id, inputs.cls_id, inputs.sep_id, inputs.mask_id) == (0, 2, 3, 4)
    assert len(inputs.sentinel_ids) == 2
    for text in ("the cat sat", "a zzz 漢字!"):
        ids = theirs(text)["input_ids"]
        assert (ids[0], ids[-1]) == (2, 3)
        assert parse(content).encode(text).ids == ids
        assert (1 in ids) == (kind == "wordpiece" and "漢" in text)  # the others write any byte
        if kind != "wordpiece":
            assert theirs.decode(ids[1:-1]) == text
    words = parse(content).encode("the cat sat", add_special_tokens=False).ids
    assert inputs.begins_word[words].sum() >= (3 if kind == "wordpiece" else 2)
    table = pa.table({"split": ["train"] * 3, "bucket": [0] * 3, "doc_id": list("abc"), "text": TEXTS[:3]})
    (samples,) = [*packing(inputs, 64)(iter(table.to_batches()))]
    assert samples.column("n_documents").to_pylist() == [3]


def test_wordpiece_gives_equal_bytes_for_equal_texts_and_unigram_equal_pieces() -> None:
    assert len({train_tokenizer(iter(TEXTS), 300, 0, "wordpiece") for _ in range(3)}) == 1
    pieces = {frozenset(parse(train_tokenizer(iter(TEXTS), 300, 0, "unigram")).get_vocab()) for _ in range(3)}
    assert len(pieces) == 1


def test_every_text_comes_back_from_its_tokens(tokenizer_json: str) -> None:
    tokenizer = parse(tokenizer_json)
    for text in ("the cat", "ünïcödé 漢字 🙂", "a\x00b\r\n\t", " [MASK] [UNK]"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert min(ids) >= len(SPECIAL_TOKENS)


def test_tokenise_counts_the_tokens_of_each_text(tokenizer_json: str) -> None:
    tokenizer = parse(tokenizer_json)
    texts = ["the cat", "", "a dog sat"]
    tokens, lengths = tokenise(tokenizer, texts)
    one_by_one = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert tokens.tolist() == [token for ids in one_by_one for token in ids]
    assert lengths.tolist() == [len(ids) for ids in one_by_one]


def test_no_texts_have_no_tokens(tokenizer_json: str) -> None:
    tokens, lengths = tokenise(parse(tokenizer_json), [])
    assert (tokens.tolist(), lengths.tolist()) == ([], [])


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab1. \n\t'é漢", max_size=60), limit=st.integers(1, 10))
def test_cutting_changes_no_token(tokenizer_json: str, text: str, limit: int) -> None:
    tokenizer = parse(tokenizer_json)
    pieces = list(cut(text, limit))
    assert "".join(pieces) == text
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    assert [i for piece in pieces for i in tokenizer.encode(piece, add_special_tokens=False).ids] == whole


def test_blocks_are_bounded_by_characters() -> None:
    texts = ["x" * 600_000, "x" * 600_000, "x", "x" * 2_000_000, "x"]
    assert list(blocks(texts)) == [(0, 2), (2, 4), (4, 5)]
    assert list(blocks([])) == []


def test_groups_are_packed_on_their_own_whatever_the_batches(inputs: TextInputs) -> None:
    rows = [
        ("train", 0, "d1", "the cat"),
        ("train", 0, "d2", "a dog"),
        ("train", 1, "d3", "the mat"),
        ("validation", 1, "d4", "a cat"),
    ]
    names = ("split", "bucket", "doc_id", "text")
    table = pa.table(
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        schema=pa.schema(
            [("split", pa.string()), ("bucket", pa.int32()), ("doc_id", pa.string()), ("text", pa.string())]
        ),
    )
    results = []
    for size in (1, 2, 4):
        batches = packing(inputs, 64)(iter(table.to_batches(max_chunksize=size)))
        results.append([row for batch in batches for row in batch.to_pylist()])
    assert results[0] == results[1] == results[2]
    summary = [(r["split"], r["bucket"], r["nth"], r["doc_ids"], r["n_documents"]) for r in results[0]]
    assert summary == [
        ("train", 0, 0, ["d1", "d2"], 2),
        ("train", 1, 0, ["d3"], 1),
        ("validation", 1, 0, ["d4"], 1),
    ]


def test_special_ids_come_from_packing_alone(inputs: TextInputs) -> None:
    rows = {"split": ["train"], "bucket": pa.array([0], pa.int32()), "doc_id": ["d"], "text": ["a [SEP] b"]}
    (sample,) = [
        row for batch in packing(inputs, 32)(iter([pa.record_batch(rows)])) for row in batch.to_pylist()
    ]
    ids = sample["input_ids"][: sample["n_tokens"]]
    assert (ids[0], ids[-1]) == (2, 3)
    assert min(ids[1:-1]) >= len(SPECIAL_TOKENS)
    assert set(sample["input_ids"][sample["n_tokens"] :]) == {0}
    assert sample["n_documents"] == 1


def test_a_saved_tokenizer_is_named_by_its_content_and_transformers_loads_it(
    tokenizer_json: str, tmp_path: Path
) -> None:
    digest = save_tokenizer(tokenizer_json, str(tmp_path))
    assert digest == hashlib.sha256(tokenizer_json.encode()).hexdigest()
    folder = tmp_path / "tokenizers" / digest
    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == tokenizer_json
    names = ["checksums.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(entry.name for entry in folder.iterdir()) == names
    written = (folder / "checksums.json").stat().st_mtime_ns
    assert save_tokenizer(tokenizer_json, str(tmp_path)) == digest
    assert (folder / "checksums.json").stat().st_mtime_ns == written
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    special = (loaded.pad_token_id, loaded.unk_token_id, loaded.cls_token_id, loaded.sep_token_id)
    assert (*special, loaded.mask_token_id) == (0, 1, 2, 3, 4)
    pair = loaded("the cat", "a dog")
    assert pair["input_ids"] == Tokenizer.from_str(tokenizer_json).encode("the cat", "a dog").ids
