"""Documents a second on Spark: the score stage's function beside `predict_batch_udf` with padding to the maximum.

python -m tests.bench.bench_score --documents 4000

Both run the same network on the same documents in the same session (2 task slots), in turn. With
`--without-spark` the two worker functions are called directly, and processor time is measured, not the clock: for
a machine that is busy with other things.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

from sparkml.frame.config import load_config
from sparkml.frame.session import build_session
from sparkml.inference.batches import ModelSource, scoring
from sparkml.models.adapt import AdaptSettings, adapt
from sparkml.models.directory import TASK_FILE, copy_inputs
from sparkml.models.folder import TOKENIZER_FILE, write_json
from sparkml.models.heads import save_network
from sparkml.models.inputs import read_text_inputs
from sparkml.stages.score import ScoreConfig, transform, with_hash
from sparkml.stages.shard.vocabulary import save_tokenizer, train_tokenizer
from sparkml.tasks.task import task_spec
from tests.bench.classifiers import MAX_LENGTH, random_classifier
from tests.bench.documents import docstrings_of_packages


def write_model(folder: Path, texts: list[str], hidden: int, layers: int) -> None:
    """A classifier of the size asked for, with random weights, as the stage finetune leaves it."""
    folder.mkdir(parents=True)
    digest = save_tokenizer(train_tokenizer(texts, 8192), str(folder.parent))
    copy_inputs(folder.parent / "tokenizers" / digest, folder)
    task, network = random_classifier(folder, read_text_inputs(folder), hidden=hidden, layers=layers, heads=4)
    adapted = adapt(network, AdaptSettings(), new_modules=(), total_steps=1, epoch_steps=1, seed=0)
    save_network(adapted, task.network(), folder, merge=True, base="")
    write_json(folder / TASK_FILE, task_spec(task))


def padding_to_the_maximum(
    folder: str,
) -> Callable[[], Callable[[npt.NDArray[np.object_]], npt.NDArray[np.float32]]]:
    """What the examples of `predict_batch_udf` do: tokenise with padding to the maximum, one forward pass a batch."""

    def load() -> Callable[[npt.NDArray[np.object_]], npt.NDArray[np.float32]]:
        import torch
        from tokenizers import Tokenizer

        from sparkml.inference.scorer import load_scorer

        network = load_scorer(folder).network
        tokenizer = Tokenizer.from_file(f"{folder}/{TOKENIZER_FILE}")
        tokenizer.enable_truncation(MAX_LENGTH)
        tokenizer.enable_padding(length=MAX_LENGTH)

        def predict(texts: npt.NDArray[np.object_]) -> npt.NDArray[np.float32]:
            encodings = tokenizer.encode_batch(list(texts))
            ids = torch.tensor([encoding.ids for encoding in encodings])
            mask = torch.tensor([encoding.attention_mask for encoding in encodings])
            with torch.inference_mode():
                logits: torch.Tensor = network(input_ids=ids, attention_mask=mask).logits
                return logits.softmax(dim=1).numpy()

        return predict

    return load


def seconds_of(frame: DataFrame) -> float:
    """Run the whole frame, write nothing."""
    started = time.perf_counter()
    frame.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - started


def main() -> None:
    """Warm both up on a few documents, then measure in turn; print the better of two rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--without-spark", action="store_true")
    options = parser.parse_args()
    if options.without_spark:
        with tempfile.TemporaryDirectory() as folder:
            measure_workers(Path(folder) / "model", options)
        return
    spark = build_session(load_config("local", ["spark.master=local[2]"]).spark, name="bench-score")
    with tempfile.TemporaryDirectory() as folder:
        measure(spark, Path(folder) / "model", options)
    spark.stop()


def measure(spark: SparkSession, folder: Path, options: argparse.Namespace) -> None:
    """Score the same documents both ways."""
    texts = prepared(folder, options)
    rows = [(f"{number:08d}", text) for number, text in enumerate(texts)]
    path = str(folder.parent / "documents.parquet")
    spark.createDataFrame(rows, "doc_id string, text string").repartition(8).write.parquet(path)
    documents = spark.read.parquet(path)
    naive_udf = predict_batch_udf(
        padding_to_the_maximum(str(folder)), return_type=ArrayType(FloatType()), batch_size=64
    )
    model = ModelSource(str(folder), "benchmark", threads=1)

    def ours(frame: DataFrame) -> DataFrame:
        return transform(with_hash(frame, ["text"]), model, ScoreConfig(), n_buckets=16)

    def naive(frame: DataFrame) -> DataFrame:
        return frame.select("doc_id", naive_udf(F.col("text")).alias("scores"))

    few = documents.limit(200).repartition(2)
    seconds_of(ours(few))
    seconds_of(naive(few))
    rounds = [(seconds_of(ours(documents)), seconds_of(naive(documents))) for _ in range(2)]
    tell(len(texts), rounds, options)


def prepared(folder: Path, options: argparse.Namespace) -> list[str]:
    """The documents, and a model in `folder`."""
    found = docstrings_of_packages(1500 * options.documents)
    texts = found[: options.documents]
    write_model(folder, texts[:1000], options.hidden, options.layers)
    return texts


def measure_workers(folder: Path, options: argparse.Namespace) -> None:
    """The two worker functions on one thread, documents in the order in which Spark would hand them over."""
    import torch

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = prepared(folder, options)
    by_length = sorted(texts, key=len)
    ids = [f"{number:08d}" for number in range(len(texts))]
    batch = pa.RecordBatch.from_pydict({"doc_id": ids, "text_hash": ids, "text": by_length})
    score = scoring(ModelSource(str(folder), "benchmark", threads=1), 256, None)
    predict = padding_to_the_maximum(str(folder))()
    torch.set_num_threads(1)

    def ours() -> None:
        list(score(iter([batch])))

    def naive() -> None:
        for start in range(0, len(texts), 64):
            predict(np.array(texts[start : start + 64], dtype=object))

    list(score(iter([batch.slice(0, 8)])))  # loads the model
    rounds = [(processor_seconds(ours), processor_seconds(naive)) for _ in range(2)]
    tell(len(texts), rounds, options)


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def tell(documents: int, rounds: list[tuple[float, float]], options: argparse.Namespace) -> None:
    """Print the better round of each way."""
    ours, naive = (min(column) for column in zip(*rounds, strict=True))
    print(
        f"{documents} documents, hidden {options.hidden}, {options.layers} layers: "
        f"ours {documents / ours:.0f} documents/s, predict_batch_udf {documents / naive:.0f} documents/s, "
        f"ratio {naive / ours:.2f}"
    )


if __name__ == "__main__":
    main()
