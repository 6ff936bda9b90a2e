"""Models as functions over Spark Connect, in a process of its own: a process speaks to classic Spark or to a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparkml.inference.scorer import load_scorer
from tests.jvm import QUICK_JVM
from tests.tiny import DECIDED, tiny_classifier

TEXTS = ["win money now", None, "lunch at home", "free prize"]
SCRIPT = """
import json, sys
from pyspark.sql import SparkSession
import mlflow
import sparkml

model, saved, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
spark = SparkSession.builder.remote("local[1]").getOrCreate()
mood = sparkml.register(spark, "mood", model)
frame = spark.createDataFrame(list(enumerate(texts)), "n int, text string")
frame.createOrReplaceTempView("texts")
sparkml.save_mlflow_model(model, saved)
udf = mlflow.pyfunc.spark_udf(spark, saved, env_manager="local")
ways = {
    "sql": spark.sql("SELECT n, mood(text) AS answer FROM texts"),
    "frame": frame.select("n", mood("text").alias("answer")),
    "mlflow": frame.select("n", udf("text").alias("answer")),
}
rows = {way: sorted(found.select("n", "answer.*").collect()) for way, found in ways.items()}
found = {way: [[row["prediction"], row["score"], row["error"]] for row in rows[way]] for way in ways}
print(json.dumps({"session": type(spark).__module__, **found}))
spark.stop()
"""


def test_a_function_answers_over_spark_connect_as_the_scorer_does(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path / "model", ("bad", "good"), config=DECIDED)
    command = [sys.executable, "-c", SCRIPT, str(model), str(tmp_path / "saved"), json.dumps(TEXTS)]
    environment = {
        **os.environ,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "JAVA_TOOL_OPTIONS": QUICK_JVM,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert found["session"] == "pyspark.sql.connect.session"
    expected = load_scorer(model).answer(TEXTS)
    for way, nothing in (("sql", None), ("frame", None), ("mlflow", "")):
        for (prediction, score, error), wanted in zip(found[way], expected, strict=True):
            assert (prediction, error) == (wanted.prediction or nothing, wanted.error or nothing)
            assert score == (wanted.score and pytest.approx(wanted.score, abs=1e-5))
