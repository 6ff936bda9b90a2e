"""The language of a document, and what is dropped for it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sparkml.kernels.languages import UNKNOWN, detect
from sparkml.kernels.signals import MOST_STOP_WORDS
from sparkml.kernels.words import Memory
from sparkml.stages.clean.batches import decide
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.rules.gopher_quality import GopherQuality
from sparkml.stages.clean.rules.language import Language
from sparkml.stages.clean.stop_words import STOP_WORDS_OF, WITHOUT_SPACES

SENTENCES = {
    "en": "The museum by the old harbour was closed for seven years before it opened again in spring.",
    "de": "Das Museum am alten Hafen war sieben Jahre lang geschlossen, bevor es im Frühling wieder öffnete.",
    "fr": "Le musée du vieux port est resté fermé pendant sept ans avant de rouvrir au printemps dernier.",
    "nb": "Museet ved den gamle havnen var stengt i sju år før det åpnet igjen, og ikke bare om våren.",
    "ru": "Музей в старой гавани был закрыт семь лет, прежде чем снова открылся весной.",
    "ja": "古い港のそばにある博物館は七年間閉まっていましたが、春に再び開きました。",
    "zh": "旧港口旁边的博物馆关闭了七年，直到春天才重新开放。",
    "he": "המוזיאון ליד הנמל הישן היה סגור במשך שבע שנים לפני שנפתח שוב באביב.",
    "id": "Museum di dekat pelabuhan tua itu ditutup selama tujuh tahun sebelum dibuka kembali pada musim semi.",
}


@pytest.mark.parametrize("lang", SENTENCES)
def test_a_sentence_is_in_its_language(lang: str) -> None:
    found = detect(SENTENCES[lang].encode(), 10_000)
    assert found.lang == lang
    assert found.share > 0.9


def test_parts_have_their_shares() -> None:
    text = (SENTENCES["en"] + "\n") * 6 + (SENTENCES["fr"] + "\n") * 3
    found = detect(text.encode(), 100_000)
    assert found.lang == "en"
    assert 0.5 < found.share < 0.8
    assert [one["lang"] for one in found.shares] == ["en", "fr"]
    assert 0.2 < found.shares[1]["share"] < 0.5


@pytest.mark.parametrize("text", ["", "12345 67", "?!", "\x00\x01\x02", "\U0001f600" * 20])
def test_what_is_in_no_language(text: str) -> None:
    found = detect(text.encode(), 10_000)
    assert (found.lang, found.share, found.shares) == (UNKNOWN, 0.0, [])


def test_control_characters_and_broken_bytes_are_passed_over() -> None:
    text = SENTENCES["de"].replace(" ", " \x01\x85\ufffe ")
    assert detect(text.encode(), 10_000).lang == "de"
    assert detect(SENTENCES["de"].encode() + b"\xff\xfe\xc3", 10_000).lang == "de"


def test_a_long_text_is_looked_at_in_three_places() -> None:
    long = " ".join([SENTENCES["en"]] * 100 + [SENTENCES["ru"]] * 100 + [SENTENCES["fr"]] * 100)
    found = detect(long.encode(), 3000)
    assert {one["lang"] for one in found.shares} == {"en", "ru", "fr"}


def decided(config: CleanConfig, *texts: str, **given: pa.Array) -> list[dict[str, object]]:
    """The decisions on documents."""
    found = decide(pa.array(texts), config, Memory(), None, given)
    return [{name: column[row].as_py() for name, column in found.items()} for row in range(len(texts))]


def test_languages_are_columns_and_those_that_are_not_kept_go() -> None:
    mixed = f"{SENTENCES['en']} {SENTENCES['fr']}"
    config = CleanConfig(rules=("language",), language=Language(keep=("en", "fr")))
    given = {"lang": pa.array(["xx"] * 4), "lang_score": pa.array([None] * 4, pa.float32())}
    rows = decided(config, SENTENCES["en"], SENTENCES["de"], mixed, "12 34", **given)
    assert [row["drop_reason"] for row in rows] == [None, "language", "language_score", "language"]
    assert [row["lang"] for row in rows[:2]] == ["en", "de"]
    assert rows[0]["lang_score"] == pytest.approx(rows[0]["signals"]["lang_score"])
    assert rows[0]["languages"] == [{"lang": "en", "share": rows[0]["lang_score"]}]
    assert rows[2]["threshold"] == 0.65


def test_without_limits_nothing_is_dropped() -> None:
    config = CleanConfig(rules=("language",), language=Language(min_score=None))
    assert [row["drop_reason"] for row in decided(config, "12 34", SENTENCES["ja"])] == [None, None]


def test_stop_words_and_words_are_those_of_the_language() -> None:
    texts = [
        "Das ist der Hund und die Katze von nebenan.",
        "Das ist der Hund und die Katze von nebenan.",
        "我今天早上在公园里看见了一只猫",
        "Ez pirtûkek nû dixwînim li malê.",
    ]
    langs = pa.array(["de", "en", "zh", "ku"])
    rules = GopherQuality(by_language=True, min_words=5)
    config = CleanConfig(rules=("gopher_quality",), gopher_quality=rules)
    found = decide(pa.array(texts), config, Memory(), None, {"lang": langs})
    signals = found["signals"].to_pylist()
    assert [row["stop_words"] for row in signals] == [5, 0, None, None]
    assert [row["n_words"] for row in signals] == [9, 9, 15, 6]
    assert signals[2]["mean_word_length"] is None
    assert found["drop_reason"].to_pylist() == [None, "gopher_stop_words", None, None]


def test_every_list_of_stop_words_fits_the_kernel() -> None:
    assert max(map(len, STOP_WORDS_OF.values())) <= MOST_STOP_WORDS
    assert all(len(set(words)) == len(words) for words in STOP_WORDS_OF.values())
    assert not WITHOUT_SPACES & STOP_WORDS_OF.keys()
