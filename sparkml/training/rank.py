"""The function that the ranks run. Importing it costs nothing: the driver only needs its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkml.distributed.collective import Collective
    from sparkml.distributed.reporter import Reporter


def train_rank(payload: Mapping[str, Any], collective: Collective, reporter: Reporter) -> dict[str, float]:
    """Train; rank 0 writes the model folder. `payload` is a `TrainingJob`; returns losses and rates."""
    from sparkml.training.pretrain import pretrain
    from sparkml.training.settings import TrainingJob

    return pretrain(TrainingJob.from_payload(payload), collective, reporter)
