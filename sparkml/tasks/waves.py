"""Sounds as bytes: decoded and resampled on Spark's workers, changed at random and made log-mel on the ranks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparkml.models.media import AudioInputs
from sparkml.tasks.draws import Draws
from sparkml.tasks.media import BadMediaError

if TYPE_CHECKING:
    from torch import Tensor

Int16 = npt.NDArray[np.int16]
Float32 = npt.NDArray[np.float32]
TOKENS_PER_SECOND = 50  # as the convolutions of wav2vec 2.0 give
_FULL = 32767.0
_RATES = 1_000, 768_000
_QUIET = 1e-4  # of full scale: what is below it at both ends is silence
_LOG_FLOOR = 1e-6


def decoded(data: bytes, rate: int, max_seconds: float) -> Float32:
    """float32 [samples] at `rate`, the mean over the channels, at most `max_seconds`; else `BadMediaError`."""
    import soundfile
    from scipy.signal import resample_poly

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            given = int(sound.samplerate)
            if (
                not _RATES[0] <= given <= _RATES[1]
            ):  # the filter of a resampling is as long as the rates are apart
                raise BadMediaError("broken_audio", f"{given} samples a second", given)
            found = sound.read(int(max_seconds * given), dtype="float32", always_2d=True)
    except BadMediaError:
        raise
    except Exception as error:  # soundfile raises RuntimeError and its own kinds
        raise BadMediaError("broken_audio", f"{type(error).__name__}: {error}"[:200]) from error
    wave = np.asarray(found.mean(axis=1), np.float32)
    if not len(wave) or not np.isfinite(wave).all():
        raise BadMediaError("broken_audio", "no samples" if not len(wave) else "samples that are no numbers")
    if given != rate:
        common = gcd(given, rate)
        wave = np.asarray(resample_poly(wave, rate // common, given // common), np.float32)
    return wave


def trimmed(wave: Float32) -> Float32:
    """Without the silence at both ends; a wave that is silent all over stays."""
    loud = np.flatnonzero(np.abs(wave) > max(_QUIET, 0.02 * float(np.abs(wave).max())))
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave


def as_int16(wave: Float32) -> bytes:
    """What lies in a sample's column: 16 bits a value."""
    return (np.clip(wave, -1.0, 1.0) * _FULL).astype("<i2").tobytes()


def waves_of(rows: npt.NDArray[np.object_]) -> list[Float32]:
    """What `as_int16` made."""
    return [np.frombuffer(row, "<i2").astype(np.float32) / _FULL for row in rows]


def changed(
    wave: Float32, rng: np.random.Generator, *, speed: float, shift: float, noise: float, rate: int
) -> Float32:
    """A wave at another speed and pitch, moved in time, at another volume, with noise of a random colour.

    `speed` 0.1: from 0.9 to 1.1 times as fast; `shift`: seconds by which it begins later at most; `noise`: loudest
    noise, as a part of the wave's loudness.
    """
    if speed:
        factor = np.exp(rng.uniform(np.log(1 - speed), np.log(1 + speed)))
        places = np.arange(0, len(wave) - 1, factor, dtype=np.float64)
        wave = np.interp(places, np.arange(len(wave)), wave).astype(np.float32)
    if shift:
        wave = np.concatenate([np.zeros(int(rng.uniform(0, shift) * rate), np.float32), wave])
    if noise:
        loudness = float(np.sqrt(np.mean(np.square(wave)) + 1e-12))
        white = rng.standard_normal(len(wave)).astype(np.float32)
        smooth = rng.uniform(0, 0.95)  # a filter of one pole: from white to brown
        coloured = _one_pole(white, smooth)
        wave = wave + coloured * np.float32(rng.uniform(0, noise) * loudness)
    gain = np.float32(np.exp(rng.uniform(-0.7, 0.7)))
    return np.asarray(wave * gain, np.float32)


def _one_pole(values: Float32, pole: float) -> Float32:
    from scipy.signal import lfilter

    found = lfilter([np.sqrt(1 - pole * pole)], [1.0, -pole], values)
    return np.asarray(found, np.float32)


def log_mel(waves: Sequence[Float32], inputs: AudioInputs, size: int) -> Tensor:
    """float32 [rows, frames, n_mels]: log energies, each row with mean 0 and deviation 1 over its own frames.

    The frames of `size` samples: shorter rows are filled with 0, their mean, so that none depends on the others.
    """
    import torch

    filters = torch.from_numpy(mel_filters(inputs.n_mels, inputs.n_fft, inputs.rate))
    window = torch.hann_window(inputs.n_fft)
    size = max(size, inputs.n_fft)
    values = torch.zeros(len(waves), size)
    for row, wave in enumerate(waves):
        values[row, : len(wave)] = torch.from_numpy(wave[:size])
    # Frames are centred, and silence lies around the wave: what lies behind it has no say in its own frames.
    spectrum = torch.stft(
        values, inputs.n_fft, inputs.hop, window=window, return_complex=True, pad_mode="constant"
    )
    mel = (spectrum.abs().square().transpose(1, 2) @ filters + _LOG_FLOOR).log()
    frames = torch.tensor([1 + min(len(wave), size) // inputs.hop for wave in waves])
    own = (torch.arange(mel.shape[1]) < frames[:, None])[:, :, None]
    n = frames[:, None, None] * inputs.n_mels
    mean = (mel * own).sum(dim=(1, 2), keepdim=True) / n
    deviation = ((mel - mean).square() * own).sum(dim=(1, 2), keepdim=True).div(n).sqrt()
    return (mel - mean) / (deviation + 1e-3) * own


@lru_cache(maxsize=8)
def mel_filters(n_mels: int, n_fft: int, rate: int) -> Float32:
    """Triangles [n_fft / 2 + 1, n_mels], evenly spaced on the mel scale of O'Shaughnessy (2595 log10(1 + f / 700))."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def masked(features: Tensor, draws: Draws, n_bands: int) -> Tensor:
    """SpecAugment (Park et al. 2019, arXiv:1904.08779): bands of frequencies and of frames become the mean."""
    _, frames, mels = features.shape
    for row, rng in enumerate(draws):
        for _ in range(n_bands):
            width = int(rng.integers(0, mels // 5 + 1))
            start = int(rng.integers(0, mels - width + 1))
            features[row, :, start : start + width] = 0.0
            width = int(rng.integers(0, frames // 8 + 1))
            start = int(rng.integers(0, frames - width + 1))
            features[row, start : start + width] = 0.0
    return features
