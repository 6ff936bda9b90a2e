"""The slow tests share the session and the undisturbed run of the Spark tests."""

from tests.spark.conftest import way

__all__ = ["way"]
