"""Who may ask, and how often."""

import pytest

from sparkml.errors import ConfigError
from sparkml.serving.tokens import Caller, Rate, Tokens, parse_tokens

ONE, TWO = "a" * 24, "b" * 24


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _bearer(token: str) -> str:
    return f"Bearer {token}"


def test_lines_name_tokens_and_administrators():
    text = f"# who\n{ONE}\nalice {TWO}  # of the web team\n\nroot {'c' * 24} admin\n"
    found = [token.caller for token in parse_tokens(text, "f")]
    assert found == [Caller("token2"), Caller("alice"), Caller("root", admin=True)]


@pytest.mark.parametrize("line", ["short", "name short", f"a {ONE} b c", f"a {ONE} root"])
def test_a_line_that_is_no_token_is_named_without_its_words(line):
    with pytest.raises(ConfigError) as error:
        parse_tokens(f"{TWO}\n{line}", "tokens.txt")
    assert "tokens.txt, line 2" in str(error.value)
    assert ONE not in str(error.value)
    assert "short" not in str(error.value).replace("too short", "")


@pytest.mark.parametrize(
    "header",
    [None, "", ONE, f"Basic {ONE}", "Bearer", _bearer(ONE[:-1]), _bearer(ONE + "a"), _bearer("ä" * 24)],
)
def test_who_does_not_show_the_whole_token_is_nobody(tmp_path, header):
    (tmp_path / "t").write_text(ONE)
    assert Tokens(str(tmp_path / "t"), "NONE_SET").caller(header) is None


def test_tokens_are_exchanged_without_a_restart(tmp_path):
    file, clock = tmp_path / "t", Clock()
    file.write_text(f"alice {ONE}")
    tokens = Tokens(str(file), "NONE_SET", clock)
    assert tokens.caller(_bearer(ONE)) == Caller("alice")
    file.write_text(f"alice {ONE}\nalice2 {TWO}")
    clock.now += 2
    assert [tokens.caller(_bearer(one)) for one in (ONE, TWO)] == [Caller("alice"), Caller("alice2")]
    file.write_text(f"alice2 {TWO}")
    clock.now += 2
    assert [tokens.caller(_bearer(one)) for one in (ONE, TWO)] == [None, Caller("alice2")]


@pytest.mark.parametrize("content", [None, "", "bad", b"\xff\xfe\x00"])
def test_a_file_that_is_being_written_takes_nobodys_token(tmp_path, content):
    file, clock = tmp_path / "t", Clock()
    file.write_text(ONE)
    tokens = Tokens(str(file), "NONE_SET", clock)
    file.unlink()
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    clock.now += 2
    assert tokens.caller(_bearer(ONE)) == Caller("token1")


def test_tokens_may_stand_in_a_variable(monkeypatch):
    monkeypatch.setenv("SOME_TOKENS", f"alice {ONE},root {TWO} admin")
    tokens = Tokens("", "SOME_TOKENS")
    assert tokens.caller(_bearer(TWO)) == Caller("root", admin=True)


def test_without_any_token_nothing_is_served(tmp_path):
    with pytest.raises(ConfigError, match="no token says who may ask"):
        Tokens("", "NONE_SET")
    (tmp_path / "empty").write_text("# nobody yet\n")
    with pytest.raises(ConfigError, match="no token in the file"):
        Tokens(str(tmp_path / "empty"), "NONE_SET")
    with pytest.raises(ConfigError, match="cannot be read"):
        Tokens(str(tmp_path / "missing"), "NONE_SET")


def test_a_rate_is_kept_on_average_and_allows_a_burst():
    clock = Clock()
    rate = Rate(10.0, clock)
    given = [rate.wait("alice") for _ in range(30)]
    assert given[:20] == [0.0] * 20
    assert given[20] == pytest.approx(0.1)
    clock.now += 1.0
    assert [rate.wait("alice") == 0 for _ in range(12)] == [True] * 10 + [False] * 2
    assert rate.wait("bob") == 0
    assert Rate(0.0).wait("alice") == 0
