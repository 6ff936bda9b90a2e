from __future__ import annotations

import pytest

from sparkml.report.differences import CHANGED, FOLDED, SAME, Piece, compare


def texts(pieces: tuple[Piece, ...], kind: str) -> list[str]:
    return [piece.text for piece in pieces if piece.kind == kind]


def test_one_word_differs() -> None:
    found = compare("the quick brown fox", "the slow brown fox")
    assert found.left == (
        Piece(SAME, "the "),
        Piece(CHANGED, "quick"),
        Piece(SAME, " "),
        Piece(SAME, "brown fox"),
    )
    assert texts(found.right, CHANGED) == ["slow"]
    assert not found.cut


def test_a_word_that_only_one_side_has_leaves_the_other_unmarked() -> None:
    found = compare("returns an array", "returns an empty array")
    assert texts(found.left, CHANGED) == []
    assert texts(found.right, CHANGED) == ["empty"]


def test_other_blanks_are_no_difference() -> None:
    found = compare("a  b\nc", "a b c")
    assert texts(found.left, CHANGED) == texts(found.right, CHANGED) == []


def test_a_long_equal_part_is_folded_with_some_words_around_the_difference() -> None:
    head = [f"h{n}" for n in range(50)]
    tail = [f"t{n}" for n in range(50)]
    found = compare(" ".join([*head, "old", *tail]), " ".join([*head, "new", *tail]), context=3)
    assert found.left == (
        Piece(FOLDED, "47 equal words"),
        Piece(SAME, "h47 h48 h49 "),
        Piece(CHANGED, "old"),
        Piece(SAME, " "),
        Piece(SAME, "t0 t1 t2 "),
        Piece(FOLDED, "47 equal words"),
    )


def test_both_sides_show_the_same_words_around_what_one_side_adds() -> None:
    words = [f"w{n}" for n in range(40)]
    found = compare(" ".join(words), " ".join([*words[:20], "added", *words[20:]]), context=2)
    shown = [piece.text for piece in found.left]
    assert shown == ["18 equal words", "w18 w19 ", "w20 w21 ", "18 equal words"]
    assert [piece.text for piece in found.right] == [*shown[:2], "added", " ", *shown[2:]]


def test_only_the_beginning_of_a_large_difference_is_compared() -> None:
    left, right = " ".join(f"a{n}" for n in range(1000)), " ".join(f"b{n}" for n in range(500))
    found = compare(left, right, max_words=100)
    assert found.cut
    assert texts(found.left, FOLDED) == ["900 more words"]
    assert texts(found.right, FOLDED) == ["400 more words"]
    for side, words in ((found.left, left), (found.right, right)):
        assert " ".join(texts(side, CHANGED)).split() == words.split()[:100]


@pytest.mark.parametrize(
    ("left", "right"), [("", ""), ("", "a b"), ("a b", ""), ("a", "a a a"), ("x y x", "y")]
)
def test_nothing_is_lost_and_nothing_is_added(left: str, right: str) -> None:
    found = compare(left, right)
    assert "".join(piece.text for piece in found.left) == left
    assert "".join(piece.text for piece in found.right) == right
