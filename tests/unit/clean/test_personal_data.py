"""Personal data and secrets: what is found, what is not, what stands there instead."""

from __future__ import annotations

import random
import string
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.errors import ConfigError
from sparkml.frame.schemas import CLEAN
from sparkml.kernels.texts import as_column, read_texts
from sparkml.kernels.words import Memory
from sparkml.stages.clean.batches import clean_batches, decide
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.personal.checks import digits_of, luhn
from sparkml.stages.clean.personal.find import find, masks, replaced
from sparkml.stages.clean.personal.kinds import KINDS
from sparkml.stages.clean.rules.pii import PII

FOUND = {
    "email": [
        "jane.doe@example.com",
        "o'brien+tag@mail.example.co.uk",
        "x_y-z%1@sub-domain.example.travel",
        "root@[8.8.8.8]",
    ],
    "ip": ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2001:4860:4860:0:0:0:0:8888"],
    "iban": [
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "FR14 2004 1010 0505 0001 3M02 606",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "NL91 ABNA 0417 1643 00",
    ],
    "card": [
        "4111 1111 1111 1111",
        "5555-5555-5555-4444",
        "378282246310005",
        "6011111111111117",
        "30569309025904",
    ],
    "national_id": [
        "219-09-9999",
        "AB 12 34 56 C",
        "12345678Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "2 55 08 14 168 025 38",
        "86095742719",
        "44051401359",
        "529.982.247-25",
        "811218-9876",
        "131052-308T",
        "756.9217.0769.85",
        "2341 2341 2346",
        "11010519491231002X",
    ],
    "phone": [
        "+49 30 123456",
        "+1 (212) 555-0123",
        "+44 20 7946 0958",
        "0044 20 7946 0958",
        "(212) 555-0123",
        "212-555-0123",
        "+33.1.23.45.67.89",
    ],
    # Put together here: nobody's scanner shall take this file for one with secrets.
    "secret": [
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "a1B2c3D4e5" * 4,
        "xoxb-" + "123456789012-abcdefGHIJ12",
        "AIza" + "Sy0123456789abcdefghijklmnopqrstuvw",
        "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "sk-" + "proj-0123456789abcdefABCDEF",
    ],
}
NOT_FOUND = [
    "In 1999, 2000 and 2001 there were 1,234,567 of them, 3.14159265 each.",
    "Version 1.2.3.4.5 of 2024-01-15 12:30:45, see 10.1038/s41586-020-2649-2.",
    "The networks 192.168.1.1, 10.0.0.1, 127.0.0.1, 172.16.0.1, 169.254.1.1 and 255.255.255.255 are not public.",
    "Nor are ::1, fe80::1, fd00::1 and 2001:db8::1; std::vector and a::b are no addresses.",
    "4111 1111 1111 1112 and 0000 0000 0000 0000 are no cards.",
    "DE89 3704 0044 0532 0130 01 is no account, and GB29 NWBK is too short.",
    "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567 and 123-45-0000 were never given.",
    "ISBN 978-3-16-148410-0, order no. 123456789, MAC 00:1B:44:11:3A:B7.",
    "me at example dot com, @handle, a@b, user@localhost",
    "d41d8cd98f00b204e9800998ecf8427e is a checksum, and https://example.org/a1b2c3/index-2.html a link.",
]
EVERY = [(kind, text) for kind, texts in FOUND.items() for text in texts]
MASK = masks(dict.fromkeys(KINDS, "mask"), b"")


def masked(text: str) -> str:
    """The text with masks of every kind."""
    texts = read_texts(pa.array([text]))
    column = as_column(replaced(texts, find(texts, tuple(KINDS)), MASK), pa.string())
    column.validate(full=True)
    return str(column[0].as_py())


@pytest.mark.parametrize(("kind", "text"), EVERY)
@pytest.mark.parametrize(
    "around", ["{}", "Write: {}, please.", "({})", "\u00e9{}\n\u4e16", "<p>{}</p>", '"{}"']
)
def test_each_kind_is_found_alone_and_in_a_sentence(kind: str, text: str, around: str) -> None:
    if around[0] == "\u00e9":
        around = "\u00e9 {}\n\u4e16"
    assert masked(around.format(text)) == around.format(f"<{kind.upper()}>")


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Tel.: 030/1234567, Fax 030 1234568", "Tel.: <PHONE>, Fax <PHONE>"),
        ("phone number: 555 0123 99", "phone number: <PHONE>"),
        ("password = hunter2hunter2hunter2h", "password = <SECRET>"),
        ('{"api_key": "0123456789abcdef0123"}', '{"api_key": "<SECRET>"}'),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\nabc+/=\n-----END RSA PRIVATE KEY-----\nend",
            "<SECRET>\nend",
        ),
        ("a@b.org,c@d.org;e@f.org", "<EMAIL>,<EMAIL>;<EMAIL>"),
        ("8.8.8.8 8.8.4.4", "<IP> <IP>"),
    ],
)
def test_signs_before_a_value(text: str, left: str) -> None:
    assert masked(text) == left


def test_nothing_is_found_across_documents() -> None:
    texts = read_texts(
        pa.array(
            [
                "4111 1111 ",
                "1111 1111",
                "jane@",
                "example.com",
                None,
                "-----BEGIN PRIVATE KEY-----",
                "-----END PRIVATE KEY-----",
            ]
        )
    )
    assert find(texts, tuple(KINDS)) == []


def test_a_slice_of_a_column_is_its_own(tmp_path: object) -> None:
    column = pa.array(["no 8.8.8.8", "at a@b.org", "x"])
    texts = read_texts(column.slice(1))
    found = find(texts, tuple(KINDS))
    assert [(one.document, one.kind) for one in found] == [(0, "email")]
    assert as_column(replaced(texts, found, MASK), pa.string()).to_pylist() == ["at <EMAIL>", "x"]


@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from([text for _, text in EVERY])), max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_text_stays_valid_and_a_second_look_finds_nothing(pieces: list[str]) -> None:
    once = masked("; ".join(pieces))
    assert masked(once) == once


def test_planted_data_is_found_in_prose() -> None:
    """Precision and recall of values made by rule, set into text that has numbers of its own."""
    draw = random.Random(5)
    prose = (
        "In 1984 some 12,500 people paid $3.50 for No. 17 on page 204 of volume 3, ca. 98.6 percent by 12:45."
    )
    made = {
        "card": lambda: _card(draw),
        "email": lambda: (
            f"{_word(draw)}.{_word(draw)}@{_word(draw)}.{draw.choice(['org', 'com', 'co.uk', 'de'])}"
        ),
        "ip": lambda: (
            f"{draw.randint(11, 99)}.{draw.randint(0, 255)}.{draw.randint(0, 255)}.{draw.randint(1, 255)}"
        ),
        "phone": lambda: f"+{draw.randint(30, 49)} {draw.randint(20, 99)} {draw.randint(100000, 9999999)}",
        "national_id": lambda: f"{draw.randint(100, 665)}-{draw.randint(10, 99)}-{draw.randint(1000, 9999)}",
    }
    planted: list[list[tuple[str, str]]] = []
    texts: list[str] = []
    for _ in range(300):
        words, mine = [], []
        for word in prose.split():
            words.append(word)
            if draw.random() < 0.2:
                kind = draw.choice(list(made))
                mine.append((kind, made[kind]()))
                words.append(mine[-1][1] + ",")
        planted.append(mine)
        texts.append(" ".join(words))
    read = read_texts(pa.array(texts))
    content = read.data.tobytes()
    found: list[list[tuple[str, str]]] = [[] for _ in texts]
    for one in find(read, tuple(KINDS)):
        found[one.document].append((one.kind, content[one.start : one.end].decode()))
    right = sum(len(set(a) & set(b)) for a, b in zip(planted, found, strict=True))
    missed = [sorted(set(a) - set(b)) for a, b in zip(planted, found, strict=True)]
    assert right / sum(map(len, planted)) > 0.99, missed[:20]
    assert right / sum(map(len, found)) > 0.99


def _word(draw: random.Random) -> str:
    return "".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9)))


def _card(draw: random.Random) -> str:
    while True:
        number = "4" + "".join(draw.choices(string.digits, k=15))
        if luhn(digits_of(number.encode())):
            return " ".join(number[at : at + 4] for at in range(0, 16, 4))


def decided(config: CleanConfig, text: str, **given: pa.Array) -> dict[str, object]:
    """The decision on one document."""
    found = decide(pa.array([text]), config.prepared(), Memory(), None, given)
    return {name: column[0].as_py() for name, column in found.items()}


def test_every_column_is_masked_and_counted() -> None:
    config = CleanConfig(rules=("pii",))
    meta = pa.array([[("author", '"a@b.org"'), ("page", "7")]], pa.map_(pa.string(), pa.string()))
    found = decided(
        config,
        "Mail jane@example.com from 8.8.8.8.",
        title=pa.array(["by a@b.org"]),
        url=pa.array(["https://x.org/?q=a@b.org"]),
        text_b=pa.array([None], pa.string()),
        meta=meta,
    )
    assert found["text"] == "Mail <EMAIL> from <IP>."
    assert (found["title"], found["url"], found["text_b"]) == ("by <EMAIL>", "https://x.org/?q=<EMAIL>", None)
    assert found["meta"] == [("author", '"<EMAIL>"'), ("page", "7")]
    assert (found["signals"]["pii_email"], found["signals"]["pii_ip"]) == (4, 1)
    assert found["drop_reason"] is None


def test_a_kind_may_drop_or_stay() -> None:
    config = CleanConfig(rules=("pii",), pii=PII(secret="drop", ip="keep"))
    found = decided(config, "8.8.8.8 has " + FOUND["secret"][0])
    assert (found["drop_reason"], found["text"]) == ("pii_secret", None)
    assert decided(config, "8.8.8.8 has none")["text"] == "8.8.8.8 has none"


def test_hashes_need_a_key_and_follow_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a key that nobody can guess"):
        PII(email="hash")
    config = CleanConfig(rules=("pii",), pii=PII(email="hash", key="env:PII_KEY"))
    monkeypatch.delenv("PII_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"the key of clean\.pii is not there"):
        config.prepared()
    hashed = []
    for key in ("first key", "second key", "first key"):
        monkeypatch.setenv("PII_KEY", key)
        hashed.append(decided(config, "Jane@example.com, jane@example.com and joe@example.com")["text"])
    first, second, third = str(hashed[0]).replace(" and", ",").split(", ")
    assert first == second != third
    assert first.startswith("<EMAIL:")
    assert hashed[0] == hashed[2] != hashed[1]
    assert "first key" not in config.prepared().model_dump_json() + repr(config.prepared())


@pytest.mark.parametrize(
    "piece",
    [
        "4 ",
        "a@",
        "a@b.",
        "1.",
        "::",
        "a:",
        "eyJ-",
        "-----BEGIN PRIVATE KEY-----",
        "AA11 ",
        "+1 ",
        "sk-",
        "00",
        "password=",
    ],
)
def test_texts_made_to_take_long_do_not(piece: str) -> None:
    started = time.process_time()
    masked(piece * (200_000 // len(piece)))
    assert time.process_time() - started < 20


PASSED = ("doc_id", "title", "url", "text_b", "tokens", "tags", "media", "meta")


def cleaned(
    config: CleanConfig,
    sentences: list[list[str] | None],
    texts: list[str | None],
    title: str = "mail a@b.example",
) -> list[dict]:
    """Rows of words, and of running text where there are none, as the stage cleans them."""
    columns = {
        name: pa.nulls(len(texts), CLEAN.field(name).type) for name in ("url", "text_b", "media", "meta")
    }
    batch = pa.RecordBatch.from_pydict(
        {
            "doc_id": pa.array([str(number) for number in range(len(texts))]),
            "text": pa.array(texts, pa.string()),
            "title": pa.array([title] * len(texts)),
            "tokens": pa.array(sentences, CLEAN.field("tokens").type),
            "tags": pa.array(
                [["O"] * len(words) if words else None for words in sentences], CLEAN.field("tags").type
            ),
            **columns,
        }
    )
    (found,) = clean_batches(config.prepared(), PASSED, iter([batch]))
    return found.to_pylist()


def test_of_words_with_tags_each_of_what_is_found_is_replaced() -> None:
    words = [
        ["Write", "to", "jane.doe@example.com", ",", "now"],
        ["Pay", "4111", "1111", "1111", "1111", "today"],
        ["Nothing", "here"],
    ]
    texts = [*(" ".join(one) for one in words), "Running text of jane.doe@example.com."]
    rows = cleaned(CleanConfig(rules=("pii",)), [*words, None], texts)
    assert [row["tokens"] for row in rows] == [
        ["Write", "to", "<EMAIL>", ",", "now"],
        ["Pay", "<CARD>", "<CARD>", "<CARD>", "<CARD>", "today"],
        ["Nothing", "here"],
        None,
    ]
    assert [row["text"] for row in rows[:3]] == [" ".join(row["tokens"]) for row in rows[:3]]
    assert rows[3]["text"] == "Running text of <EMAIL>."
    assert [len(row["tags"]) for row in rows[:3]] == [5, 6, 2]
    assert {row["title"] for row in rows} == {"mail <EMAIL>"}
    assert [row["signals"]["pii_card"] for row in rows] == [0, 1, 0, 0]


def test_a_text_that_differs_from_its_words_stays_where_nothing_is_found() -> None:
    words = [["Hello", ",", "world"], ["Mail", "a@b.example", "!"]]
    rows = cleaned(CleanConfig(rules=("pii",)), words, ["Hello,  world", "Mail a@b.example!"])
    assert [row["text"] for row in rows] == ["Hello,  world", "Mail <EMAIL> !"]


def test_words_may_be_dropped_for_what_is_found_and_for_nothing_else() -> None:
    words = [["Write", "to", "jane.doe@example.com"], ["Nothing", "here"]]
    config = CleanConfig(rules=("gopher_quality", "pii"), pii=PII(email="drop"))
    rows = cleaned(config, words, [" ".join(one) for one in words], "Title")
    assert [row["drop_reason"] for row in rows] == ["pii_email", None]
    assert rows[0]["text"] is None
    assert rows[1]["text"] == "Nothing here"
    assert rows[1]["signals"]["pii_email"] == 0
    assert rows[1]["signals"]["n_words"] == 2
