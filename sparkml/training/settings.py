"""Everything that the training loop needs to know; travels to the ranks as JSON, the manifests as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sparkml.feed.manifest_file import ManifestFile
from sparkml.feed.reader import ReaderName
from sparkml.models.encoder import EncoderShape
from sparkml.models.tokenizer import TokenizerFile
from sparkml.training.schedule import Decay

EmbeddingStart = Literal["spectral", "random"]


class LoopSettings(BaseModel):
    """The optimisation itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: EncoderShape
    embedding_start: EmbeddingStart
    seed: int
    max_steps: int
    micro_batch: int
    learning_rate: float
    warmup_steps: int
    decay: Decay
    weight_decay: float
    gradient_clip: float
    mask_fraction: float
    validation_every_steps: int
    validation_rows: int
    checkpoint_every_steps: int
    keep_checkpoints: int


class TrainingJob(BaseModel):
    """One pretraining: what to read, what to do, where to write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: LoopSettings
    train_manifest: ManifestFile
    validation_manifest: ManifestFile
    tokenizer: TokenizerFile
    reader: ReaderName
    run_folder: str
    model_folder: str
    run_name: str
    tensorboard_folder: str
    mlflow_uri: str
    mlflow_store: str

    def to_payload(self) -> dict[str, Any]:
        """JSON values for the launcher."""
        return self.model_dump(mode="json")

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> TrainingJob:
        """What `to_payload` gave."""
        return cls.model_validate(dict(payload))
