"""Which parts of a text matter: those without which the score is another."""

from sparkml.serving.occlusion import MOST_PARTS, Part, effects, parts_of, without_each


def test_parts_are_words_that_cover_the_text():
    text = " Never  again,\nplease. "
    assert [text[part.start : part.end] for part in parts_of(text)] == ["Never  ", "again,\n", "please. "]
    assert without_each("a b", [Part(0, 2), Part(2, 3)]) == ["a b", "b", "a "]
    assert parts_of("   ") == []


def test_a_long_text_has_as_many_parts_as_are_allowed():
    text = "word " * 1000
    parts = parts_of(text)
    assert len(parts) <= MOST_PARTS
    assert "".join(text[part.start : part.end] for part in parts) == text


def test_an_effect_is_what_the_score_loses():
    def said(good: float) -> dict:
        best = "good" if good > 0.5 else "bad"
        return {
            "prediction": best,
            "score": max(good, 1 - good),
            "scores": [("good", good), ("bad", 1 - good)],
        }

    found = effects("very good", [Part(0, 5), Part(5, 9)], [said(0.9), said(0.8), said(0.2)], None)
    assert (found["prediction"], found["label"], found["score"]) == ("good", "good", 0.9)
    assert [(part["text"], part["effect"]) for part in found["parts"]] == [("very ", 0.1), ("good", 0.7)]
    other = effects("very good", [Part(0, 9)], [said(0.9), said(0.4)], "bad")
    assert [part["effect"] for part in other["parts"]] == [-0.5]
    assert effects("a", [Part(0, 1)], [said(0.9), said(0.9)], "no such label")["parts"][0]["effect"] is None
