"""Every shipped pipeline in one lake: text and its entities, intents, images, sounds, each by its file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkml.frame.config import load_config
from tests import identities, media
from tests.command_line import call
from tests.way import Way, overrides

_PEOPLE, _PLACES = ("Ada", "Grace", "Alan", "Edith"), ("London", "Paris", "Oslo", "Rome")
_ASKS = {"card": "my card has not arrived yet", "cash": "how can I get cash from a machine"}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Files of each kind."""
    root = media.write(tmp_path / "sources")
    sentences = [
        f"{person} B-PER\nwent O\nto O\n{place} B-LOC\non O\nday O\n{day} O\n"
        for person in _PEOPLE
        for place in _PLACES
        for day in range(4)
    ]
    (root / "ner").mkdir()
    (root / "ner" / "all.conll").write_text("\n".join(sentences))
    rows = [f"{text} {number},{label}" for label, text in _ASKS.items() for number in range(30)]
    (root / "intents.csv").write_text("\n".join(["text,category", *rows]) + "\n")
    return root


def test_five_pipelines_share_a_lake(way: Way, sources: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    few = ["ranks=1", "max_steps=24", "batch_size=8"]
    pipelines = {
        "default": overrides(lake, way.source),
        "ner": [f"ner_ingest.source.path={sources / 'ner'}", *(f"ner.{word}" for word in few)],
        "intents": [
            f"intents_ingest.source.path={sources / 'intents.csv'}",
            "intents_ingest.source.label_field=category",
            *(f"intents.{word}" for word in few),
        ],
        "images": media.settings("images", sources),
        "audio": media.settings("audio", sources),
    }
    for name, words in pipelines.items():
        code, shown = call("run-all", "--pipeline", name, f"lake={lake}", *media.SMALL, *words)
        assert code == 0, shown[-3000:]
    assert identities.violations(lake) == []
    # The demo's steps are as if they were alone.
    code, shown = call("plan", *overrides(lake, way.source))
    assert code == 0, shown[-3000:]
    assert shown.count("up to date") == len(load_config("local").pipeline.steps) - 1, shown[-3000:]
    models = {row["model_id"] for row in identities.table(lake, "models").to_pylist()}
    own = {"classifier", "classifier-int8", "classifier_minilm", "encoder"}
    assert own | {"ner", "intents", "images", "audio"} == models
    scores = identities.table(lake, "scores").to_pylist()
    assert {row["step"] for row in scores} == {
        "score", "ner_score", "intents_score", "images_score", "audio_score",
    }  # fmt: skip
    spans = [span["label"] for row in scores if row["step"] == "ner_score" for span in row["spans"] or ()]
    assert {"LOC", "PER"} <= set(spans)
    measured = {row["step"]: dict(row["metrics"]) for row in identities.table(lake, "evaluations").to_pylist()
                if row["slice"] == "all"}  # fmt: skip
    assert measured["intents"]["accuracy"] > 0.9
    assert measured["audio"]["accuracy"] > 0.8
    page = (lake / "_artifacts" / "report" / "report.html").read_text()
    for step in ("ner", "intents", "images", "audio", "finetune"):
        assert f">{step}<" in page or f"`{step}`" in page or step in page
