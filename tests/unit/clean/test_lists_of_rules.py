"""Rule sets that look things up: addresses, bad words, evaluation sets; and text that was decoded wrongly."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from sparkml.errors import InputError
from sparkml.kernels.texts import as_column, read_texts
from sparkml.kernels.words import Memory
from sparkml.sources import lists
from sparkml.stages.clean.addresses import parts_of
from sparkml.stages.clean.batches import decide
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.rules.bad_words import BadWords
from sparkml.stages.clean.rules.decontaminate import Decontaminate
from sparkml.stages.clean.rules.repair import Repair
from sparkml.stages.clean.rules.rule_set import Batch, RuleSet
from sparkml.stages.clean.rules.url import URL


def asked(
    rules: RuleSet, texts: Sequence[str], **columns: Sequence[str | None]
) -> tuple[dict[str, Any], list[str]]:
    """What rules measure of texts, as the Python workers have them, and what they leave."""
    prepared = pickle.loads(pickle.dumps(rules.prepared()))
    given = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    signals, left = prepared.measure(Batch(read_texts(pa.array(texts, pa.string())), Memory(), given))
    found = {name: value.tolist() for name, value in signals.items()}
    return found, as_column(left.texts, pa.string()).to_pylist()


@pytest.mark.parametrize(
    ("address", "host", "path"),
    [
        ("https://www.Example.com:8080/A/b/?q=1#x", "example.com", "/A/b"),
        ("//user:pass@news.example.com.", "news.example.com", ""),
        ("example.com/shop", "example.com", "/shop"),
        ("http://[2001:db8::1]:80/x", "[2001:db8::1]:80", "/x"),
        ("http://münchen.de/weg", "xn--mnchen-3ya.de", "/weg"),
        ("", "", ""),
        ("http://" + "ü" * 300 + "/x", "ü" * 300, "/x"),
    ],
)
def test_parts_of_addresses(address: str, host: str, path: str) -> None:
    assert parts_of(address) == (host, path)


def test_addresses_of_listed_domains_and_paths(tmp_path: Path) -> None:
    (tmp_path / "domains.gz").write_bytes(gzip.compress(b"# a list\nbad.org\n\nnews.mixed.com\n"))
    rules = URL(listed=("https://shop.com/sale/",), lists=(str(tmp_path / "domains.gz"),))
    pages = {
        "http://bad.org": True,
        "https://www.a.b.bad.org/x": True,
        "http://notbad.org": False,
        "http://mixed.com/news.mixed.com": False,
        "http://deep.news.mixed.com/": True,
        "http://shop.com/sale": True,
        "http://eu.shop.com/sale/shoes?id=1": True,
        "http://shop.com/sales": False,
        "http://shop.com/": False,
    }
    signals, _ = asked(rules, ["x"] * (len(pages) + 1), url=[*pages, None])
    assert signals["url_listed"] == [*(float(is_listed) for is_listed in pages.values()), 0.0]


def test_words_and_parts_of_addresses() -> None:
    rules = URL(words=("casino",), soft_words=("girl", "cam"), parts=("xxx",))
    pages = [
        "http://a.com/casino-royal",
        "http://casinos.com",
        "http://girl.com/CAM",
        "http://girl.com",
        "http://a.xxx.b",
    ]
    signals, _ = asked(rules, ["x"] * 5, url=pages)
    assert signals["url_words"] == [1, 0, 0, 0, 0]
    assert signals["url_soft_words"] == [0, 0, 2, 1, 0]
    assert signals["url_parts"] == [0, 0, 0, 0, 1]
    config = CleanConfig(rules=("url",), url=rules)
    given = {"url": pa.array(pages)}
    found = decide(pa.array(["Some text."] * 5), config.prepared(), Memory(), None, given)
    assert found["drop_reason"].to_pylist() == ["url_word", None, "url_soft_words", None, "url_part"]


def test_a_listed_domain_takes_eight_bytes() -> None:
    rules = URL(listed=tuple(f"d{n}.example" for n in range(100_000))).prepared()
    assert rules._addresses is not None
    assert rules._addresses.hashes.nbytes == 800_000


def test_bad_words_are_whole_words_but_in_scripts_without_spaces(tmp_path: Path) -> None:
    (tmp_path / "en").write_text("ugly\ntwo  words\nc++\n")
    rules = BadWords(lists={"en": str(tmp_path / "en")}, words={"ja": ("悪い",), "de": ("übel",)})
    texts = [
        *("Ugly, uglier.", "very_ugly", "Two  words. c++! two words"),
        *("これは悪いです", "ÜBEL und übel.", "ugly", "ugly"),
    ]
    signals, _ = asked(rules, texts, lang=["en", "en", "en", "ja", "de", "fr", None])
    assert signals["bad_words"] == [1, 0, 2, 1, 2, 0, 1]


def test_a_part_of_the_documents_with_bad_words_stays() -> None:
    texts = [f"ugly {n}" for n in range(2_000)]
    rules = BadWords(words={"en": ("ugly",)}, keep_fraction=0.1)
    counts = asked(rules, texts)[0]["bad_words"]
    assert 0.06 < counts.count(0) / len(counts) < 0.14
    assert counts == asked(rules, texts)[0]["bad_words"]


def plain_words(text: str) -> list[str]:
    """The slow oracle of the kernel's words, for Latin texts."""
    lower = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return re.findall(r"[a-z0-9]+", lower)


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = plain_words(text)
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def test_runs_of_words_are_those_of_a_plain_search(tmp_path: Path) -> None:
    chance = random.Random(3)
    vocabulary = ["the", "The", "café", "cafe", "42", "4", "2", "a", "b", "Ünder"]
    joints = [" ", ", ", " - ", "\n", "... "]

    def sentence(words: int) -> str:
        return "".join(chance.choice(vocabulary) + chance.choice(joints) for _ in range(words))

    sets = {name: [sentence(chance.randint(1, 12)) for _ in range(4)] for name in ("one", "two")}
    for name, texts in sets.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    places = {name: str(tmp_path / f"{name}.jsonl") for name in sets}
    rules = Decontaminate(sets=places, ngram=4, min_words=3)
    documents = [sentence(chance.randint(0, 40)) for _ in range(300)]
    found = asked(rules, documents)[0]
    given = [text for texts in sets.values() for text in texts]
    full = {gram for text in given for gram in grams(text, 4)}
    short = {gram for text in given if len(plain_words(text)) == 3 for gram in grams(text, 3)}
    expected = [
        sum(gram in full for gram in grams(text, 4)) + sum(gram in short for gram in grams(text, 3))
        for text in documents
    ]
    assert found["contaminated_ngrams"] == expected
    assert 20 < sum(count > 0 for count in expected) < 290


def test_a_reject_names_the_sets_and_the_place(tmp_path: Path) -> None:
    question = "How many apples does Ann have if she buys three more of them today?"
    pq.write_table(pa.table({"question": [question, "Too short."]}), tmp_path / "maths.parquet")
    (tmp_path / "copies.txt").write_text(question.upper())
    places = {"maths": str(tmp_path / "maths.parquet"), "copies": str(tmp_path / "copies.txt")}
    rules = Decontaminate(sets=places, column="question")
    text = f"Été. Here it is: {question} Nobody knows. Too short."
    config = CleanConfig(rules=("decontaminate",), decontaminate=rules).prepared()
    found = decide(pa.array(["Nothing of it.", text, None]), config, Memory())
    assert found["drop_reason"].to_pylist() == [None, "contaminated", "null_text"]
    start = text.index("How")
    run = f"1 runs, the first of characters {start} to {start + len(question) - 1}"
    assert found["detail"][1].as_py() == f"maths, copies: {run}"
    cutting = rules.model_copy(update={"action": "cut"})
    config = CleanConfig(rules=("decontaminate",), decontaminate=cutting).prepared()
    left = decide(pa.array(["Nothing of it.", text, question]), config, Memory())
    assert left["text"].to_pylist()[:2] == [
        "Nothing of it.",
        "Été. Here it is: ? Nobody knows. Too short.",
    ]


def test_characters_are_words_where_there_are_no_spaces(tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("我今天早上在公园里看见了一只猫")
    rules = Decontaminate(sets={"zh": str(tmp_path / "set.txt")})
    texts = ["昨天她说：我今天早上在公园里看见了一只猫。", "我今天早上在家里"]
    assert asked(rules, texts)[0]["contaminated_ngrams"] == [3, 0]


def test_lines_that_were_decoded_wrongly_are_put_right_and_others_stay() -> None:
    right = "Voilà un été à Zürich – «naïve» façade.\nGut."
    wrong = right.encode().decode("cp1252")
    texts = [right, wrong, "plain", "Ã la carte", "日本語のテキスト", "", "That\x92s it"]
    signals, left = asked(Repair(), texts)
    assert left == [right, right, "plain", left[3], "日本語のテキスト", "", "That’s it"]
    assert signals["repaired_lines"][:3] == [0, 1, 0]


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no list"):
        lists.entries(str(tmp_path / "none"))
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{')
    with pytest.raises(InputError, match="no JSON"):
        lists.texts(str(tmp_path / "a.jsonl"), "text")
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match="no column `body`"):
        lists.texts(str(tmp_path / "a.jsonl"), "body")
    assert lists.texts(str(tmp_path), "text") == ["a"]
    with pytest.raises(ValidationError, match="at most 64 sets"):
        Decontaminate(sets={str(n): "x" for n in range(65)})


def test_another_list_is_other_work(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("bad.org")
    config = CleanConfig(rules=("url",), url=URL(lists=(str(tmp_path / "list"),)))
    before = config.lookups()
    (tmp_path / "list").write_text("bad.com")
    assert config.lookups() != before
    assert CleanConfig(url=config.url).lookups() == []
