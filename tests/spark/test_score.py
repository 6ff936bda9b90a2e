from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import AccountingError, ConfigError, InputError, ScoringError
from sparkml.frame.artifacts import new_artifact
from sparkml.frame.ledger import FAILED, STARTED, SUCCEEDED, Ledger
from sparkml.frame.registry import ModelRecord, Registry
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import Tables
from sparkml.hosting.scoring import with_hash
from sparkml.inference.scorer import load_scorer
from sparkml.models.directory import copy_inputs
from sparkml.models.inputs import read_text_inputs, special_fields
from sparkml.models.networks import load_network, write_config
from sparkml.stages.score import stage as score
from sparkml.stages.score.config import ScoreConfig
from sparkml.stages.score.pending import Pending, pending_of
from sparkml.stages.score.stage import run
from sparkml.stages.shard.vocabulary import save_tokenizer, train_tokenizer
from tests.runs import new_run, put_run
from tests.tiny import SHAPE

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
    """A tiny classifier with random weights, wide apart so that texts get different labels.

    A directory as transformers writes it: what it answers follows from its architecture.
    """
    content = train_tokenizer([text_of(number) for number in range(30)], 300)
    made = folder.parent / "tokenizers" / save_tokenizer(content, str(folder.parent))
    with new_artifact(str(folder)) as staging:
        copy_inputs(made, staging)
        inputs = read_text_inputs(staging)
        network = {**SHAPE, "hidden_size": 16, "intermediate_size": 32, "initializer_range": 1.0}
        write_config(network, staging, vocab_size=inputs.vocab_size, **special_fields(inputs))
        head = "AutoModelForSequenceClassification"
        loaded: Any = load_network(staging, head, labels=tuple(LABELS), seed=1, random=True).network
        loaded.save_pretrained(staging)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model for all the tests."""
    return write_model(tmp_path_factory.mktemp("model") / "v1")


class Lake:
    """A lake of its own with documents and a model, on which the stage runs."""

    def __init__(self, spark: SparkSession, folder: Path, model: Path) -> None:
        self.spark, self.folder, self.model = spark, folder, model
        self.tables = Tables(str(folder / "lake"), lambda: spark)
        self.ledger = Ledger(self.tables)
        self.register(1)

    def put(self, documents: Documents | DataFrame, table: str = "kept_documents") -> None:
        """Write the documents."""
        if not isinstance(documents, DataFrame):
            documents = self.spark.createDataFrame(documents, KEPT_DDL)
        self.tables.overwrite(documents, table)

    def register(self, version: int) -> None:
        """Put the model into the registry under a version."""
        record = ModelRecord("classifier", version, str(self.model), "finetuned", stage_run=f"run-{version}")
        Registry(self.tables, self.ledger).register(record, record.stage_run)

    def score(
        self,
        config: ScoreConfig = CONFIG,
        *,
        step: str = "score",
        table: str = "kept_documents",
        ends: str = SUCCEEDED,
    ) -> RunReport:
        """Run the stage on what lies there, in the ledger as the runner keeps it; `ends` is how the run ends."""
        job = new_run(self.tables, self.ledger, self.folder / "artifacts", "score", step=step)
        put_run(job, STARTED)
        config = config.model_copy(update={"source": table})
        try:
            report = run(job, config)
            report.check(step)
        except Exception:
            put_run(job, FAILED)
            raise
        assert job.outputs == {"scores": self.tables.version("scores")}
        put_run(job, ends, report, config)
        return report

    def rows(self, step: str = "score") -> dict[str, Row]:
        """The rows of a step by document; a document has one."""
        found = self.tables.read("scores").where(F.col("step") == step).collect()
        rows = {row["doc_id"]: row for row in found}
        assert len(rows) == len(found)
        return rows

    def scores(self, model_version: int = 1) -> DataFrame:
        """The scores of a model version in the order of documents, without the run that wrote them."""
        found = self.tables.read("scores").where(F.col("model_version") == model_version)
        # chispa's own ordering hashes every column, and a map has no hash.
        return found.drop("run_id").orderBy("step", "doc_id")


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
        (alone,) = scorer.answer([str(text)])
        row = rows[str(doc_id)]
        assert row["prediction"] == alone.prediction
        assert row["score"] == pytest.approx(alone.score, abs=2e-5)
        assert row["scores"] == pytest.approx(dict(alone.scores or ()), abs=2e-5)
        assert (row["spans"], row["embedding"], row["output"], row["engine"]) == (None, None, None, "encoder")
        assert (row["error"], len(row["text_hash"])) == (None, 16)
    assert {row["prediction"] for row in rows.values()} == {*LABELS, None}
    provenance = {
        (row["model_id"], row["model_version"], row["step"], row["input_table"], row["input_version"])
        for row in rows.values()
    }
    assert provenance == {("classifier", 1, "score", "kept_documents", 0)}
    tokens = sum(answer.n_tokens for answer in scorer.answer([str(text) for _, text in DOCUMENTS[:-1]]))
    assert (report.rows_in, report.rows_kept, report.rows_rejected, report.reasons) == (
        31,
        30,
        1,
        {"error": 1},
    )
    assert (report.metrics["scored"], report.metrics["errors"], report.metrics["tokens"]) == (31, 1, tokens)
    assert report.bytes_in == sum(len(str(text).encode()) for _, text in DOCUMENTS[:-1])


def test_a_document_that_cannot_be_scored_keeps_a_row_with_its_error(scored: tuple[Lake, RunReport]) -> None:
    actual = (
        scored[0]
        .scores()
        .where("error IS NOT NULL")
        .select("doc_id", "prediction", "score", "scores", "error")
    )
    expected = actual.sparkSession.createDataFrame(
        [("null", None, None, None, "text_missing null")],
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
    assert_df_equality(fresh.scores(), scored[0].scores())


def test_the_number_of_buckets_changes_no_score(fresh: Lake, scored: tuple[Lake, RunReport]) -> None:
    fresh.put(DOCUMENTS)
    fresh.score(CONFIG.model_copy(update={"n_buckets": None}))  # so few bytes are one bucket
    found = {row["doc_id"]: row for row in fresh.scores().collect()}
    three = {row["doc_id"]: row for row in scored[0].scores().collect()}
    assert found.keys() == three.keys()
    for doc_id, row in found.items():
        assert row["prediction"] == three[doc_id]["prediction"]
        assert row["scores"] == (three[doc_id]["scores"] and pytest.approx(three[doc_id]["scores"], abs=2e-5))


def test_what_is_pending(spark: SparkSession) -> None:
    """`a` is scored, `b` has another text, `c` is new, `d` is gone, `e` failed before."""
    kept = spark.createDataFrame([("a", "1"), ("b", "22"), ("c", "ä333"), ("n", None), ("e", "5")], KEPT_DDL)
    scored = spark.createDataFrame([("a", "1"), ("b", "2"), ("d", "4"), ("e", "5")], KEPT_DDL)
    error = F.when(F.col("doc_id") == "e", F.lit("it broke"))
    hashed = with_hash(scored, ["text"])
    scores = hashed.select("doc_id", F.col("_hash").alias("text_hash"), error.alias("error"))
    assert pending_of(with_hash(kept, ["text"]), scores) == Pending(
        documents=5, bytes=9, bytes_to_score=8, current=1, failed=1, changed=1, gone=1
    )


def test_documents_of_one_id_are_refused_before_any_is_scored(fresh: Lake) -> None:
    twice = [("doc-03", "another text"), ("doc-07", text_of(7)), ("doc-03", None)]
    fresh.put([*DOCUMENTS, *twice])
    with pytest.raises(InputError, match="several documents have the same `doc_id`") as caught:
        fresh.score()
    assert (caught.value.where, caught.value.got) == (
        "table `kept_documents`",
        "2 such ids, for example 'doc-03'",
    )
    assert not fresh.tables.exists("scores")


def test_repeated_ids_are_counted_with_what_is_pending(spark: SparkSession) -> None:
    kept = spark.createDataFrame([("a", "1"), ("b", "2"), ("b", "2"), (None, "3"), (None, "4")], KEPT_DDL)
    scores = spark.createDataFrame([("b", "2", None)], "doc_id string, text_hash string, error string")
    found = pending_of(with_hash(kept, ["text"]), scores)
    assert (found.documents, found.bytes, found.repeated, found.example) == (3, 5, 2, "b")


def test_a_document_that_failed_is_tried_again(scored: tuple[Lake, RunReport]) -> None:
    lake, _ = scored
    expected = lake.spark.createDataFrame(lake.scores().collect(), lake.scores().schema)
    failed = F.col("doc_id") == "doc-03"
    rows = lake.tables.read("scores").localCheckpoint()
    nothing = {name: F.when(~failed, F.col(name)) for name in ("prediction", "score", "scores")}
    error = F.when(failed, F.lit("the model stumbled")).otherwise(F.col("error"))
    lake.tables.replace_slice(rows.withColumns({**nothing, "error": error}), "scores", {"step": "score"})
    report = lake.score()
    assert {name: report.metrics[name] for name in ("scored", "errors", "tried_again", "scored_before")} == {
        "scored": 2,
        "errors": 1,
        "tried_again": 2,
        "scored_before": 29,
    }
    assert (report.rows_kept, report.rows_rejected) == (30, 1)
    assert_df_equality(lake.scores(), expected)


def test_only_new_documents_are_scored_and_none_where_there_are_none(fresh: Lake) -> None:
    fresh.put(DOCUMENTS[:5])
    fresh.score()
    first_runs = {doc_id: row["run_id"] for doc_id, row in fresh.rows().items()}
    fresh.put(DOCUMENTS[:7])
    report = fresh.score()
    rows = fresh.rows()
    assert (report.metrics["scored"], report.metrics["scored_before"]) == (2, 5)
    assert sorted(rows) == [f"doc-{number:02d}" for number in range(7)]
    assert {doc_id: rows[doc_id]["run_id"] for doc_id in first_runs} == first_runs
    assert [rows[f"doc-{number:02d}"]["input_version"] for number in range(7)] == [0, 0, 0, 0, 0, 1, 1]
    before = fresh.tables.version("scores")
    report = fresh.score()
    assert (report.rows_in, report.rows_kept, report.metrics["scored"]) == (7, 7, 0)
    assert report.metrics["scored_before"] == 7
    assert fresh.tables.version("scores") == before


def test_a_changed_document_is_scored_again_and_a_removed_one_loses_its_score(fresh: Lake) -> None:
    fresh.put(DOCUMENTS[:4])
    fresh.score()
    present = fresh.tables.read("scores").localCheckpoint()
    another_step = present.limit(1).withColumn("step", F.lit("another step"))
    another_version = present.withColumn("model_version", F.lit(2))
    fresh.tables.append(another_step.unionByName(another_version), "scores")
    foreign = fresh.spark.createDataFrame(another_step.collect(), another_step.schema).drop("run_id")
    old = {row["doc_id"]: row for row in fresh.scores().where("step = 'score'").collect()}
    # doc-00 as it was, doc-01 rewritten, doc-02 gone, doc-03 as it was, doc-04 new.
    fresh.put([DOCUMENTS[0], ("doc-01", DOCUMENTS[2][1]), DOCUMENTS[3], DOCUMENTS[4]])
    report = fresh.score()
    new = {row["doc_id"]: row for row in fresh.scores().where("step = 'score'").collect()}
    assert (report.rows_in, report.rows_kept, report.metrics["scored"]) == (4, 4, 2)
    assert (report.metrics["scored_before"], report.metrics["scored_again"]) == (2, 1)
    assert sorted(new) == ["doc-00", "doc-01", "doc-03", "doc-04"]
    assert [new[doc_id] for doc_id in ("doc-00", "doc-03")] == [
        old[doc_id] for doc_id in ("doc-00", "doc-03")
    ]
    assert new["doc-01"]["text_hash"] == old["doc-02"]["text_hash"]
    assert new["doc-01"]["score"] == pytest.approx(old["doc-02"]["score"], abs=2e-5)
    # Another step and another model version are as they were, with rows of documents that have changed since.
    assert_df_equality(fresh.scores().where("step != 'score'"), foreign, ignore_nullable=True)
    assert [row["doc_id"] for row in fresh.scores(2).collect()] == ["doc-00", "doc-01", "doc-02", "doc-03"]


def test_steps_and_models_keep_out_of_each_others_way(fresh: Lake, model_folder: Path) -> None:
    fresh.put(DOCUMENTS[:3])
    fresh.put(DOCUMENTS[2:6], "reviews")
    fresh.score(CONFIG.model_copy(update={"model": "classifier/v1"}))
    fresh.score(step="reviews_scores", table="reviews")
    fresh.register(2)
    fresh.score()  # the newest version
    directory = fresh.score(CONFIG.model_copy(update={"model": str(model_folder)}))
    assert (directory.rows_in, directory.rows_kept, directory.metrics["scored"]) == (3, 3, 3)
    named = fresh.tables.read("scores").withColumn(
        "name",
        F.when(F.col("model_id") == str(model_folder), "directory").otherwise(
            F.col("model_version").cast("string")
        ),
    )
    found = sorted(tuple(row) for row in named.select("step", "input_table", "name", "doc_id").collect())
    assert found == [
        *(("reviews_scores", "reviews", "1", f"doc-{number:02d}") for number in range(2, 6)),
        *(("score", "kept_documents", "1", f"doc-{number:02d}") for number in range(3)),
        *(("score", "kept_documents", "2", f"doc-{number:02d}") for number in range(3)),
        *(("score", "kept_documents", "directory", f"doc-{number:02d}") for number in range(3)),
    ]


def test_too_many_errors_fail_the_step_and_the_next_run_tries_all_again(
    fresh: Lake, scored: tuple[Lake, RunReport]
) -> None:
    fresh.put(DOCUMENTS)
    with pytest.raises(ScoringError, match="1 of 31") as caught:
        fresh.score(CONFIG.model_copy(update={"max_error_fraction": 0.03}))
    assert "max_error_fraction = 0.03" in caught.value.expected
    assert len(fresh.rows()) == 31
    # What another step writes next stands on the rows of the run that failed: they do not count all the same.
    fresh.put(DOCUMENTS[:1], "other_documents")
    fresh.score(step="other", table="other_documents")
    report = fresh.score()
    assert (report.rows_kept, report.rows_rejected, report.metrics["scored"]) == (30, 1, 31)
    assert report.metrics["scored_before"] == report.metrics["tried_again"] == 0
    succeeded = {run.run_id for run in fresh.ledger.runs() if run.status == SUCCEEDED}
    assert {row["run_id"] for row in fresh.rows().values()} <= succeeded
    assert_df_equality(fresh.scores().where("step = 'score'"), scored[0].scores())


def test_what_a_run_that_died_after_its_commit_left_is_replaced(fresh: Lake) -> None:
    fresh.put(DOCUMENTS[:2])
    fresh.score()
    done = fresh.scores().collect()
    fresh.put(DOCUMENTS[:4])
    fresh.score(ends=STARTED)
    assert len(fresh.rows()) == 4
    fresh.put(DOCUMENTS[:2])
    report = fresh.score()
    assert (report.rows_in, report.rows_kept, report.metrics["scored"]) == (2, 2, 0)
    assert fresh.scores().collect() == done


def test_answers_that_were_lost_are_an_error(fresh: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.put(DOCUMENTS[:3])
    asked = score.answered
    monkeypatch.setattr(
        score, "answered", lambda rows, *how, **more: asked(rows.where("doc_id != 'doc-01'"), *how, **more)
    )
    with pytest.raises(AccountingError, match="2 answers") as caught:
        fresh.score()
    assert caught.value.expected == "3, one for each pending document"


@pytest.mark.parametrize(
    ("limit", "failed_before", "scored", "errors", "fails"),
    [
        (0.1, 0, 100, 10, False),
        (0.1, 0, 100, 11, True),
        (0.1, 10, 10, 10, False),  # only those that failed before, again
        (0.1, 10, 30, 12, False),  # two of twenty new ones
        (0.1, 10, 30, 13, True),
        (0.0, 1, 1, 1, True),
        (0.0, 1, 1, 0, False),
        (1.0, 0, 100, 100, False),
    ],
)
def test_the_limit_is_a_share_of_all_documents_and_of_new_ones(
    limit: float, failed_before: int, scored: int, errors: int, fails: bool
) -> None:
    """Of 130 documents in all."""
    waiting = Pending(130, 0, 0, 130 - scored, failed_before, 0, 0)
    config = ScoreConfig(max_error_fraction=limit)
    if fails:
        with pytest.raises(ScoringError):
            score._check_counts(config, waiting, {"scored": scored, "errors": errors})
    else:
        score._check_counts(config, waiting, {"scored": scored, "errors": errors})


def test_empty_input_makes_an_empty_table(fresh: Lake) -> None:
    fresh.put([])
    assert fresh.score().rows_in == 0
    assert fresh.scores().collect() == []
    assert fresh.score().rows_in == 0


def test_what_cannot_work_is_an_error_at_once(fresh: Lake, model_folder: Path, tmp_path: Path) -> None:
    fresh.put(DOCUMENTS[:1])
    with pytest.raises(ConfigError, match=r"at most spark\.task\.cpus = 1"):
        fresh.score(CONFIG.model_copy(update={"threads": 2}))
    with pytest.raises(InputError, match="there is no model `classifier-int8`"):
        fresh.score(CONFIG.model_copy(update={"model": "classifier-int8"}))
    with pytest.raises(InputError, match="there is no model `classifier/v9`"):
        fresh.score(CONFIG.model_copy(update={"model": "classifier/v9"}))
    altered = tmp_path / "altered"
    shutil.copytree(model_folder, altered)
    weights = bytearray((altered / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (altered / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"not as it was written[\s\S]*model\.safetensors[\s\S]*altered"):
        fresh.score(CONFIG.model_copy(update={"model": str(altered)}))
    assert not fresh.tables.exists("scores")
