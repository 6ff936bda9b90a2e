"""What a rank writes down and says when gradients are not finite."""

from __future__ import annotations

import json

from sparkml.errors import TrainingError
from sparkml.feed.documents import documents_of
from sparkml.feed.manifest import Manifest
from sparkml.frame import storage
from sparkml.training.columns import SAMPLE_ID
from sparkml.training.feeding import FedStep
from sparkml.training.settings import TrainingJob

_SHOWN_DOCUMENTS = 10


def diverged(
    job: TrainingJob, manifest: Manifest, fed: FedStep, rank: int, own_loss: float, loss: float
) -> TrainingError:
    """The error, after this rank has written down what it was given: its loss tells whether that was the cause."""
    samples = [int(number) for number in fed.columns.get(SAMPLE_ID, ())]
    documents = documents_of(manifest, samples)
    location = storage.join(job.run_folder, f"diverged-rank-{rank:05d}.json")
    written = {"step": fed.number, "rank": rank, "loss": repr(own_loss), "documents_by_sample": documents}
    storage.write_bytes(location, json.dumps(written, indent=1).encode())
    ids = sorted({doc_id for ids in documents.values() for doc_id in ids})
    return TrainingError(
        "the training diverged: gradients are not finite",
        where=f"step {fed.number}; all documents of rank {rank} are in {location}",
        got=f"loss {loss:g}; documents {', '.join(ids[:_SHOWN_DOCUMENTS])}"
        + (f" and {len(ids) - _SHOWN_DOCUMENTS} more" if len(ids) > _SHOWN_DOCUMENTS else ""),
        next_action="lower learning_rate or raise warmup_fraction",
    )
