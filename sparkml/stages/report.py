"""Report: being rebuilt on the steps."""

from __future__ import annotations

from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport, Stage
from sparkml.report.config import ReportConfig


def run(job: StageRun, config: ReportConfig) -> RunReport:
    """Nothing yet."""
    return RunReport()


STAGE = Stage(ReportConfig, run, "one HTML page of the lake", last=True)
