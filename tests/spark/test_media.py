"""Images and sounds from files to scores, by their pipelines, in one lake."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests import identities
from tests.command_line import call

SMALL = [
    "spark.master=local[2]", "spark.driver.memory=1500m", "spark.sql.shuffle.partitions=2",
    "spark.databricks.delta.snapshotPartitions=1",
]  # fmt: skip
COLOURS = {"blue": (40, 40, 220), "red": (220, 40, 40)}
PITCHES = {"high": 1500, "low": 250}


def png(colour: tuple[int, int, int], seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-30, 30, (24, 20 + seed % 9, 3))
    sink = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def wav(pitch: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * (pitch + 5 * seed) * np.arange(2400) / 8000) + rng.normal(0, 0.05, 2400)
    sink = io.BytesIO()
    soundfile.write(sink, 0.4 * wave, 8000, format="WAV")
    return sink.getvalue()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images and 20 sounds of two labels each, one of them twice, and one that is cut off."""
    root = tmp_path_factory.mktemp("media")
    for label, colour in COLOURS.items():
        (root / "images" / label).mkdir(parents=True)
        for number in range(20):
            (root / "images" / label / f"{number}.png").write_bytes(png(colour, number))
    for label, pitch in PITCHES.items():
        (root / "audio").mkdir(exist_ok=True)
        for number in range(20):
            (root / "audio" / f"{label}_{number}.wav").write_bytes(wav(pitch, number))
    (root / "images" / "red" / "again.png").write_bytes(png(COLOURS["red"], 3))
    (root / "images" / "red" / "cut.png").write_bytes(png(COLOURS["red"], 30)[:200])
    (root / "audio" / "low_cut.wav").write_bytes(wav(300, 9)[:40])
    return root


def test_images_and_sounds_live_in_one_lake(spark: object, folders: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for name, words in (
        ("images", ["images.network.image_size=16", "images.network.hidden_size=8"]),
        (
            "audio",
            [r"audio_ingest.source.label_pattern=(high|low)_\w+\.wav", "audio.task.window_seconds=0.3"],
        ),
    ):
        settings = [f"{name}.ranks=1", f"{name}.max_epochs=12", f"{name}.validation_fraction=0.3"]
        source = f"{name}_ingest.source.path={folders / name}"
        code, shown = call("run-all", "--pipeline", name, f"lake={lake}", source, *SMALL, *settings, *words)
        assert code == 0, shown[-3000:]
    assert identities.violations(lake) == []
    rejects = identities.table(lake, "rejects").to_pylist()
    assert {(row["step"], row["drop_reason"]) for row in rejects} == {
        ("images", "broken_image"), ("audio", "broken_audio"),
    }  # fmt: skip
    assert identities.column(lake, "images_duplicates", "kind") == ["exact"]
    labels = {
        row["doc_id"]: row["label"]
        for table in ("images_kept", "audio_kept")
        for row in identities.table(lake, table).select(["doc_id", "label"]).to_pylist()
    }
    scores = identities.table(lake, "scores").to_pylist()
    assert len(scores) == len(labels) == 41 + 41
    failed = [row for row in scores if row["error"]]
    assert sorted(row["error"].split()[0] for row in failed) == ["broken_audio", "broken_image"]
    good = [row for row in scores if not row["error"]]
    right = [row["prediction"] == labels[row["doc_id"]] for row in good]
    assert np.mean(right) > 0.9
    for step, runs in (("images", 1), ("audio", 1)):
        mine = [run for run in identities.succeeded(lake) if run["step"] == step]
        assert len(mine) == runs
        assert dict(mine[0]["metrics"])["accuracy"] > 0.8
        assert dict(mine[0]["metrics"])["baseline_accuracy"] > 0.5
