"""What several files of Spark tests share."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from tests.way import Way, fill


@pytest.fixture(scope="session")
def way(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Way:
    """An undisturbed run from source to report: nobody changes this lake."""
    found = fill(tmp_path_factory.mktemp("way"))
    assert spark.range(1).count() == 1  # the command line has left the session running
    return found
