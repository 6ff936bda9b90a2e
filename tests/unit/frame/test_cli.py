"""The command line: exit codes and messages of wrong use, before any session starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkml.cli.main import main
from sparkml.errors import MissingToolError
from sparkml.frame import session
from tests.command_line import kept_logging


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """The command line sets logging up for itself; the tests that follow get theirs back."""
    with kept_logging():
        yield


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "wash"], "pipeline `default` has no step `wash`"),
        (["run"], "Missing argument"),
        (["estimate", "clean.gopher_quality.min_words=3"], "no step is named"),
        (["run", "clean", "--env", "prod"], "there is no environment `prod`"),
        (
            ["run", "clean", "clean.gopher_quality.min_word=3"],
            "did you mean `clean.gopher_quality.min_words`",
        ),
        (["run-all", "--until", "clan"], "did you mean `clean`"),
        (["run-all", "--pipeline", "defualt"], "did you mean `default`"),
        (["plan", "--pipeline", "/no/such.yaml"], "there is no pipeline"),
        (["run-all", "lake"], "form key=value"),
        (["frobnicate"], "No such command"),
        (["run", "clean", "--no-such-option"], "No such option"),
    ],
)
def test_wrong_use_exits_with_2_and_says_why(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "command", ["run clean", "run-all", "plan", "runs", "trace kept d1", "steps", "report", "bundle"]
)
def test_every_command_takes_the_configuration_that_the_options_choose(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--pipeline", "mine", "--conf-dir", str(tmp_path)]) == 2
    shown = "".join(capsys.readouterr().err.split())
    assert str(tmp_path) in shown


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run-all", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "ingest.source.path" in shown
    assert "Exit codes" in shown
    assert "--pipeline" in shown
    assert main(["steps", "finetune"]) == 0
    assert "finetune.model " in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "0.1.0\n"


def test_a_lake_that_cannot_be_written_is_told_before_spark_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", "clean", f"lake={tmp_path / 'file' / 'lake'}"]) == 1
    assert "the lake cannot be written" in capsys.readouterr().err


def test_no_java_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingToolError, match="no Java"):
        session._local_settings({"spark.master": "local[2]"})
