"""The function that the ranks run. Importing it costs nothing: the driver only needs its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkml.distributed.collective import Collective
    from sparkml.distributed.reporter import Reporter


def train_rank(payload: Mapping[str, Any], collective: Collective, reporter: Reporter) -> dict[str, float]:
    """Train and answer the held-out rows; rank 0 writes the network. `payload` is a `TrainingJob`.

    Returns losses and rates.
    """
    from sparkml.training.run import train
    from sparkml.training.settings import TrainingJob

    return train(TrainingJob.from_payload(payload), collective, reporter)
