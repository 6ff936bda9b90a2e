"""Small images and sounds of two labels each, as files in folders."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

SMALL = [
    "spark.master=local[2]", "spark.driver.memory=1500m", "spark.sql.shuffle.partitions=2",
    "spark.databricks.delta.snapshotPartitions=1",
]  # fmt: skip
COLOURS = {"blue": (40, 40, 220), "red": (220, 40, 40)}
PITCHES = {"high": 1500, "low": 250}
EACH = 20
# Settings with which the pipelines learn both in seconds.
LEARNING = {
    "images": ["images.network.image_size=16", "images.network.hidden_size=8"],
    "audio": [r"audio_ingest.source.label_pattern=(high|low)_\w+\.wav", "audio.task.window_seconds=0.3"],
}


def settings(name: str, folder: Path) -> list[str]:
    """The words of the command line for the pipeline `images` or `audio` on the files below a folder."""
    own = [f"{name}.ranks=1", f"{name}.max_epochs=12", f"{name}.validation_fraction=0.3"]
    return [f"{name}_ingest.source.path={folder / name}", *own, *LEARNING[name]]


def png(colour: tuple[int, int, int], seed: int) -> bytes:
    """A noisy image of a colour."""
    noise = np.random.default_rng(seed).integers(-30, 30, (24, 20 + seed % 9, 3))
    sink = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def wav(pitch: int, seed: int) -> bytes:
    """A noisy tone of 0.3 seconds."""
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * (pitch + 5 * seed) * np.arange(2400) / 8000) + rng.normal(0, 0.05, 2400)
    sink = io.BytesIO()
    soundfile.write(sink, 0.4 * wave, 8000, format="WAV")
    return sink.getvalue()


def write(root: Path) -> Path:
    """20 images and 20 sounds of each label, one image twice, and one file of each kind that is cut off."""
    for label, colour in COLOURS.items():
        (root / "images" / label).mkdir(parents=True)
        for number in range(EACH):
            (root / "images" / label / f"{number}.png").write_bytes(png(colour, number))
    (root / "audio").mkdir()
    for label, pitch in PITCHES.items():
        for number in range(EACH):
            (root / "audio" / f"{label}_{number}.wav").write_bytes(wav(pitch, number))
    (root / "images" / "red" / "again.png").write_bytes(png(COLOURS["red"], 3))
    (root / "images" / "red" / "cut.png").write_bytes(png(COLOURS["red"], 30)[:200])
    (root / "audio" / "low_cut.wav").write_bytes(wav(300, 9)[:40])
    return root
