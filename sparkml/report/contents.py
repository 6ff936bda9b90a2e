"""What the page shows, section by section."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sparkml.report.classifier import Finetuning
from sparkml.report.compression import Compression
from sparkml.report.duplicates import Duplicates
from sparkml.report.funnel import Funnel
from sparkml.report.rejects import Rejects
from sparkml.report.scores import Scores
from sparkml.report.stages import Provenance, Stages
from sparkml.report.training import Training

# Key (the field, the anchor and the template), title, and the sentence for a lake that is not that far yet.
SECTIONS = (
    ("funnel", "Funnel", "No documents yet: the stage ingest has not run on this lake."),
    (
        "rejects",
        "Rejected documents",
        "No rejects yet: no stage that rejects documents has run on this lake.",
    ),
    ("duplicates", "Duplicates", "No duplicates yet: the stage dedupe has not run on this lake."),
    ("training", "Training", "No pretrained encoder yet: the stage train has not run on this lake."),
    ("finetuning", "Fine-tuning", "No classifier yet: the stage finetune has not run on this lake."),
    ("compression", "Compression", "No int8 model yet: the stage compress has not run on this lake."),
    ("scores", "Scores", "No scores yet: the stage score has not run on this lake."),
    ("stages", "Stages", "No runs yet: the ledger of this lake is empty."),
)


@dataclass(frozen=True)
class Contents:
    """A section is None where its tables are not there yet."""

    title: str
    lake: str
    run_id: str
    written_at: datetime
    provenance: Provenance
    funnel: Funnel | None
    rejects: Rejects | None
    duplicates: Duplicates | None
    training: Training | None
    finetuning: Finetuning | None
    compression: Compression | None
    scores: Scores | None
    stages: Stages | None

    def shown(self) -> tuple[str, ...]:
        """The sections that have something to show."""
        return tuple(key for key, _, _ in SECTIONS if getattr(self, key) is not None)
