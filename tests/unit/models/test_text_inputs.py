"""Texts to token ids: windows, pairs, words, and what a model directory says of its tokens."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sparkml.errors import ConfigError, InputError
from sparkml.models.inputs import TextInputs, filled, read_text_inputs, special_fields
from sparkml.models.text_encoder import Kept, Window, parse
from tests.tiny import tiny_inputs, tiny_tokenizer

CLS, SEP, MASK = 2, 3, 4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> TextInputs:
    return tiny_inputs(tmp_path_factory.mktemp("tokenizer"))


def ids_of(inputs: TextInputs, text: str) -> list[int]:
    return parse(inputs.tokenizer_json).encode(text, add_special_tokens=False).ids


def windows(inputs: TextInputs, text: str, length: int, most: int = 1, overlap: int = 0) -> list[Window]:
    (found,) = inputs.encoder().encode([text], max_length=length, max_windows=most, overlap=overlap)
    return found


def word_pieces(folder: Path) -> TextInputs:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "late", "lunch", "##time", "##s"]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    roles = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    named = {f"{role}_token": token for role, token in roles.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    return read_text_inputs(folder)


def test_what_a_directory_says_of_its_tokens(encoder_folder: Path) -> None:
    found = read_text_inputs(encoder_folder)
    assert (found.pad_id, found.cls_id, found.sep_id, found.mask_id) == (0, CLS, SEP, MASK)
    assert found.special_ids == (0, 1, 2, 3, 4)
    assert (found.longest, found.segments) == (32, True)
    assert found.vocab_size == Tokenizer.from_file(str(encoder_folder / "tokenizer.json")).get_vocab_size()
    assert found.identity == hashlib.sha256(found.tokenizer_json.encode()).hexdigest()
    assert TextInputs.from_payload(found.to_payload()) == found
    assert special_fields(found) == {
        "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3
    }  # fmt: skip


def test_a_text_is_wrapped_and_cut(inputs: TextInputs) -> None:
    money = ids_of(inputs, "money")
    assert [window.ids for window in windows(inputs, "money", 8)] == [[CLS, *money, SEP]]
    assert [window.ids for window in windows(inputs, "", 8)] == [[CLS, SEP]]
    (long,) = windows(inputs, "z" * 10_000, 8)
    assert (len(long.ids), long.ids[0], long.ids[-1]) == (8, CLS, SEP)


def test_no_window_is_longer_than_the_network_reads(encoder_folder: Path) -> None:
    assert len(windows(read_text_inputs(encoder_folder), "free cash " * 99, 512)[0].ids) == 32


def test_the_cut_before_tokenising_does_not_show(inputs: TextInputs) -> None:
    for text in ("money " * 500, "win prize " * 50, "money " * 500 + "late"):
        whole = ids_of(inputs, text)
        assert windows(inputs, text, 16)[0].ids == [CLS, *whole[:14], SEP]


def test_windows_follow_one_another_and_share_the_overlap(inputs: TextInputs) -> None:
    whole = ids_of(inputs, "free cash now " * 9)
    inner = [window.ids[1:-1] for window in windows(inputs, "free cash now " * 9, 10, most=99)]
    assert [token for part in inner for token in part] == whole
    assert {len(part) for part in inner[:-1]} == {8}
    assert len(windows(inputs, "free cash now " * 9, 10, most=2)) == 2
    shared = [window.ids[1:-1] for window in windows(inputs, "free cash now " * 9, 10, most=99, overlap=3)]
    assert all(before[-3:] == after[:3] for before, after in itertools.pairwise(shared))
    assert [*shared[0], *(token for part in shared[1:] for token in part[3:])] == whole


def test_windows_that_would_never_end_are_refused(inputs: TextInputs) -> None:
    assert len(windows(inputs, "free cash now " * 9, 10, most=99, overlap=7)) > 9
    long = "free cash now " * 9
    for first, second in (("win", long), (long, "win"), (long, long)):
        (pair,) = inputs.encoder().encode([first], [second], max_length=10, max_windows=5, overlap=2)
        assert len(pair) == 5
    with pytest.raises(ConfigError, match=r"overlap 3, windows of 10 tokens"):
        inputs.encoder().encode(["win"], ["lunch"], max_length=10, overlap=3)
    with pytest.raises(ConfigError, match=r"overlap 8, windows of 10 tokens"):
        windows(inputs, "free cash now " * 9, 10, most=99, overlap=8)


def test_a_pair_has_segments(inputs: TextInputs) -> None:
    ((pair,),) = inputs.encoder().encode(["win"], ["lunch home"], max_length=32)
    first, second = ids_of(inputs, "win"), ids_of(inputs, "lunch home")
    assert pair.ids == [CLS, *first, SEP, *second, SEP]
    assert pair.type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_words_are_known_by_their_tokens(inputs: TextInputs) -> None:
    words = ["lunch", "zebra", "home"]
    ((window,),) = inputs.encoder().encode_words([words], max_length=32, max_windows=1)
    assert (window.words[0], window.words[-1]) == (-1, -1)
    assert sorted(set(window.words[1:-1])) == [0, 1, 2]
    # A word has the tokens that it has behind a blank in a text.
    inside = ids_of(inputs, " zebra")
    assert [token for token, word in zip(window.ids, window.words, strict=True) if word == 1] == inside


@pytest.mark.parametrize("text", ["fill the [MASK] here", "[SEP][CLS] [PAD]"])
def test_the_text_of_a_special_token_is_text(inputs: TextInputs, text: str) -> None:
    ids = windows(inputs, text, 64)[0].ids
    assert min(ids[1:-1]) > MASK


def test_a_text_does_not_depend_on_its_company(inputs: TextInputs) -> None:
    encoder = inputs.encoder()
    texts = ["win a prize", "lunch " * 40, "x"]
    together = encoder.encode(texts, max_length=12, max_windows=3, overlap=2)
    alone = [encoder.encode([text], max_length=12, max_windows=3, overlap=2)[0] for text in texts]
    assert together == alone


def test_of_a_long_text_the_tail_or_both_ends_are_read(inputs: TextInputs) -> None:
    text = "win a prize " + "money " * 400 + "lunch at home"
    whole, encoder = ids_of(inputs, text), inputs.encoder()
    for length in (8, 9):
        room, tail = length - 2, (length - 2) // 2
        ((last, before),) = encoder.encode([text], max_length=length, max_windows=2, keep="tail")
        assert last.ids == [CLS, *whole[-room:], SEP]
        assert before.ids == [CLS, *whole[-2 * room : -room], SEP]
        ((ends,),) = encoder.encode([text], max_length=length, keep="ends")
        assert ends.ids == [CLS, *whole[: room - tail], *whole[-tail:], SEP]
        assert len(ends.type_ids) == length


@pytest.mark.parametrize("keep", ["tail", "ends"])
def test_a_text_that_fits_is_read_as_a_whole_whatever_is_kept(inputs: TextInputs, keep: Kept) -> None:
    texts = ["win a prize", "", "z" * 20_000]
    short, empty, _ = inputs.encoder().encode(texts, max_length=16, keep=keep)
    assert [window.ids for window in (*short, *empty)] == [[CLS, *ids_of(inputs, texts[0]), SEP], [CLS, SEP]]
    assert inputs.encoder().encode(texts[:1], max_length=16, keep=keep) == [short]


def test_both_ends_are_those_of_single_texts_in_one_window(inputs: TextInputs) -> None:
    with pytest.raises(ConfigError, match=r"task\.keep"):
        inputs.encoder().encode(["a"], ["b"], max_length=16, keep="ends")
    with pytest.raises(ConfigError, match="2 windows"):
        inputs.encoder().encode(["a"], max_length=16, max_windows=2, keep="ends")


def test_words_begin_at_a_blank_of_byte_level_bpe(inputs: TextInputs) -> None:
    vocabulary = parse(inputs.tokenizer_json).get_vocab()
    begins = inputs.begins_word
    assert begins[:5].all()
    assert begins[vocabulary["Ġlunch"]]
    assert not begins[vocabulary["l"]]


def test_words_begin_without_the_mark_of_word_pieces(tmp_path: Path) -> None:
    begins = word_pieces(tmp_path).begins_word
    assert begins.tolist() == [True] * 7 + [False] * 2


def test_every_token_is_a_word_where_nothing_marks_one(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, "[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(tmp_path)
    found = read_text_inputs(tmp_path)
    assert found.begins_word.tolist() == [True] * 3
    assert (found.mask_id, found.cls_id, found.sep_id, found.pad_id) == (-1, -1, -1, 0)
    assert special_fields(found) == {"pad_token_id": 0}


def with_pad(inputs: TextInputs, pad_id: int) -> TextInputs:
    return TextInputs.from_payload({**inputs.to_payload(), "pad_id": pad_id})


def test_rows_are_filled_up_to_the_padding_at_their_end(inputs: TextInputs) -> None:
    rows = np.array([[2, 7, 3, 0, 0], [2, 0, 7, 8, 3], [0, 0, 0, 0, 0]])
    assert filled(rows, inputs).astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]


def test_where_padding_is_the_end_of_a_document_the_first_end_is_none(inputs: TextInputs) -> None:
    rows = np.array([[7, 8, 3, 3, 3], [7, 3, 8, 9, 9], [7, 8, 9, 9, 3]])
    found = filled(rows, with_pad(inputs, SEP)).astype(int).tolist()
    assert found == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_text_inputs(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no tokenizer[\s\S]*save_pretrained"):
        read_text_inputs(tmp_path)
    file = tiny_tokenizer(tmp_path / "broken")
    file.write_text("{}")
    with pytest.raises(InputError, match="no tokenizer that can be loaded"):
        read_text_inputs(file.parent)
    with pytest.raises(InputError, match=r"not a tokenizer\.json"):
        parse("{}")
