from __future__ import annotations

from pathlib import Path

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sparkml.frame.runs import RunReport, StageRun

from sparkml.errors import ConfigError, InputError
from sparkml.frame.progress import Progress
from sparkml.frame.schemas import MODELS
from sparkml.frame.tables import Tables
from sparkml.inference.scorer import load_scorer
from sparkml.models.bert import BertClassifier, BertShape, initialise
from sparkml.models.classifier import write_classifier
from sparkml.stages.score import Pending, ScoreConfig, pending_of, run, suitable_buckets, text_hash
from sparkml.stages.shard.vocabulary import train_bpe

KEPT_DDL = "doc_id string, text string"
LABELS = ["numpy", "pandas", "torch"]
CONFIG = ScoreConfig(n_buckets=3, chunk_documents=4)
WORDS = ["array", "the", "series", "tensor", "of", "floats", "and", "index", "gradient", "shape"]
Documents = list[tuple[object, ...]]


def text_of(number: int) -> str:
    """Texts of one to thirty words, all different."""
    return (
        " ".join(WORDS[(number * number + k) % len(WORDS)] for k in range(1 + number * 7 % 30)) + f" {number}"
    )


DOCUMENTS: Documents = [*((f"doc-{number:02d}", text_of(number)) for number in range(30)), ("null", None)]


def write_model(folder: Path) -> Path:
    """A tiny classifier with random weights, wide apart so that texts get different labels."""
    config = {
        "model_type": "bert",
        "vocab_size": 300,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "type_vocab_size": 1,
        "pooling": "mean",
        "precision": "float32",
    }
    model = BertClassifier(BertShape.from_config(config, where="test"), len(LABELS), "mean")
    initialise(model, seed=0, deviation=1.0)
    folder.mkdir(parents=True)
    tokenizer = folder.parent / "trained.json"
    tokenizer.write_text(train_bpe([text_of(number) for number in range(30)], 300), encoding="utf-8")
    write_classifier(folder, model, LABELS, config, tokenizer)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model for all the tests."""
    return write_model(tmp_path_factory.mktemp("model") / "v1")


class Lake:
    """A lake of its own with documents and a model, on which the stage runs."""

    def __init__(self, spark: SparkSession, folder: Path, model: Path) -> None:
        self.spark, self.folder, self.model = spark, folder, model
        self.tables = Tables(spark, str(folder / "lake"))
        self.register(1)

    def put(self, documents: Documents | DataFrame, table: str = "kept_documents") -> None:
        """Write the documents."""
        if not isinstance(documents, DataFrame):
            documents = self.spark.createDataFrame(documents, KEPT_DDL)
        self.tables.overwrite(documents, table)

    def register(self, version: int) -> None:
        """Put the model into the registry under a version."""
        values = {
            "model_id": "classifier",
            "version": version,
            "path": str(self.model),
            "kind": "finetuned",
            "stage_run": f"run-{version}",
            "run_id": f"run-{version}",
        }
        row = tuple(values.get(name) for name in MODELS.names)
        self.tables.append(self.spark.createDataFrame([row], MODELS), "models")

    def score(self, config: ScoreConfig = CONFIG, table: str = "kept_documents") -> RunReport:
        """Run the stage on what lies there."""
        job = StageRun(
            spark=self.spark,
            tables=self.tables,
            stage="score",
            fingerprint="test",
            artifacts=str(self.folder / "artifacts"),
            seed=17,
            progress=Progress(),
        )
        report = run(job, config.model_copy(update={"source": table}))
        report.check("score")
        assert job.outputs == {"scores": self.tables.version("scores")}
        return report

    def scores(self, model_version: int = 1) -> DataFrame:
        """The scores of a model version, without the run that wrote them."""
        return self.tables.read("scores").where(F.col("model_version") == model_version).drop("run_id")


@pytest.fixture
def fresh(spark: SparkSession, tmp_path: Path, model_folder: Path) -> Lake:
    """A lake without scores."""
    return Lake(spark, tmp_path, model_folder)


@pytest.fixture(scope="module")
def scored(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, model_folder: Path
) -> tuple[Lake, RunReport]:
    """`DOCUMENTS`, scored once; the tests of what comes after add to it in their order."""
    lake = Lake(spark, tmp_path_factory.mktemp("scored"), model_folder)
    lake.put(spark.createDataFrame(DOCUMENTS, KEPT_DDL).repartition(1))
    return lake, lake.score()


def test_every_document_has_the_scores_that_the_model_gives_it_alone(
    scored: tuple[Lake, RunReport], model_folder: Path
) -> None:
    lake, report = scored
    rows = {row["doc_id"]: row for row in lake.scores().collect()}
    scorer = load_scorer(model_folder, threads=1)
    assert set(rows) == {str(doc_id) for doc_id, _ in DOCUMENTS}
    for doc_id, text in DOCUMENTS[:-1]:
        alone = scorer.score([str(text)])[0]
        row = rows[str(doc_id)]
        assert row["prediction"] == LABELS[alone.argmax()]
        assert row["score"] == pytest.approx(alone.max(), abs=2e-5)
        assert row["scores"] == pytest.approx(dict(zip(LABELS, alone.tolist(), strict=True)), abs=2e-5)
        assert (row["error"], len(row["text_hash"])) == (None, 16)
    assert {row["prediction"] for row in rows.values()} == {*LABELS, None}
    provenance = {
        (row["model_id"], row["model_version"], row["input_table"], row["input_version"])
        for row in rows.values()
    }
    assert provenance == {("classifier", 1, "kept_documents", 0)}
    tokens = sum(len(ids) for ids in scorer.encode([str(text) for _, text in DOCUMENTS[:-1]]))
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (31, 31, 0)
    assert (report.metrics["scored"], report.metrics["errors"], report.metrics["tokens"]) == (31, 1, tokens)


def test_a_document_that_cannot_be_scored_keeps_a_row_with_its_error(scored: tuple[Lake, RunReport]) -> None:
    actual = (
        scored[0]
        .scores()
        .where("error IS NOT NULL")
        .select("doc_id", "prediction", "score", "scores", "error")
    )
    expected = actual.sparkSession.createDataFrame(
        [("null", None, None, None, "text is null")],
        "doc_id string, prediction string, score double, scores map<string,double>, error string",
    )
    assert_df_equality(actual, expected, ignore_nullable=True)


def test_row_order_and_partitions_do_not_matter(
    spark: SparkSession, fresh: Lake, scored: tuple[Lake, RunReport]
) -> None:
    fresh.put(spark.createDataFrame(DOCUMENTS[::-1], KEPT_DDL).repartition(5))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "3")
    try:
        fresh.score()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    # chispa's own ordering hashes every column, and a map has no hash.
    assert_df_equality(fresh.scores().orderBy("doc_id"), scored[0].scores().orderBy("doc_id"))


def test_the_number_of_buckets_changes_no_score(fresh: Lake, scored: tuple[Lake, RunReport]) -> None:
    fresh.put(DOCUMENTS)
    fresh.score(CONFIG.model_copy(update={"n_buckets": None}))  # so few bytes are one bucket
    found = {row["doc_id"]: row for row in fresh.scores().collect()}
    three = {row["doc_id"]: row for row in scored[0].scores().collect()}
    assert found.keys() == three.keys()
    for doc_id, row in found.items():
        assert row["prediction"] == three[doc_id]["prediction"]
        assert row["scores"] == (three[doc_id]["scores"] and pytest.approx(three[doc_id]["scores"], abs=2e-6))


@pytest.mark.parametrize(
    ("n_bytes", "buckets"),
    [(0, 1), (1_000_000, 1), (1_000_001, 2), (10**10, 1024), (10**12, 31_250), (10**15, 65_536)],
)
def test_buckets_follow_from_the_bytes_to_score(n_bytes: int, buckets: int) -> None:
    pending = Pending(documents=2, bytes=10**15, bytes_to_score=n_bytes, current=1, changed=0, gone=0)
    assert suitable_buckets(pending) == buckets


def test_a_second_run_scores_nothing(scored: tuple[Lake, RunReport]) -> None:
    lake, _ = scored
    before = lake.tables.version("scores")
    report = lake.score()
    assert (report.rows_in, report.metrics["scored"], report.metrics["scored_before"]) == (31, 0, 31)
    assert lake.tables.version("scores") == before


def test_only_new_documents_are_scored(fresh: Lake) -> None:
    fresh.put(DOCUMENTS[:5])
    fresh.score()
    first_runs = {row["doc_id"]: row["run_id"] for row in fresh.tables.read("scores").collect()}
    fresh.put(DOCUMENTS[:7])
    report = fresh.score()
    rows = {row["doc_id"]: row for row in fresh.tables.read("scores").collect()}
    assert (report.metrics["scored"], report.metrics["scored_before"]) == (2, 5)
    assert sorted(rows) == [f"doc-{number:02d}" for number in range(7)]
    assert {doc_id: rows[doc_id]["run_id"] for doc_id in first_runs} == first_runs
    assert [rows[f"doc-{number:02d}"]["input_version"] for number in range(7)] == [0, 0, 0, 0, 0, 1, 1]


def test_a_changed_document_is_scored_again_and_a_removed_one_loses_its_score(fresh: Lake) -> None:
    fresh.put(DOCUMENTS[:4])
    fresh.score()
    present = fresh.tables.read("scores").localCheckpoint()
    another_table = present.limit(1).withColumns(
        {"doc_id": F.lit("other"), "input_table": F.lit("elsewhere")}
    )
    another_version = present.withColumn("model_version", F.lit(2))
    fresh.tables.append(another_table.unionByName(another_version), "scores")
    old = {row["doc_id"]: row for row in fresh.scores().collect()}
    # doc-00 as it was, doc-01 rewritten, doc-02 gone, doc-03 as it was, doc-04 new.
    fresh.put([DOCUMENTS[0], ("doc-01", DOCUMENTS[2][1]), DOCUMENTS[3], DOCUMENTS[4]])
    report = fresh.score()
    new = {row["doc_id"]: row for row in fresh.scores().collect()}
    assert (report.metrics["scored"], report.metrics["scored_before"], report.metrics["scored_again"]) == (
        2,
        2,
        1,
    )
    assert sorted(new) == ["doc-00", "doc-01", "doc-03", "doc-04", "other"]
    assert fresh.scores().count() == 5
    assert [new[doc_id] for doc_id in ("doc-00", "doc-03", "other")] == [
        old[doc_id] for doc_id in ("doc-00", "doc-03", "other")
    ]
    assert new["doc-01"]["text_hash"] == old["doc-02"]["text_hash"]
    assert new["doc-01"]["score"] == pytest.approx(old["doc-02"]["score"], abs=2e-5)
    # The other model version is as it was, with its rows of documents that have changed since.
    assert sorted(row["doc_id"] for row in fresh.scores(2).collect()) == [
        "doc-00",
        "doc-01",
        "doc-02",
        "doc-03",
    ]


def test_what_is_pending(spark: SparkSession) -> None:
    """Bytes count what is new or changed: `a` is scored, `b` has another text, `c` is new, `d` is gone."""
    kept = spark.createDataFrame([("a", "1"), ("b", "22"), ("c", "ä333"), ("n", None)], KEPT_DDL)
    scored = spark.createDataFrame([("a", "1"), ("b", "2"), ("d", "4")], KEPT_DDL)
    scores = scored.select("doc_id", text_hash().alias("text_hash"), F.lit("kept").alias("input_table"))
    assert pending_of(kept, scores, "kept") == Pending(
        documents=4, bytes=8, bytes_to_score=7, current=1, changed=1, gone=1
    )


def test_empty_input_makes_an_empty_table(fresh: Lake) -> None:
    fresh.put([])
    assert fresh.score().rows_in == 0
    assert fresh.scores().collect() == []
    assert fresh.score().rows_in == 0


def test_what_cannot_be_meant_is_an_error_at_once(fresh: Lake) -> None:
    fresh.put(DOCUMENTS[:1])
    with pytest.raises(ConfigError, match=r"at most spark\.task\.cpus = 1"):
        fresh.score(CONFIG.model_copy(update={"threads": 2}))
    with pytest.raises(InputError, match="there is no model `classifier-int8`"):
        fresh.score(CONFIG.model_copy(update={"model_id": "classifier-int8"}))
    with pytest.raises(InputError, match="there is no model `classifier`"):
        fresh.score(CONFIG.model_copy(update={"model_version": 9}))
    assert not fresh.tables.exists("scores")
