"""Report: one self-contained HTML file of the lake as it stands.

Spark aggregates; the driver gets counts, bins and a bounded number of examples in a fixed order.
A section whose tables are not there yet says so in one sentence.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sparkml.errors import InputError, StorageError
from sparkml.frame.runs import RunReport, StageRun
from sparkml.log import get_logger
from sparkml.report import classifier, compression, duplicates, funnel, rejects, scores, stages, training
from sparkml.report.config import ReportConfig
from sparkml.report.contents import Contents
from sparkml.report.lake import Lake

__all__ = ["ReportConfig", "gather", "run"]

_log = get_logger(__name__)
_T = TypeVar("_T")


def gather(job: StageRun, config: ReportConfig) -> Contents:
    """Everything the page shows, from the tables, the ledger and the model folders."""
    lake = Lake(job)
    with job.progress.task("report", total=len(stages.ORDER), unit="sections") as task:

        def part(find: Callable[[Lake, ReportConfig], _T]) -> _T:
            found = find(lake, config)
            task.advance(1)
            return found

        scored, repeated = part(scores.gather), part(duplicates.gather)
        return Contents(
            title=config.title,
            lake=job.lake,
            run_id=job.run_id,
            written_at=job.started_at,
            provenance=stages.provenance(lake),
            funnel=part(lambda opened, chosen: funnel.gather(opened, chosen, scored, repeated)),
            rejects=part(rejects.gather),
            duplicates=repeated,
            training=part(training.gather),
            finetuning=part(classifier.gather),
            compression=part(compression.gather),
            scores=scored,
            stages=part(lambda opened, _: stages.gather(opened)),
        )


def run(job: StageRun, config: ReportConfig) -> RunReport:
    """Write the page. Rows are the sections that had something to show."""
    # Matplotlib takes a second to import, which every other command would pay.
    from sparkml.report.page import render

    file = destination(job.artifacts, config.file)
    contents = gather(job, config)
    page = render(contents).encode("utf-8", errors="replace")
    write_page(file, page)
    shown = len(contents.shown())
    _log.info("report: %s (%d bytes, %d sections with content)", file, len(page), shown)
    return RunReport(rows_in=shown, rows_kept=shown, metrics={"bytes": len(page), "sections": shown})


def destination(artifacts: str, file: str | None) -> Path:
    """Where the page goes; InputError for a place that is no file system of this machine."""
    place = (file or f"{artifacts}/report/report.html").removeprefix("file://")
    if "://" in place:
        raise InputError(
            "the report is written to a file system of this machine",
            got=place,
            expected="a path, mounted storage included",
            next_action="give report.file=PATH",
        )
    return Path(place)


def write_page(file: Path, page: bytes) -> None:
    """Write beside the file, then rename: a reader sees the old page or the new one, never half of one."""
    staging = file.parent / f".{file.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staging.write_bytes(page)
        os.replace(staging, file)
    except OSError as error:
        with suppress(OSError):
            staging.unlink()
        raise StorageError(
            "cannot write the report",
            where=str(file),
            got=error.strerror or str(error),
            next_action="give another place: report.file=PATH",
        ) from error
