"""Other ways to classify the texts of a table on Spark, as their users run them, for `bench_score`.

    python score_peer.py WAY MODEL TEXTS OUT LONGEST     # imports nothing of ours: an environment of its own

Prints the seconds from the session being there to the table being written as one line of JSON. MODEL is a directory of
transformers, TEXTS a folder of Parquet with `doc_id` and `text`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

BATCH = 32
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def with_predict_batch_udf(documents: Any, model: str, longest: int) -> Any:
    """Spark's `predict_batch_udf`: batches of 32 as they come, each padded to its longest text."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    def load() -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        torch.set_num_threads(1)
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModelForSequenceClassification.from_pretrained(model).eval()

        def predict(texts: Any) -> Any:
            batch = tokenizer(
                list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
            )
            with torch.inference_mode():
                return network(**batch).logits.softmax(dim=1).numpy()

        return predict

    scores = predict_batch_udf(load, return_type=ArrayType(FloatType()), batch_size=BATCH)
    return documents.select("doc_id", scores("text").alias("scores"))


def with_pipeline(documents: Any, model: str, longest: int) -> Any:
    """transformers' `pipeline` in `mapInPandas`."""

    def score(frames: Iterator[Any]) -> Iterator[Any]:
        import torch
        from transformers import pipeline

        torch.set_num_threads(1)
        classify = pipeline("text-classification", model, top_k=None, device="cpu")
        for frame in frames:
            found = classify(list(frame["text"]), batch_size=BATCH, truncation=True, max_length=longest)
            frame["scores"] = [[one["score"] for one in row] for row in found]
            yield frame[["doc_id", "scores"]]

    return documents.mapInPandas(score, "doc_id string, scores array<double>")


def saved_by_mlflow(model: str, longest: int) -> str:
    """A transformers pipeline in MLflow's form."""
    import mlflow
    from transformers import pipeline

    classify = pipeline("text-classification", model, device="cpu")
    inference = {"batch_size": BATCH, "truncation": True, "max_length": longest}
    saved = f"{model}-mlflow-{os.getpid()}"
    mlflow.transformers.save_model(classify, saved, model_config=inference)
    return saved


def with_mlflow(documents: Any, saved: str, longest: int) -> Any:
    """MLflow's `spark_udf` of what it saved."""
    import mlflow
    from pyspark.sql.types import StringType

    udf = mlflow.pyfunc.spark_udf(
        documents.sparkSession, saved, result_type=StringType(), env_manager="local"
    )
    return documents.select("doc_id", udf("text").alias("prediction"))


WAYS = {
    "predict_batch_udf": with_predict_batch_udf,
    "pipeline in mapInPandas": with_pipeline,
    "MLflow spark_udf": with_mlflow,
}


def main() -> None:
    """One way, once."""
    way, model, texts, out, longest = sys.argv[1:]
    if way == "MLflow spark_udf":
        model = saved_by_mlflow(model, int(longest))  # before the clock runs: it is done once for all tables
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .getOrCreate()
    )
    spark.range(1).count()
    started = time.monotonic()
    WAYS[way](spark.read.parquet(texts), model, int(longest)).write.parquet(out)
    seconds = time.monotonic() - started
    rows = spark.read.parquet(out).count()
    spark.stop()
    print(json.dumps({"rows": rows, "seconds": seconds}))


if __name__ == "__main__":
    main()
