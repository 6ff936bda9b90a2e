"""Topics of Kafka: their records are landed in a Delta table as they came, once each, and read from there.

A broker forgets records. What was landed stays, so that documents can be made of it anew: with other settings, or
after a run that was killed. Which offsets were landed stands in the checkpoint of Spark's stream, and Delta takes each
of its batches once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from sparkml.frame import storage
from sparkml.frame.fingerprint import digest
from sparkml.frame.ledger import utc_now
from sparkml.sources.kafka import landed_records
from sparkml.sources.records import ReadOptions
from sparkml.sources.row_records import KEY, rows_of_topic
from sparkml.stages.ingest.origins.origin import Origin, Part, Reading, reading_of_table

if TYPE_CHECKING:
    from sparkml.frame.run import StageRun


@dataclass(frozen=True)
class Topic(Origin):
    """A topic, or several."""

    @property
    def options(self) -> ReadOptions:
        kafka = self.config.source.kafka
        options = self.config.read_options("", kafka.topic or "")
        return replace(options, id_field=KEY) if kafka.key_is_id else options

    @property
    def newest_wins(self) -> bool:
        return True

    def state(self) -> str:
        return utc_now().isoformat()  # what a topic holds only a run can tell

    def parts(self, job: StageRun) -> tuple[Part, ...]:
        """The table of landed records, after it has got those that came since."""
        kafka, ref = self.config.source.kafka, self.config.landing_of(job.step)
        named = digest([kafka.servers, kafka.topic])
        checkpoint = storage.join(job.artifacts, "streams", f"{job.step}-{named}")
        if not job.tables.exists(ref):
            storage.remove(checkpoint)  # its offsets were landed in a table that is no more
        job.tables.land(landed_records(job.spark, kafka), ref, checkpoint)
        seen, log = utc_now(), job.tables.log(ref)
        return (Part(self._uri, modified=seen, version=log.version(), etag=log.table_id()),)

    def read(self, job: StageRun, parts: Collection[Part] | None, earlier: Mapping[str, Part]) -> Reading:
        (part,) = parts or self.parts(job)
        is_json = self.config.source.kafka.value == "json"
        records_of = partial(rows_of_topic, topic=self._uri, options=self.options, objects=is_json)
        return reading_of_table(job, self.config.landing_of(job.step), part, earlier, records_of)

    @property
    def _uri(self) -> str:
        return f"kafka:{self.config.source.kafka.topic}"
