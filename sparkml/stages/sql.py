"""SQL: a query over tables of the lake -> a table. For what a line says: other labels, a join, a choice of rows."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from sparkml.frame.run import StageRun
from sparkml.frame.stage import Reads, RunReport, Stage, StageConfig, Writes
from sparkml.hosting.queries import asked

# Spark's own arguments of a query.
_TAKEN = ("args", "sqlQuery")


class SqlConfig(StageConfig):
    """What `conf/base/sql.yaml` holds."""

    sources: Mapping[str, Reads] = Field(min_length=1, description="Name -> table: {name} in the query")
    query: str = Field(min_length=1, description="SQL over the sources, each at the version that is read")
    target: Writes = Field(description="The table that is written as a whole")

    @field_validator("sources")
    @classmethod
    def _has_names(cls, sources: Mapping[str, str]) -> Mapping[str, str]:
        wrong = [name for name in sources if not name.isidentifier() or name in _TAKEN]
        if wrong:
            raise ValueError(f"no names of tables in a query: {', '.join(wrong)}")
        return sources


def run(job: StageRun, config: SqlConfig) -> RunReport:
    """Ask, and replace the table."""
    tables = {name: job.read(ref) for name, ref in config.sources.items()}
    written = job.overwrite(asked(job.spark, config.query, tables), config.target)
    return RunReport(
        bytes_in=sum(job.input_bytes(ref) for ref in config.sources.values()),
        metrics={"rows": float(written.rows)},
    )


STAGE = Stage(SqlConfig, run, "a query over tables -> a table")
