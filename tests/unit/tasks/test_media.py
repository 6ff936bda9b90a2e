"""Images and sounds: decoded as their formats say, changed only in training, scaled as transformers scales them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from PIL import Image
from transformers import ViTImageProcessorPil, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from sparkml.errors import InputError
from sparkml.feed.batches import count
from sparkml.inference.scorer import Scorer, rows_of
from sparkml.models.folder import CONFIG_FILE, write_json
from sparkml.models.heads import build_network
from sparkml.models.media import (
    PREPROCESSOR_FILE,
    PROCESSOR_FILE,
    AudioInputs,
    ImageInputs,
    read_audio_inputs,
    read_image_inputs,
)
from sparkml.models.networks import write_config
from sparkml.tasks.classify_audio import AudioOptions, ClassifyAudio
from sparkml.tasks.classify_images import ClassifyImages, ImageOptions
from sparkml.tasks.draws import Draws, draws_of
from sparkml.tasks.media import BadMediaError
from sparkml.tasks.mixing import mixed
from sparkml.tasks.pixels import decoded, erased, normalised, tensor_of, warped
from sparkml.tasks.task import Encoded, Rows, Targets, Task
from sparkml.tasks.waves import as_int16, changed, log_mel, masked, mel_filters, trimmed, waves_of
from sparkml.tasks.waves import decoded as heard

SMALL = ImageInputs(16, 16, 3, (0.5,) * 3, (0.5,) * 3, resample=2)
RATE = 8000
COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


def png(image: Image.Image, **how: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, how.pop("format", "PNG"), **how)
    return sink.getvalue()


def plain(colour: tuple[int, ...], size: tuple[int, int] = (20, 12), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def noisy(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def tone(
    pitch: float, seconds: float = 0.3, rate: int = RATE, channels: int = 1, format: str = "WAV"
) -> bytes:
    wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    sink = io.BytesIO()
    soundfile.write(sink, np.stack([wave] * channels, axis=1), rate, format=format)
    return sink.getvalue()


def examples(media: Sequence[bytes | None], labels: Sequence[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "doc_id": [f"d{number}" for number in range(len(media))],
            "split": ["train"] * len(media),
            "media": pa.array(media, pa.binary()),
            "label": pa.array(labels, pa.string()),
        }
    )


def images(folder: Path, network: dict[str, Any] | None = None, **options: Any) -> ClassifyImages:
    ClassifyImages.begin(network or {"model_type": "sparkml_resnet", "image_size": 16}, folder, None)
    targets = Targets(labels=("blue", "red"), counts={"blue": 4, "red": 4})
    return ClassifyImages(ImageOptions(**options), targets, read_image_inputs(folder))


def sounds(folder: Path, **options: Any) -> ClassifyAudio:
    ClassifyAudio.begin({"model_type": "sparkml_audio_cnn", "sampling_rate": RATE}, folder, None)
    targets = Targets(labels=("high", "low"), counts={"high": 4, "low": 4})
    given = {"window_seconds": 0.5, **options}
    return ClassifyAudio(AudioOptions(**given), targets, read_audio_inputs(folder))


def rows(task: Task[Any], media: Sequence[bytes], labels: Sequence[str]) -> Rows:
    return rows_of(task.encode(examples(media, labels), purpose="train").samples)


# Images: bytes to pixels.


def test_an_image_is_what_its_format_says() -> None:
    red = png(plain((255, 0, 0)))
    assert decoded(red, SMALL, 10**6).tolist() == np.full((16, 16, 3), (255, 0, 0)).tolist()
    grey = ImageInputs(8, 4, 1, (0.5,), (0.5,))
    assert decoded(red, grey, 10**6).shape == (8, 4, 1)
    half_seen = png(plain((0, 0, 0, 0), mode="RGBA"))
    assert decoded(half_seen, SMALL, 10**6).min() == 255  # on white
    palette = png(plain((0, 255, 0)).convert("P"))
    assert decoded(palette, SMALL, 10**6)[0, 0].tolist() == [0, 255, 0]
    deep = Image.fromarray(np.linspace(1000, 50_000, 400).reshape(20, 20).astype(np.uint16))
    pixels = decoded(png(deep), SMALL, 10**6)
    assert (int(pixels.min()), int(pixels.max())) == (pytest.approx(0, abs=9), pytest.approx(255, abs=9))
    bilevel = png(plain((1,), mode="1"))
    assert decoded(bilevel, SMALL, 10**6).min() == 255


def test_an_image_is_turned_as_its_camera_was_held() -> None:
    values = np.zeros((20, 20, 3), np.uint8)
    values[:10] = 255  # the upper half is bright
    image = Image.fromarray(values)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = decoded(png(image, format="JPEG", exif=exif, quality=95), SMALL, 10**6)
    assert turned[:, 12:].mean() > 200 > 50 > turned[:, :4].mean()


def test_the_middle_is_cut_out_where_the_shorter_side_is_scaled() -> None:
    values = np.zeros((30, 90, 3), np.uint8)
    values[:, 30:60] = 255
    middle = ImageInputs(15, 15, 3, (0.5,) * 3, (0.5,) * 3, shortest=15, resample=2)
    assert decoded(png(Image.fromarray(values)), middle, 10**6)[:, 1:-1].min() > 200


def test_a_large_jpeg_is_close_to_what_all_of_its_pixels_give() -> None:
    small = noisy(3, (32, 32)).resize((1600, 1600), Image.Resampling.BICUBIC)
    drafted = decoded(png(small, format="JPEG", quality=95), SMALL, 10**7)
    whole = np.asarray(small.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(drafted.astype(int) - whole).mean() < 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n nothing", "broken_image"),
        (png(noisy(1))[:700], "broken_image"),
        (png(noisy(1), format="JPEG")[:300], "broken_image"),
        (png(plain((1, 2, 3), (2000, 2000))), "image_too_large"),
    ],
)
def test_what_cannot_be_used_is_a_reject_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    task = images(tmp_path, max_pixels=10**6)
    good = png(plain((255, 0, 0)))
    found = task.encode(
        examples([good, data, None, b"", good], ["red", "red", "red", "red", None]), purpose="train"
    )
    assert found.samples.column("example").to_pylist() == [0]
    assert {reject.example: reject.reason for reject in found.rejects} == {
        1: reason, 2: "media_missing", 3: "media_missing", 4: "label_missing",
    }  # fmt: skip
    if reason == "image_too_large":
        (large,) = (reject for reject in found.rejects if reject.example == 1)
        assert (large.value, large.threshold) == (4_000_000, 10**6)


def test_pixels_reach_the_network_as_transformers_gives_them(tmp_path: Path) -> None:
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.4, 0.5, 0.6])
    processor.save_pretrained(tmp_path)
    write_config({"model_type": "vit", "image_size": 16}, tmp_path)
    inputs = read_image_inputs(tmp_path)
    image = noisy(5)
    ours = normalised(
        tensor_of(np.array([decoded(png(image), inputs, 10**6).tobytes()], object), inputs), inputs
    )
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("file", "settings", "expected"),
    [
        (PREPROCESSOR_FILE, {"size": 24}, (24, 24, 0)),
        (PREPROCESSOR_FILE, {"size": {"height": 24, "width": 20}}, (24, 20, 0)),
        (PREPROCESSOR_FILE, {"size": {"shortest_edge": 24}}, (24, 24, 24)),
        (PREPROCESSOR_FILE, {"size": {"shortest_edge": 24}, "crop_pct": 0.75}, (24, 24, 32)),
        (
            PREPROCESSOR_FILE,
            {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": {"height": 20, "width": 20}},
            (20, 20, 24),
        ),
        (PROCESSOR_FILE, {"image_processor": {"size": {"height": 24, "width": 20}}}, (24, 20, 0)),
        (PREPROCESSOR_FILE, {}, (32, 32, 0)),  # as the configuration says
    ],
)
def test_sizes_are_read_as_processors_write_them(
    tmp_path: Path, file: str, settings: Any, expected: Any
) -> None:
    write_config({"model_type": "vit", "image_size": 32, "num_channels": 3}, tmp_path)
    write_json(tmp_path / file, settings)
    inputs = read_image_inputs(tmp_path)
    assert (inputs.height, inputs.width, inputs.shortest) == expected


def test_a_size_that_nobody_names_is_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / CONFIG_FILE, {"model_type": "resnet"})
    with pytest.raises(InputError, match="how large"):
        read_image_inputs(tmp_path)


# Images: pixels to batches.


def test_images_are_changed_in_training_alone(tmp_path: Path) -> None:
    task = images(tmp_path, erase=0.5, turn=20)
    given = rows(task, [png(noisy(seed)) for seed in range(6)], ["red"] * 6)

    def pixels(draws: Draws | None) -> torch.Tensor:
        return task.collate(given, draws).inputs["pixel_values"]

    def drawn() -> Draws:
        return draws_of(3, 0, range(6))

    torch.testing.assert_close(pixels(None), pixels(None), atol=0, rtol=0)
    torch.testing.assert_close(pixels(drawn()), pixels(drawn()), atol=0, rtol=0)
    for one, other in zip(pixels(None), pixels(drawn()), strict=True):
        assert not torch.equal(one, other)
    assert pixels(None).shape == (6, 3, 16, 16)


def test_a_warp_without_settings_changes_nothing_and_a_flip_mirrors() -> None:
    given = torch.rand(40, 3, 8, 8)
    still = warped(given, draws_of(1, 0, range(40)), flip=False, crop=1.0, turn=0.0)
    torch.testing.assert_close(still, given)
    flipped = warped(given, draws_of(1, 0, range(40)), flip=True, crop=1.0, turn=0.0)
    mirrored = [torch.allclose(one, two.flip(-1), atol=1e-5) for one, two in zip(flipped, given, strict=True)]
    kept = [torch.allclose(one, two, atol=1e-5) for one, two in zip(flipped, given, strict=True)]
    assert all(one != two for one, two in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30


def test_a_crop_stays_inside_the_image() -> None:
    ramp = torch.linspace(0, 1, 32).view(1, 1, 1, 32).expand(50, 1, 32, 32)
    cut = warped(ramp, draws_of(1, 0, range(50)), flip=False, crop=0.5, turn=0.0)
    spread = cut[..., -1].amax(dim=(1, 2)) - cut[..., 0].amin(dim=(1, 2))
    assert spread.min() > 0.55
    assert (cut.diff(dim=3) > 0).float().mean() > 0.95  # nothing of the border is repeated


def test_erasing_takes_a_rectangle_of_some() -> None:
    given = torch.rand(60, 3, 16, 16)
    lost = (erased(given.clone(), draws_of(2, 0, range(60)), 0.5) != given).any(dim=1)
    share = lost.float().mean(dim=(1, 2))
    assert 0.3 < (share > 0).float().mean() < 0.7
    assert share.max() < 0.35


def test_mixed_labels_are_shares() -> None:
    given = torch.eye(4)
    together, shares = mixed(given, np.array([0, 1, 2, 3]), 4, 0.5, np.random.default_rng(3))
    torch.testing.assert_close(together, torch.from_numpy(shares))  # both are mixed alike
    assert shares.sum(axis=1) == pytest.approx(1)


# Sounds: bytes to waves.


def test_a_sound_is_one_channel_at_the_rate_of_the_network() -> None:
    wave = heard(tone(440, rate=16_000, channels=2, format="FLAC"), RATE, 60)
    assert len(wave) == pytest.approx(0.3 * RATE, abs=2)
    spectrum = np.abs(np.fft.rfft(wave))
    assert np.argmax(spectrum) * RATE / len(wave) == pytest.approx(440, abs=5)
    assert np.abs(wave[200:-200]).max() == pytest.approx(0.5, abs=0.02)
    assert len(heard(tone(440, seconds=3), RATE, 1.0)) == RATE  # no more is read than is heard
    kept = waves_of(np.array([as_int16(wave)], object))[0]
    assert kept == pytest.approx(wave, abs=1e-4)


def test_silence_at_both_ends_goes_and_silence_alone_stays() -> None:
    quiet = np.zeros(500, np.float32)
    loud = heard(tone(440), RATE, 60)
    assert len(trimmed(np.concatenate([quiet, loud, quiet]))) == pytest.approx(len(loud), abs=10)
    assert len(trimmed(quiet)) == 500


def test_a_long_sound_is_heard_in_windows_and_a_broken_one_is_a_reject(tmp_path: Path) -> None:
    task = sounds(tmp_path, max_windows=2, trim=False)
    found: Encoded = task.encode(
        examples([tone(440, seconds=9), tone(440)[:30], tone(300)], ["high"] * 3), purpose="train"
    )
    assert found.samples.column("example").to_pylist() == [0, 0, 2]
    assert found.samples.column("window").to_pylist() == [0, 1, 0]
    assert [len(wave.as_py()) for wave in found.samples.column("wave")][:2] == [RATE, RATE]
    assert [(reject.example, reject.reason) for reject in found.rejects] == [(1, "broken_audio")]


def test_a_rate_that_no_sound_has_is_refused_before_it_is_resampled() -> None:
    claimed = bytearray(tone(440))
    claimed[24:28] = (2**31 - 1).to_bytes(4, "little")  # the samples a second, in the header
    with pytest.raises(BadMediaError, match="2147483647 samples a second"):
        heard(bytes(claimed), RATE, 60)


def test_bands_hold_the_energy_of_their_frequencies(tmp_path: Path) -> None:
    inputs = sounds(tmp_path).inputs
    assert (inputs.n_fft, inputs.hop) == (256, 80)
    filters = mel_filters(inputs.n_mels, inputs.n_fft, RATE)
    assert filters.shape == (129, inputs.n_mels)
    assert (filters.max(axis=0) > 0).all()
    wave = heard(tone(1000), RATE, 60)
    features = log_mel([wave, wave[:400]], inputs, RATE // 2)
    assert features.shape == (2, 51, inputs.n_mels)
    assert features[1, 6:].abs().max() == 0  # the shorter one is filled with its mean
    peak = int(features[0, 15].argmax())
    bins = np.arange(129) * RATE / 256
    assert bins[filters[:, peak] > 0].min() <= 1000 <= bins[filters[:, peak] > 0].max()


def test_a_wave_is_changed_by_what_is_drawn() -> None:
    wave = heard(tone(1000), RATE, 60)
    none = {"speed": 0.0, "shift": 0.0, "noise": 0.0, "rate": RATE}

    def altered(seed: int, **how: float) -> np.ndarray:
        return changed(wave, np.random.default_rng(seed), **{**none, **how})  # type: ignore[arg-type]

    louder = altered(1)
    assert louder / louder.max() == pytest.approx(wave / wave.max(), abs=1e-5)
    lengths = [len(altered(seed, speed=0.2)) for seed in range(30)]
    assert len(wave) / 1.2 - 2 <= min(lengths) < 0.95 * len(wave) < 1.05 * len(wave) < max(lengths)
    assert max(len(altered(seed, shift=0.1)) for seed in range(30)) <= len(wave) + 0.1 * RATE
    noise = altered(1, noise=0.5) / altered(1, noise=0.5).max() - wave / wave.max()
    assert 0.01 < noise.std() < 0.7
    hidden = masked(torch.ones(20, 50, 40), draws_of(1, 0, range(20)), 2)
    assert 0.05 < float((hidden == 0).float().mean()) < 0.6


def test_another_extractor_is_asked_as_transformers_asks_it(tmp_path: Path) -> None:
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True, return_attention_mask=False)
    extractor.save_pretrained(tmp_path)
    write_config(
        {
            "model_type": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "conv_dim": [8, 8], "conv_stride": [5, 4], "conv_kernel": [10, 8],
            "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
        },
        tmp_path,
    )  # fmt: skip
    targets = Targets(labels=("high", "low"), counts={"high": 4, "low": 4})
    task = ClassifyAudio(AudioOptions(window_seconds=0.5, trim=False), targets, read_audio_inputs(tmp_path))
    given = rows(task, [tone(440), tone(880, seconds=0.4)], ["low", "high"])
    batch = task.collate(given, None)
    waves = waves_of(given["wave"])
    how = {"padding": "max_length", "max_length": RATE // 2, "truncation": True}
    expected = extractor(waves, sampling_rate=RATE, return_tensors="pt", **how)["input_values"]
    torch.testing.assert_close(batch.inputs["input_values"], expected)
    network, _ = build_network(task.network(), tmp_path, seed=1, random=True)
    assert network(**batch.inputs).logits.shape == (2, 2)


def test_a_network_with_a_window_of_its_own_hears_the_whole_sound_and_is_counted_by_it() -> None:
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    inputs = AudioInputs(16_000, "WhisperFeatureExtractor", settings=extractor.to_dict())
    task = ClassifyAudio(AudioOptions(window_seconds=5.0, trim=False), Targets(labels=("high",)), inputs)
    given = rows(task, [tone(440, seconds=1.5), tone(440)], ["high"] * 2)
    assert [len(wave) for wave in waves_of(given["wave"])] == [16_000, 8_000, 4_800]
    assert given["n_tokens"].tolist() == [51, 51, 51]  # whatever lies in it, the network computes a second
    features = task.collate(given, None).inputs["input_features"]
    assert features.shape == (3, 8, 100)


def test_a_directory_that_does_not_say_how_it_hears_is_an_error(tmp_path: Path) -> None:
    write_config({"model_type": "wav2vec2"}, tmp_path)
    with pytest.raises(InputError, match="how sound becomes"):
        read_audio_inputs(tmp_path)
    write_json(tmp_path / PREPROCESSOR_FILE, {"feature_extractor_type": "Pipeline", "sampling_rate": RATE})
    targets = Targets(labels=("high", "low"), counts={"high": 4, "low": 4})
    task = ClassifyAudio(AudioOptions(window_seconds=0.5), targets, read_audio_inputs(tmp_path))
    with pytest.raises(InputError, match="no such feature extractor"):
        task.collate(rows(task, [tone(440)], ["low"]), None)


# Both: learning and answering.


@pytest.mark.parametrize(
    "network",
    [
        {"model_type": "sparkml_cnn", "image_size": 16, "num_channels": 3},
        {"model_type": "sparkml_resnet", "image_size": 16, "hidden_size": 8},
        {"model_type": "vit", "image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1,
         "num_attention_heads": 2, "intermediate_size": 16},
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic",
         "image_size": 16},
    ],
)  # fmt: skip
def test_any_network_learns_colours(tmp_path: Path, network: dict[str, Any]) -> None:
    task = images(tmp_path, network, mixup=0.2)
    labels = ["blue", "red"] * 8
    media = [png(plain(COLOURS[label], (10 + n, 16))) for n, label in enumerate(labels)]
    learns(task, tmp_path, rows(task, media, labels))


def test_a_network_learns_pitches(tmp_path: Path) -> None:
    task = sounds(tmp_path, mixup=0.2)
    labels = ["high", "low"] * 8
    media = [tone(2000 + 20 * n if label == "high" else 300 + 5 * n) for n, label in enumerate(labels)]
    learns(task, tmp_path, rows(task, media, labels))
    features = task.features(*[pa.table({"media": media})] * 2)[0]
    assert features.shape == (16, 10 * 2 * task.inputs.n_mels)


def learns(task: Task[Any], folder: Path, given: Rows) -> None:
    """Trained on changed examples, it is right on all of them as they are, each whatever its company."""
    torch.manual_seed(1)
    network, _ = build_network(task.network(), folder, seed=1, random=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for step in range(40):
        batch = task.collate(given, draws_of(1, step, range(count(given))))
        found = task.loss(network, batch)
        (found.total / found.units).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        values = task.values(task.sums(network.eval(), task.collate(given, None)).numpy())
    assert values["accuracy"] == 1.0
    scorer = Scorer(task, network)
    together = scorer.outputs(given)
    alone = scorer.outputs({name: column[3:4] for name, column in given.items()})
    assert alone[0] == pytest.approx(together[3], abs=1e-5)


def test_a_broken_image_is_named_where_it_is_decoded() -> None:
    with pytest.raises(BadMediaError, match="cannot identify"):
        decoded(b"no image at all", SMALL, 10**6)
