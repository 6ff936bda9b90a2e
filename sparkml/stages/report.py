"""Report: one HTML file of the lake as the last successful run of each step left it.

Spark aggregates; the driver gets counts, bins and a bounded number of examples in a fixed order.
"""

from __future__ import annotations

from sparkml.frame import storage
from sparkml.frame.effects import effect
from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport, Stage
from sparkml.log import get_logger
from sparkml.report.config import ReportConfig

_log = get_logger(__name__)


def run(job: StageRun, config: ReportConfig) -> RunReport:
    """Write the page. It decides about no row: its metrics are what it shows."""
    # Matplotlib takes a second to import, which every other command would pay.
    from sparkml.report.contents import gather
    from sparkml.report.page import render

    file = destination(job.artifacts, config.file)
    contents = gather(job, config)
    page = render(contents).encode("utf-8", errors="replace")
    storage.write_bytes(file, page)
    effect("report written")
    shown = len(contents.shown)
    _log.info("report: %s (%d bytes, %d sections with content)", storage.redacted(file), len(page), shown)
    return RunReport(metrics={"bytes": len(page), "sections": shown})


def destination(artifacts: str, file: str | None) -> str:
    """Where the page goes."""
    return storage.normalise(file) if file else storage.join(artifacts, "report", "report.html")


STAGE = Stage(ReportConfig, run, "one HTML page of the lake", last=True)
