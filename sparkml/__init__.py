"""sparkml: from raw documents to scored tables on one Spark cluster.

    import sparkml

    lake = sparkml.open_lake("lake")                     # a folder, a URI or catalog.schema; needs no JVM
    lake.tables()                                        # ["bronze", "clean", ...]
    lake.read("scores").num_rows                         # an Arrow table, as successful runs left it
    lake.runs(), lake.models()                           # the ledger and the registry
    lake.trace("scores", doc_id)                         # back to the source
    lake.spark("kept")                                   # the same as a Spark DataFrame

    sparkml.run_pipeline("default", "lake=lake", "ingest.source.path=/data/*.jsonl")
    scorer = sparkml.load_scorer(lake.model("classifier").path)
    scorer.answer(["a text", "another"])                 # one Answer each: prediction, score, scores, ...

    sparkml.register(spark, "sentiment", "classifier", lake="lake")   # SELECT sentiment(text).prediction FROM ...
    sparkml.save_mlflow_model("classifier", "exported", lake="lake")  # mlflow.pyfunc.spark_udf(spark, "exported")

Nothing is imported before it is asked for.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Lake": "sparkml.face",
    "SparkmlError": "sparkml.errors",
    "load_scorer": "sparkml.face",
    "log_mlflow_model": "sparkml.face",
    "open_lake": "sparkml.face",
    "register": "sparkml.face",
    "run_pipeline": "sparkml.face",
    "save_mlflow_model": "sparkml.face",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module `sparkml` has no attribute `{name}`")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
