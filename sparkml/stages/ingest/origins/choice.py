"""Which origin a configuration names."""

from __future__ import annotations

from sparkml.sources.formats.table import DELTA, EMBEDDED, JDBC, KAFKA
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Environment, Files
from sparkml.stages.ingest.origins.origin import Origin
from sparkml.stages.ingest.origins.tables import Database, DeltaTable
from sparkml.stages.ingest.origins.topics import Topic

_KINDS: dict[str, type[Origin]] = {
    EMBEDDED: Environment,
    DELTA: DeltaTable,
    JDBC: Database,
    KAFKA: Topic,
}


def origin_of(config: IngestConfig) -> Origin:
    """The place that is read: files, unless the format or its settings say another."""
    return _KINDS.get(config.source.kind, Files)(config)
