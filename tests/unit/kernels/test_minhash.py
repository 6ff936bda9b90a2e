"""Signatures and similarities beside a slow Python reading of the same rules, and beside the theory."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.minhash import band_hashes, jaccard, permutations, shingle_sets

PUNCTUATION = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~—–”“„’´«»％〈〉、━【】「」，；：．。《》∶（）？！～…►"
    + "".join(chr(point) for point in [*range(9), 11, 12, *range(13, 32), *range(127, 160)])
)
NUMBER = re.compile(r"\d+([.,،٫⎖⎗⎘]\d+)?")
MASK = (1 << 64) - 1

words = st.text(alphabet=st.sampled_from("abcXYZ019 .,،-'’\n\tİßéΣςńǅ漢각ﬁ²½e\u0301\u00a0…"), max_size=120)
any_text = st.one_of(words, st.text(max_size=60))


def normalise(text: str) -> str:
    """The reference's `simplify_text`; sigmas are one letter."""
    text = text.lower().replace("ς", "σ")
    text = NUMBER.sub("0", text)
    text = text.translate(str.maketrans(PUNCTUATION, " " * len(PUNCTUATION)))
    text = re.sub(r"\s+", " ", text.strip())
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn").strip()


def mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def word_hash(word: str) -> int:
    value = 0xCBF29CE484222325
    for char in word:
        value = ((value ^ ord(char)) * 0x100000001B3) & MASK
    return mix(value)


def shingles_slowly(text: str, ngram: int) -> list[int]:
    hashes = [word_hash(word) for word in normalise(text).split()]
    found = set()
    for first in range(len(hashes) - ngram + 1):
        value = 0x9E3779B97F4A7C15
        for word in hashes[first : first + ngram]:
            value = ((value ^ word) * 0xBF58476D1CE4E5B9) & MASK
            value ^= value >> 32
        found.add(mix(value))
    return sorted(found)


def bands_slowly(text: str, n_bands: int, n_rows: int, ngram: int, seed: int) -> list[int]:
    shingles = shingles_slowly(text, ngram)
    if not shingles:
        return []
    multipliers, increments = (array.tolist() for array in permutations(n_bands * n_rows, seed))
    minima = [
        min((a * (shingle >> 32) + b) & 0xFFFFFFFF for shingle in shingles)
        for a, b in zip(multipliers, increments, strict=True)
    ]
    hashes = []
    for band in range(n_bands):
        value = mix(((band + 1) * 0x9E3779B97F4A7C15) & MASK)
        for minimum in minima[band * n_rows : (band + 1) * n_rows]:
            value = mix(((value ^ minimum) + 0x9E3779B97F4A7C15) & MASK)
        hashes.append(value - (1 << 64) if value >> 63 else value)
    return hashes


@settings(max_examples=200, deadline=None)
@given(st.lists(any_text, max_size=4), st.integers(1, 3))
def test_shingles_are_those_of_the_slow_reading(texts: list[str], ngram: int) -> None:
    found = [shingle_set.tolist() for shingle_set in shingle_sets(pa.array(texts, pa.string()), ngram)]
    assert found == [shingles_slowly(text, ngram) for text in texts]


@settings(max_examples=60, deadline=None)
@given(st.lists(words, max_size=3), st.integers(0, 5))
def test_band_hashes_are_those_of_the_slow_reading(texts: list[str], seed: int) -> None:
    found = band_hashes(pa.array(texts, pa.string()), n_bands=3, n_rows=2, ngram=2, seed=seed).to_pylist()
    assert found == [bands_slowly(text, 3, 2, 2, seed) for text in texts]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The QUICK, brown-fox!", "the quick brown fox"),
        ("pi is 3.14, or 22/7", "pi is 0 or 0 0"),
        ("1,234,567 rows and 1.2.3", "0 0 rows and 0 0"),
        ("٣٫١٤ Ünïcödé", "0 unicode"),
        ("v2.0beta 10km", "v0beta 0km"),
        ("ΟΔΟΣ οδος", "οδοσ οδοσ"),
    ],
)
def test_normalisation_by_example(text: str, normal: str) -> None:
    assert normalise(text) == normal
    assert shingle_sets(pa.array([text]), 1)[0].tolist() == shingles_slowly(normal, 1)


def test_code_points_fold_as_the_slow_reading_says() -> None:
    points = [
        *range(0xD800),
        *range(0xE000, 0x20000),
        *range(0x20000, 0x110000, 61),
        *range(0xE0100, 0xE01F0),
    ]
    texts = [
        "".join(f"a{chr(point)}b " for point in points[at : at + 4096]) for at in range(0, len(points), 4096)
    ]
    found = shingle_sets(pa.array(texts), 1)
    for text, shingle_set in zip(texts, found, strict=True):
        assert set(shingle_set.tolist()) == set(shingles_slowly(text, 1))


def test_short_empty_and_null_texts_have_no_signature() -> None:
    texts = pa.array(
        ["one two three four", "", None, "   \n ", "one two three four five", "... !!! --- ,,, ;;; ..."]
    )
    found = band_hashes(texts, n_bands=14, n_rows=8, ngram=5, seed=1).to_pylist()
    assert [len(bands) for bands in found] == [0, 0, 0, 0, 14, 0]
    assert band_hashes(pa.array([], pa.string()), n_bands=14, n_rows=8, ngram=5, seed=1).to_pylist() == []


def test_slices_and_wide_strings_give_the_same_hashes() -> None:
    texts = pa.array([f"document number {name} speaks about many things" for name in "abcdef"])
    whole = band_hashes(texts, n_bands=4, n_rows=2, ngram=3, seed=9).to_pylist()
    assert band_hashes(texts[2:5], n_bands=4, n_rows=2, ngram=3, seed=9).to_pylist() == whole[2:5]
    wide = texts.cast(pa.large_string())
    assert band_hashes(wide, n_bands=4, n_rows=2, ngram=3, seed=9).to_pylist() == whole


def test_the_hashes_are_fixed_for_ever() -> None:
    # Written down once: a change of these numbers makes signatures of older runs useless.
    found = band_hashes(pa.array(["the cat sat on the mat today"]), n_bands=2, n_rows=3, ngram=5, seed=17)
    assert found.to_pylist() == [[7177590089108835453, 4918112576147334402]]


def test_broken_utf8_stays_inside_its_document() -> None:
    broken = pa.array([b"a b c \xf0\x9f", b"\x80\x80 d e f", b"x \xe2\x82"]).cast(pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, broken.buffers())
    found = shingle_sets(texts, 1)
    assert [len(shingle_set) for shingle_set in found] == [4, 4, 2]
    assert found[2].tolist() == shingles_slowly("x \ufffd\ufffd", 1)


@settings(deadline=None)
@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_jaccard_is_that_of_sets(left: set[int], right: set[int]) -> None:
    expected = len(left & right) / len(left | right) if left and right else 0.0
    found = jaccard(np.array(sorted(left), dtype=np.uint64), np.array(sorted(right), dtype=np.uint64))
    assert found == expected


# The share of pairs with at least one common band, as published for 14 bands of 8 rows.
PUBLISHED = {0.5: 0.05, 0.6: 0.21, 0.7: 0.57, 0.75: 0.77, 0.8: 0.92, 0.85: 0.99, 0.9: 1.0}


@pytest.mark.parametrize(("similarity", "share"), PUBLISHED.items())
def test_candidates_follow_the_published_curve(similarity: float, share: float) -> None:
    assert 1 - (1 - similarity**8) ** 14 == pytest.approx(share, abs=0.006)
    found = planted_share(similarity, n_pairs=1500, size=200)
    # Four standard deviations of a share of 1500 pairs, and the two decimals of the table.
    assert found == pytest.approx(share, abs=4 * (share * (1 - share) / 1500) ** 0.5 + 0.01)


@pytest.mark.parametrize("size", [20, 60])
def test_short_documents_follow_the_curve_too(size: int) -> None:
    assert planted_share(0.75, n_pairs=1500, size=size) == pytest.approx(0.77, abs=0.055)


def planted_share(similarity: float, n_pairs: int, size: int) -> float:
    """Share of planted pairs with a common band: shingles of one word, so Jaccard is exact by construction."""
    shared = round(2 * size * similarity / (1 + similarity))
    random = np.random.default_rng(5)
    texts = []
    for pair in range(n_pairs):
        vocabulary = [f"w{pair}x{number}" for number in random.integers(0, 1 << 40, 2 * size - shared)]
        texts.append(" ".join(f"{word}q" for word in vocabulary[:size]))
        texts.append(" ".join(f"{word}q" for word in vocabulary[size - shared :]))
    return common_band_share([t.translate(LETTERS) for t in texts])


LETTERS = str.maketrans("0123456789", "abcdefghij")  # numbers would all become 0


def common_band_share(texts: list[str]) -> float:
    flat = band_hashes(pa.array(texts), n_bands=14, n_rows=8, ngram=1, seed=17).flatten().to_numpy()
    bands = flat.reshape(-1, 2, 14)
    return float((bands[:, 0] == bands[:, 1]).any(axis=1).mean())


def test_minima_estimate_the_similarity_without_bias() -> None:
    # One row a band: the share of equal bands is the estimator itself.
    similarity, size = 0.6, 150
    shared = round(2 * size * similarity / (1 + similarity))
    random = np.random.default_rng(11)
    texts = []
    for pair in range(300):
        names = [
            f"p{pair}n{number}".translate(LETTERS)
            for number in random.integers(0, 1 << 40, 2 * size - shared)
        ]
        texts += [" ".join(names[:size]), " ".join(names[size - shared :])]
    flat = band_hashes(pa.array(texts), n_bands=112, n_rows=1, ngram=1, seed=3).flatten().to_numpy()
    bands = flat.reshape(-1, 2, 112)
    true = shared / (2 * size - shared)
    assert float((bands[:, 0] == bands[:, 1]).mean()) == pytest.approx(true, abs=0.01)
