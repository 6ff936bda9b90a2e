"""Models as functions of SQL and DataFrames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from pyspark.errors import PythonException
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

import sparkml
from sparkml.errors import ConfigError, InputError, UsageError
from sparkml.frame.ledger import STARTED, SUCCEEDED
from sparkml.frame.registry import ModelRecord, Registry
from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport
from sparkml.stages.score.config import ScoreConfig
from sparkml.stages.score.stage import run
from sparkml.tasks.pairs import Pairs
from sparkml.tasks.tag import Tag
from tests.media import png
from tests.runs import put_run
from tests.tiny import DECIDED, WORDS, tiny_classifier, tiny_encoder, tiny_image_classifier

Function = Callable[..., Column]
SPOKEN = " ".join(WORDS).split()
TEXTS = [" ".join(SPOKEN[(n * n + k) % len(SPOKEN)] for k in range(1 + n * 7 % 19)) for n in range(60)]
ANSWER = (
    "struct<prediction:string,score:double,scores:map<string,double>,"
    "spans:array<struct<start:int,end:int,label:string,score:double>>,"
    "embedding:array<float>,output:string,error:string>"
)
# Scores are rounded to six digits; which texts were padded with which may move the last one.
LAST_DIGIT = 1.5e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's models lie."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def sentiment_model(folder: Path) -> Path:
    """A classifier of texts."""
    return tiny_classifier(folder / "sentiment", ("bad", "good"), config=DECIDED)


@pytest.fixture(scope="module")
def sentiment(spark: SparkSession, sentiment_model: Path) -> Function:
    """The classifier as a function."""
    return sparkml.register(spark, "sentiment", str(sentiment_model))


@pytest.fixture
def texts(spark: SparkSession) -> DataFrame:
    """Texts, one of them null, in two partitions; the table `texts` of SQL."""
    rows = [*((f"doc-{n:02d}", text) for n, text in enumerate(TEXTS)), ("null", None)]
    frame = spark.createDataFrame(rows, "doc_id string, text string").repartition(2)
    frame.createOrReplaceTempView("texts")
    return frame


def answers(frame: DataFrame) -> dict[str, Row]:
    """The column `answer` by document."""
    return {row["doc_id"]: row["answer"] for row in frame.collect()}


def assert_same(found: dict[str, Row], expected: dict[str, Row]) -> None:
    """Both say the same of every document."""
    assert found.keys() == expected.keys()
    for doc_id, answer in found.items():
        wanted = expected[doc_id]
        assert (answer["prediction"], answer["error"]) == (wanted["prediction"], wanted["error"])
        for name in ("score", "scores"):
            assert answer[name] == (wanted[name] and pytest.approx(wanted[name], abs=LAST_DIGIT))


def test_sql_and_dataframes_give_the_answers_of_the_stage_score(
    spark: SparkSession,
    texts: DataFrame,
    sentiment: Function,
    sentiment_model: Path,
    stage_run: Callable[..., StageRun],
    write_table: Callable[..., int],
) -> None:
    write_table("documents", texts)
    job = stage_run("score")
    run(job, ScoreConfig(source="documents", model=str(sentiment_model)))
    expected = {row["doc_id"]: row for row in job.tables.read("scores").collect()}

    in_sql = spark.sql("SELECT doc_id, sentiment(text) AS answer FROM texts")
    assert dict(in_sql.dtypes)["answer"] == ANSWER
    found = answers(in_sql)
    assert_same(found, expected)
    assert_same(answers(texts.select("doc_id", sentiment("text").alias("answer"))), expected)
    assert {answer["prediction"] for answer in found.values()} == {"bad", "good", None}
    assert {answer["error"] for answer in found.values()} == {None, "text_missing null"}
    assert found["null"]["prediction"] is None


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_answers_stand_at_their_rows_whatever_the_size_of_batches(
    spark: SparkSession, texts: DataFrame, sentiment: Function, batch_rows: int
) -> None:
    expected = answers(texts.select("doc_id", sentiment("text").alias("answer")))
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = str(spark.conf.get(key))
    spark.conf.set(key, str(batch_rows))
    try:
        assert_same(answers(texts.select("doc_id", sentiment("text").alias("answer"))), expected)
    finally:
        spark.conf.set(key, before)


def test_an_answer_can_be_filtered_grouped_and_taken_apart(
    spark: SparkSession, texts: DataFrame, sentiment: Function, capsys: pytest.CaptureFixture
) -> None:
    spark.sql("SELECT sentiment(text).prediction, sentiment(text).score FROM texts").explain()
    assert capsys.readouterr().out.count("ArrowEvalPython") == 1  # the model is asked once
    grouped = spark.sql(
        "SELECT answer.prediction AS said, count(*) AS n, min(answer.scores[answer.prediction] = answer.score) AS same"
        " FROM (SELECT sentiment(text) AS answer FROM texts WHERE text IS NOT NULL) GROUP BY ALL"
    )
    found = {row["said"]: (row["n"], row["same"]) for row in grouped.collect()}
    assert found.keys() == {"bad", "good"}
    assert sum(n for n, _ in found.values()) == len(TEXTS)
    assert all(same for _, same in found.values())
    assert texts.where(sentiment("text")["error"].isNotNull()).count() == 1


def test_two_models_answer_in_one_query(
    spark: SparkSession, texts: DataFrame, sentiment: Function, folder: Path
) -> None:
    topics = sparkml.register(
        spark, "topics", str(tiny_classifier(folder / "topics", ("home", "money", "work"), config=DECIDED))
    )
    both = spark.sql("SELECT doc_id, sentiment(text) AS answer, topics(text) AS topic FROM texts")
    assert_same(answers(both), answers(texts.select("doc_id", sentiment("text").alias("answer"))))
    topic = answers(both.select("doc_id", F.col("topic").alias("answer")))
    assert_same(topic, answers(texts.select("doc_id", topics("text").alias("answer"))))
    assert {tuple(sorted(answer["scores"])) for answer in topic.values() if answer["scores"]} == {
        ("home", "money", "work")
    }


def test_a_task_of_pairs_takes_two_columns(spark: SparkSession, folder: Path) -> None:
    model = tiny_classifier(folder / "same", ("different", "same"), task=Pairs, config=DECIDED)
    same = sparkml.register(spark, "same", str(model))
    rows = [("0", "win money", "win a prize"), ("1", "win money", None), ("2", "lunch", "lunch")]
    pairs = spark.createDataFrame(rows, "doc_id string, left string, right string")
    found = answers(pairs.select("doc_id", same("left", F.col("right")).alias("answer")))
    assert_same(answers(pairs.selectExpr("doc_id", "same(left, right) AS answer")), found)
    assert found["1"]["error"]
    assert not found["0"]["error"]
    expected = sparkml.load_scorer(str(model)).answer(
        text=["win money", "lunch"], text_b=["win a prize", "lunch"]
    )
    assert [found[doc_id]["score"] for doc_id in "02"] == [
        pytest.approx(one.score, abs=LAST_DIGIT) for one in expected
    ]


def test_a_task_of_words_takes_an_array_and_gives_spans(spark: SparkSession, folder: Path) -> None:
    model = tiny_classifier(folder / "names", ("O", "B-X", "I-X"), task=Tag)
    names = sparkml.register(spark, "names", str(model))
    rows = [("0", SPOKEN[:9]), ("1", None), ("2", SPOKEN[4:6])]
    words = spark.createDataFrame(rows, "doc_id string, words array<string>")
    found = answers(words.select("doc_id", names("words").alias("answer")))
    expected = sparkml.load_scorer(str(model)).answer(tokens=[SPOKEN[:9], SPOKEN[4:6]])
    for doc_id, wanted in zip("02", expected, strict=True):
        spans = [span.asDict() for span in found[doc_id]["spans"]]
        assert spans == [
            {**span, "score": pytest.approx(span["score"], abs=LAST_DIGIT)} for span in wanted.spans or []
        ]
    assert found["0"]["spans"]
    assert found["1"]["error"]


def test_a_task_of_images_takes_bytes_and_a_broken_one_costs_itself(
    spark: SparkSession, folder: Path
) -> None:
    colour = sparkml.register(spark, "colour", str(tiny_image_classifier(folder / "colours")))
    rows = [("0", png((40, 40, 220), 1)), ("1", b"no image"), ("2", png((220, 40, 40), 2))]
    images = spark.createDataFrame(rows, "doc_id string, content binary").coalesce(1)
    found = answers(images.select("doc_id", colour("content").alias("answer")))
    assert [found[doc_id]["error"] is None for doc_id in "012"] == [True, False, True]
    assert {found[doc_id]["prediction"] for doc_id in "02"} <= {"blue", "red"}


def test_the_spark_udf_of_mlflow_gives_the_same_answers(
    spark: SparkSession, texts: DataFrame, sentiment: Function, sentiment_model: Path, tmp_path: Path
) -> None:
    sparkml.save_mlflow_model(str(sentiment_model), str(tmp_path / "saved"))
    udf = mlflow.pyfunc.spark_udf(spark, str(tmp_path / "saved"), env_manager="local")
    both = texts.coalesce(1).select(
        "doc_id", udf("text").alias("answer"), sentiment("text").alias("expected")
    )
    for row in both.collect():
        found, expected = row["answer"].asDict(), row["expected"].asDict()
        if expected["error"] is None:
            assert (found["prediction"], found["error"]) == (expected["prediction"], "")
            assert found["score"] == pytest.approx(expected["score"], abs=LAST_DIGIT)
            assert found["scores"] == pytest.approx(expected["scores"], abs=LAST_DIGIT)
        else:
            assert found == {
                "prediction": "", "score": None, "scores": {}, "spans": [], "embedding": None, "output": "",
                "error": expected["error"],
            }  # fmt: skip


def test_a_model_of_the_registry_is_named_with_its_lake(
    spark: SparkSession,
    sentiment: Function,
    sentiment_model: Path,
    stage_run: Callable[..., StageRun],
    lake: str,
    texts: DataFrame,
) -> None:
    job = stage_run("finetune")
    put_run(job, STARTED)
    record = ModelRecord("mood", 1, str(sentiment_model), "finetuned", stage_run=job.run_id)
    Registry(job.tables, job.ledger).register(record, job.run_id)
    put_run(job, SUCCEEDED, RunReport(rows_in=0, rows_kept=0))
    expected = answers(texts.select("doc_id", sentiment("text").alias("answer")))
    for model, given in (("mood", lake), ("mood/v1", sparkml.open_lake(lake)), (record, None)):
        mood = sparkml.register(spark, "mood", model, lake=given)
        assert_same(answers(texts.select("doc_id", mood("text").alias("answer"))), expected)
    with pytest.raises(InputError, match="there is no model `moods`"):
        sparkml.register(spark, "moods", "moods", lake=lake)
    with pytest.raises(UsageError, match="without the lake"):
        sparkml.register(spark, "mood", "mood")


def test_wrong_use_is_an_error_that_says_so(
    spark: SparkSession, sentiment: Function, sentiment_model: Path, folder: Path
) -> None:
    with pytest.raises(UsageError, match=r"sentiment\(text\)"):
        sentiment("text", "text_b")
    with pytest.raises(PythonException, match=r"expected: sentiment\(text\)"):
        spark.sql("SELECT sentiment('a', 'b')").collect()
    with pytest.raises(PythonException, match="argument `text`"):
        spark.sql("SELECT sentiment(array('a'))").collect()
    with pytest.raises(ConfigError, match="more threads than a task has cores"):
        sparkml.register(spark, "sentiment", str(sentiment_model), threads=8)
    with pytest.raises(InputError, match="something to start from"):
        sparkml.register(spark, "start", str(tiny_encoder(folder / "start")))
