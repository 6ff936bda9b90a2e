"""Classify sounds by label: any audio network of transformers, or a small one of ours on log-mel energies."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from sparkml.models.folder import CONFIG_FILE, read_json
from sparkml.models.media import LOG_MEL, AudioInputs, read_audio_inputs, write_audio_inputs
from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws
from sparkml.tasks.label_counts import LabelOptions
from sparkml.tasks.labels import TARGET, Labels
from sparkml.tasks.media import MEDIA_TOKENS, encode_media, missing_media
from sparkml.tasks.task import Batch, Encoded, Purpose, Rows
from sparkml.tasks.texts import batch_of

if TYPE_CHECKING:
    from torch import Tensor

_WAVE = ("wave", pa.binary())


class AudioOptions(LabelOptions):
    """Settings of `task:` where its name is `classify_audio`."""

    window_seconds: float = Field(
        5.0,
        gt=0,
        description="Seconds that the network hears at once: a shorter sound is filled with silence",
    )
    max_windows: int = Field(
        6, ge=1, description="Windows of a longer sound; what is beyond them is not heard"
    )
    trim: bool = Field(True, description="Cut silence off at both ends")
    speed: float = Field(
        0.15, ge=0, lt=1, description="Training: faster or slower, and higher or lower, by up to this"
    )
    shift: float = Field(0.1, ge=0, description="Training: seconds of silence before it, at most")
    noise: float = Field(0.3, ge=0, description="Training: noise up to this part of the loudness")
    masks: int = Field(1, ge=0, description="Training: bands of frequencies and of time that are hidden")
    mixup: float = Field(0.0, ge=0, description="Training: alpha of mixup; 0: none")


class ClassifyAudio(Labels[AudioOptions]):
    """One label a sound, or several."""

    name = "classify_audio"
    summary = "sounds by label"
    reads: ClassVar[tuple[str, ...]] = ("media", "label")
    columns = (_WAVE, TARGET)
    Options = AudioOptions
    token_budget = MEDIA_TOKENS
    inputs: AudioInputs

    @classmethod
    def read_inputs(cls, folder: str) -> AudioInputs:
        """Rate and feature extractor of a model directory."""
        return read_audio_inputs(folder)

    @classmethod
    def example(cls) -> dict[str, Any]:
        """Half a second of a tone."""
        import soundfile

        rate, sink = 8000, io.BytesIO()
        soundfile.write(sink, 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate), rate, format="WAV")
        return {"media": sink.getvalue()}

    @classmethod
    def begin(cls, network: Mapping[str, Any], folder: Path, inputs: Path | None) -> None:
        """Log-mel energies at the rate that the new network says: windows of 32 ms every 10 ms."""
        from sparkml.models.networks import write_config

        write_config(network, folder)
        config = read_json(folder / CONFIG_FILE)
        rate, n_mels = int(config.get("sampling_rate", 16_000)), int(config.get("num_mel_bins", 40))
        n_fft = 1 << round(np.log2(0.032 * rate))
        write_audio_inputs(AudioInputs(rate, n_mels=n_mels, n_fft=n_fft, hop=rate // 100), folder)

    @property
    def _own_seconds(self) -> float:
        """What a network such as Whisper always hears, silence included; 0: it hears sounds of any length."""
        return float(self.inputs.settings.get("chunk_length") or 0)

    @property
    def _size(self) -> int:
        """Samples of a window: no more than the network hears."""
        seconds = self.options.window_seconds
        return int(min(seconds, self._own_seconds or seconds) * self.inputs.rate)

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """The wave, 16 bits a value, cut into windows; one that cannot be decoded is left out."""
        from sparkml.tasks.waves import TOKENS_PER_SECOND, as_int16, decoded, trimmed

        options, rate = self.options, self.inputs.rate
        rejects = missing_media(examples)
        targets = self.targets_of(examples, rejects, purpose)
        size, least = self._size, int(self._own_seconds * rate)

        def windows(data: bytes) -> list[tuple[bytes, int]]:
            wave = decoded(data, rate, size / rate * options.max_windows)
            if options.trim:
                wave = trimmed(wave)
            parts = [wave[start : start + size] for start in range(0, len(wave), size)]
            return [(as_int16(part), 1 + max(len(part), least) * TOKENS_PER_SECOND // rate) for part in parts]

        return encode_media(examples, rejects, targets, self.columns, windows)

    def network(self) -> NetworkSpec:
        """transformers' audio classifier."""
        return self.classifier("AutoModelForAudioClassification")

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """What the feature extractor gives of the waves; with `draws` they are changed at random, labels mixed too."""
        from sparkml.tasks.mixing import mixed
        from sparkml.tasks.waves import changed, log_mel, masked, waves_of

        options, inputs, gold = self.options, self.inputs, self.gold_of(rows)
        waves = waves_of(rows["wave"])
        if draws is not None:
            given = {"speed": options.speed, "shift": options.shift, "noise": options.noise}
            waves = [
                changed(wave, rng, rate=inputs.rate, **given) for wave, rng in zip(waves, draws, strict=True)
            ]
        if inputs.extractor != LOG_MEL:
            tensors = self._extracted(waves)
        else:
            features = log_mel(waves, inputs, self._size)
            if draws is not None:
                features = masked(features, draws, options.masks)
                if options.mixup and len(waves) > 1:
                    features, gold["target"] = mixed(
                        features, gold["target"], len(self.targets.labels), options.mixup, draws[0]
                    )
            tensors = {"input_features": features}
        return batch_of(tensors, gold, len(waves), int(np.sum(rows["n_tokens"])))

    @cached_property
    def _extractor(self) -> Any:
        """The feature extractor of transformers that the model directory names, made once."""
        import transformers

        from sparkml.errors import InputError

        kind: Any = getattr(transformers, self.inputs.extractor, None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.FeatureExtractionMixin)):
            raise InputError(
                "transformers has no such feature extractor",
                got=self.inputs.extractor,
                expected="a class of transformers, such as Wav2Vec2FeatureExtractor",
            )
        settings = {k: v for k, v in self.inputs.settings.items() if k != "feature_extractor_type"}
        return getattr(transformers, self.inputs.extractor)(**settings)

    def _extracted(self, waves: Sequence[npt.NDArray[np.float32]]) -> dict[str, Tensor]:
        """What that feature extractor gives of the waves."""
        extractor = self._extractor
        # Those of spectrograms fill up to a length of their own. Of the others every row gets the same length, so that
        # none depends on its company.
        own = hasattr(extractor, "max_length") or hasattr(extractor, "chunk_length")
        filled = {} if own else {"padding": "max_length", "max_length": self._size, "truncation": True}
        return dict(extractor(list(waves), sampling_rate=self.inputs.rate, return_tensors="pt", **filled))

    def features(self, train: pa.Table, held_out: pa.Table) -> tuple[Any, Any]:
        """Mean and deviation of each log-mel band over ten parts of the sound."""
        return self._summary(train), self._summary(held_out)

    def _summary(self, examples: pa.Table) -> npt.NDArray[np.float32]:
        from sparkml.tasks.waves import decoded, log_mel, trimmed

        inputs = self.inputs if self.inputs.extractor == LOG_MEL else AudioInputs(self.inputs.rate)
        rows = []
        for data in examples.column("media").to_pylist():
            wave = trimmed(decoded(data, inputs.rate, self.options.window_seconds))
            mel = log_mel([wave], inputs, len(wave))[0].numpy()
            parts = [part for part in np.array_split(mel, 10) if len(part)]
            parts += [np.zeros_like(mel[:1])] * (10 - len(parts))
            rows.append(np.concatenate([f(part, axis=0) for part in parts for f in (np.mean, np.std)]))
        return np.stack(rows)


TASK = ClassifyAudio
