"""From good and bad examples to a score, from a score to the best documents, from several tables to a mixture."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import InputError
from sparkml.frame.checks import everything_is_there
from sparkml.frame.config import load_config
from sparkml.frame.progress import Progress
from sparkml.frame.run import StageRun
from sparkml.frame.runner import Runner
from sparkml.frame.schemas import BRONZE
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.tables import Tables
from sparkml.stages import learn_quality, mix, select
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.linear_model import LinearModel
from sparkml.stages.clean.stage import run as clean
from sparkml.stages.learn_quality import LearnQualityConfig
from sparkml.stages.mix import MixConfig, Part, shares_of
from sparkml.stages.select import SelectConfig

Make = Callable[..., StageRun]
GOOD = (
    *("the", "of", "and", "history", "science", "was", "found", "people", "year", "written"),
    *("language", "music", "river", "city", "century"),
)
BAD = (
    *("buy", "click", "now", "free", "offer", "cheap", "win", "casino", "login", "cart"),
    *("menu", "subscribe", "deal", "price", "sale"),
)


def text(words: tuple[str, ...], chance: random.Random) -> str:
    # Both kinds share most of their words.
    return " ".join(chance.choice(words if chance.random() < 0.3 else GOOD + BAD) for _ in range(40))


@pytest.fixture
def examples(spark: SparkSession, tables: Tables) -> None:
    chance = random.Random(5)
    for name, words in (("good", GOOD), ("bad", BAD)):
        rows = [(f"{name}-{n}", text(words, chance)) for n in range(300)]
        tables.append(spark.createDataFrame(rows, "doc_id string, text string"), name)


@pytest.mark.usefixtures("examples")
def test_a_model_learns_what_good_is_and_clean_scores_by_it(
    spark: SparkSession, tables: Tables, stage_run: Make
) -> None:
    job = stage_run("learn_quality")
    config = LearnQualityConfig(good="good", bad="bad", model_id="taste", slots=1 << 16)
    report = learn_quality.run(job, config)
    assert report.metrics["auc"] > 0.95
    record = job.model("taste")
    assert (record.kind, record.version) == ("linear", 1)
    assert LinearModel.of(record.path).weights.shape == (1 << 16,)
    chance = random.Random(6)
    rows = [
        (kind, n, text(words, chance)) for kind, words in (("good", GOOD), ("bad", BAD)) for n in range(50)
    ]
    names = BRONZE.names
    documents = [
        tuple({"doc_id": f"{kind}-{n}", "text": content}.get(name) for name in names)
        for kind, n, content in rows
    ]
    tables.append(spark.createDataFrame(documents, spark_schema(BRONZE)), "bronze")
    settings = CleanConfig(rules=("quality",), quality_model="taste", quality={"min_score": 0.5})
    done = clean(stage_run("clean"), settings)
    done.check("clean")
    assert done.reasons.keys() == {"low_quality"}
    kept = [row["doc_id"].split("-")[0] for row in tables.read("clean").collect()]
    assert kept.count("good") > 40 > 10 > kept.count("bad")
    again = learn_quality.run(stage_run("learn_quality"), config)
    assert again.metrics == report.metrics


@pytest.mark.usefixtures("examples")
def test_another_version_of_the_model_scores_all_documents_anew(
    spark: SparkSession, tables: Tables, tmp_path: Path
) -> None:
    chance = random.Random(7)
    names = BRONZE.names
    rows = [{"doc_id": str(n), "text": text(GOOD, chance)} for n in range(20)]
    found = [tuple(row.get(name) for name in names) for row in rows]
    tables.append(spark.createDataFrame(found[:10], spark_schema(BRONZE)), "bronze")
    (tmp_path / "taste.yaml").write_text(
        "steps:\n  taste: {stage: learn_quality, good: good, bad: bad, slots: 65536}\n"
        "  clean: {rules: [quality], quality_model: taste}\n"
    )
    config = load_config(
        "local", [f"lake={tables.lake}"], pipeline=str(tmp_path / "taste.yaml"), known=everything_is_there
    )
    runner = Runner(lambda: spark, config, Progress())

    def read_by_clean(*, learn: bool) -> float:
        if learn:
            runner.run(config.pipeline.step("taste"), force=True)
        return runner.run(config.pipeline.step("clean")).report.metrics["documents_read"]

    assert read_by_clean(learn=True) == 10
    tables.append(spark.createDataFrame(found[10:15], spark_schema(BRONZE)), "bronze")
    assert read_by_clean(learn=False) == 5
    tables.append(spark.createDataFrame(found[15:], spark_schema(BRONZE)), "bronze")
    assert read_by_clean(learn=True) == 20


@pytest.mark.usefixtures("examples")
def test_examples_of_one_kind_alone_teach_nothing(
    spark: SparkSession, tables: Tables, stage_run: Make
) -> None:
    tables.append(spark.createDataFrame([], "doc_id string, text string"), "none")
    with pytest.raises(InputError, match="there are none"):
        learn_quality.run(
            stage_run("learn_quality"), LearnQualityConfig(good="good", bad="none", model_id="m")
        )
    with pytest.raises(InputError, match="no column `body`"):
        learn_quality.run(
            stage_run("learn_quality"),
            LearnQualityConfig(good="good", bad="bad", column="body", model_id="m"),
        )


def test_no_other_directory_is_taken_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no model of the stage learn_quality"):
        LinearModel.of(str(tmp_path))


@pytest.fixture
def scored(spark: SparkSession, tables: Tables) -> None:
    rows = [(f"d{n:03}", "en" if n % 2 else "de", (n / 1000,)) for n in range(1000)]
    rows.append(("none", "en", (None,)))
    tables.append(
        spark.createDataFrame(rows, "doc_id string, lang string, signals struct<quality:double>"), "scored"
    )
    answers = [
        (f"d{n:03}", "judge", n / 1000, {"good": n / 1000, "bad": 1 - n / 1000}, None) for n in range(1000)
    ]
    schema = "doc_id string, step string, score double, scores map<string,double>, error string"
    tables.append(spark.createDataFrame(answers, schema), "judged")


def selected(job: StageRun, tables: Tables, **settings: Any) -> set[str]:
    report = select.run(job, SelectConfig(**{"source": "scored", **settings}))
    report.check("select")
    return {row["doc_id"] for row in tables.read("selected").collect()}


@pytest.mark.usefixtures("scored")
def test_the_best_by_limit_share_and_sample(tables: Tables, stage_run: Make) -> None:
    best = {f"d{n:03}" for n in range(900, 1000)}
    assert selected(stage_run("select"), tables, min_score=0.9) == best
    assert best <= selected(stage_run("select"), tables, top_share=0.1) <= best | {"d899"}
    assert (
        selected(stage_run("select"), tables, scores="judged", label="bad", best="low", min_score=0.1) == best
    )
    by_group = selected(stage_run("select"), tables, top_share=0.1, within=("lang",))
    assert 100 <= len(by_group) <= 102
    sample = selected(stage_run("select"), tables, pareto=9.0)
    assert sample == selected(stage_run("select"), tables, pareto=9.0)
    above = sum(name > "d950" for name in sample)
    below = sum(name < "d050" for name in sample)
    assert above > 5 * max(below, 1)
    rejects = tables.read("rejects").where("drop_reason = 'no_score'").collect()
    assert [row["doc_id"] for row in rejects] == ["none"]


@pytest.mark.usefixtures("scored")
def test_scores_that_are_not_there_or_several(spark: SparkSession, tables: Tables, stage_run: Make) -> None:
    with pytest.raises(InputError, match="no signal `taste`"):
        selected(stage_run("select"), tables, signal="taste", min_score=0.5)
    tables.append(
        tables.read("judged").limit(1).selectExpr("doc_id", "'b' step", "score", "scores", "error"), "judged"
    )
    with pytest.raises(InputError, match="several scores"):
        selected(stage_run("select"), tables, scores="judged", min_score=0.5)
    assert selected(stage_run("select"), tables, scores="judged", scored_by="judge", min_score=0.9)
    with pytest.raises(ValueError, match="one of min_score"):
        SelectConfig(min_score=0.5, top_share=0.5)


@pytest.fixture
def sources(spark: SparkSession, tables: Tables) -> None:
    schema = "doc_id string, text string, n_words int, lang string"
    for name, count, words in (("web", 1000, 10), ("books", 20, 100)):
        rows = [(f"{name}-{n}", "x " * words, words, "en") for n in range(count)]
        tables.append(spark.createDataFrame(rows, schema), name)


@pytest.mark.usefixtures("sources")
def test_a_mixture_has_the_parts_that_are_asked_for(tables: Tables, stage_run: Make) -> None:
    settings = {
        "sources": {"web": "web", "books": "books"},
        "weights": {"web": 3, "books": 1},
        "budget": 12_000,
    }
    with pytest.raises(InputError, match="of `books` there is too little"):
        mix.run(stage_run("mix"), MixConfig(**settings, max_repeats=1))
    mix.run(stage_run("mix"), MixConfig(**settings))
    mixed = tables.read("mixed")
    sums = mixed.groupBy("origin").agg({"n_words": "sum"}).toDF("origin", "words")
    given = {row["origin"]: row["words"] for row in sums.collect()}
    assert given["web"] == pytest.approx(9_000, rel=0.05)
    assert given["books"] == pytest.approx(3_000, rel=0.2)
    assert mixed.count() == mixed.select("doc_id").distinct().count()
    assert mixed.where("doc_id LIKE 'books-%~2'").count() == given["books"] / 100 - 20
    row = next(row for row in tables.read("mixtures").collect() if row["name"] == "books")
    assert (row["share"], row["repeats"], row["documents"], row["version"]) == (0.25, 1.5, 20, 0)
    first = {row["doc_id"] for row in mixed.collect()}
    mix.run(stage_run("mix"), MixConfig(**{**settings, "budget": 6_000}))
    assert {row["doc_id"] for row in tables.read("mixed").collect()} < first


def test_temperature_lifts_small_sources_and_no_budget_takes_what_there_is() -> None:
    parts = [Part("large", 900, 900), Part("small", 100, 100)]
    sources = {"large": "a", "small": "b"}
    plain = shares_of(parts, MixConfig(sources=sources))
    assert [(part.share, part.repeats) for part in plain] == [(0.9, 1.0), (0.1, 1.0)]
    warm = shares_of(parts, MixConfig(sources=sources, temperature=2.0))
    assert [round(part.share, 3) for part in warm] == [0.75, 0.25]
    assert [round(part.repeats, 3) for part in warm] == [0.333, 1.0]
    without = shares_of(parts, MixConfig(sources=sources, weights={"large": 0, "small": 1}))
    assert [part.repeats for part in without] == [0.0, 1.0]
    with pytest.raises(InputError, match="empty"):
        shares_of([Part("large", 0, 0), parts[1]], MixConfig(sources=sources, weights={"large": 1}))
    with pytest.raises(ValueError, match="weights of no source"):
        MixConfig(sources=sources, weights={"other": 1})
