"""The applications of the README on small data, each from its files to its tables, its page and its notebook."""

from __future__ import annotations

import csv
import json
import random
import runpy
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from sparkml.frame.delta import FolderTable
from sparkml.frame.schemas import LABELS
from tests import identities
from tests.command_line import call
from tests.servers import kafka_broker
from tests.streams import put_file
from tests.tiny import tiny_encoder

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
GOOD, BAD = (
    ["gain", "rise", "record", "strong", "win", "profit"],
    ["loss", "fall", "weak", "cut", "crash", "fear"],
)
FX, SHARES = ["dollar", "euro", "yen", "currency"], ["stock", "index", "share", "trader"]
QUICK = ["spark.sql.shuffle.partitions=2", "spark.databricks.delta.snapshotPartitions=1"]
START = datetime(2026, 3, 1, tzinfo=timezone.utc)
pytestmark = pytest.mark.filterwarnings("ignore")


def done(*words: str) -> str:
    code, shown = call(*words, *QUICK)
    assert code == 0, shown[-4000:]
    return shown


def learning(step: str, model: Path, steps: int = 60) -> list[str]:
    """A small encoder that learns quickly on one rank."""
    settings = {"model": model, "ranks": 1, "max_steps": steps, "max_epochs": 50, "batch_size": 16}
    settings |= {"learning_rate": 0.003, "validation_fraction": 0.2}
    return [f"{step}.{name}={value}" for name, value in settings.items()]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    tiny_encoder(folder)
    return folder


def notebook(name: str, lake: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> str:
    spark.conf.set("sparkml.lake", str(lake))
    try:
        runpy.run_path(str(NOTEBOOKS / f"{name}.py"), init_globals={"spark": spark})
    finally:
        spark.conf.unset("sparkml.lake")
    return capsys.readouterr().out


def headline(chance: random.Random, positive: float = 0.5) -> tuple[str, str, str]:
    """A text, its sentiment and topic."""
    is_good, is_fx = chance.random() < positive, chance.random() < 0.5
    words = chance.choices(GOOD if is_good else BAD, k=3) + chance.choices(FX if is_fx else SHARES, k=3)
    chance.shuffle(words)
    return " ".join(words), "positive" if is_good else "negative", "fx" if is_fx else "shares"


def hour_of(chance: random.Random, hour: int, positive: float = 0.5) -> list[dict[str, str]]:
    at = START + timedelta(hours=hour)
    return [
        {
            "id": f"{hour}-{number}",
            "published": (at + timedelta(minutes=chance.randrange(60))).isoformat(),
            "text": headline(chance, positive)[0] + f" {number}",
        }
        for number in range(40)
    ]


def labelled_file(path: Path, rows: list[tuple[str, str]], names: tuple[str, str]) -> Path:
    with path.open("w", newline="") as out:
        csv.writer(out).writerows([names, *rows])
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory, encoder, spark) -> dict[str, Path]:
    """A model of sentiment and one of topics that have learnt from headlines."""
    folder = tmp_path_factory.mktemp("learnt")
    chance = random.Random(5)
    rows = [headline(chance) for _ in range(400)]
    found = {}
    for name, place in (("sentiment", 1), ("topics", 2)):
        file = labelled_file(
            folder / f"{name}.csv", [(row[0], row[place]) for row in rows], ("text", "label")
        )
        lake = folder / name
        words = [
            f"lake={lake}",
            f"intents_ingest.source.path={file}",
            "intents_ingest.source.label_field=label",
        ]
        done("run-all", "--pipeline", "intents", "--until", "intents", *words,
             "intents.task.min_rows_per_label=2", *learning("intents", encoder))  # fmt: skip
        found[name] = Path(FolderTable("models", str(lake / "models")).read().to_pylist()[-1]["path"])
    return found


def asked(models: dict[str, Path]) -> list[str]:
    """Which models the pipeline asks."""
    used = {"headlines_tone": "sentiment", "market": "sentiment", "headlines_topic": "topics"}
    return [f"{step}.model={models[name]}" for step, name in used.items()]


def test_a_swing_of_the_market_is_told_within_its_hour_and_a_quiet_day_is_quiet(
    tmp_path, models, spark, capsys
) -> None:
    chance, lake, folder = random.Random(7), tmp_path / "lake", tmp_path / "in"
    words = ["run-all", "--pipeline", "market", f"lake={lake}", f"headlines.source.path={folder}"]
    words += asked(models)
    for hour in range(48):
        put_file(folder, f"{hour:03d}.jsonl", hour_of(chance, hour))
    done(*words)
    assert "alerts" not in {path.name for path in lake.iterdir()}
    for hour in range(48, 50):
        put_file(folder, f"{hour:03d}.jsonl", hour_of(chance, hour, positive=0.05))
    done(*words)
    alerts = identities.table(lake, "alerts").to_pylist()
    raised = {
        (row["window_start"], row["slice"], row["signal"]) for row in alerts if row["state"] == "raised"
    }
    assert (START + timedelta(hours=48), "all", "prediction") in raised
    watched = set(identities.table(lake, "monitored").column("slice").to_pylist())
    assert watched == {"all", "topic=fx", "topic=shares"}
    page = (lake / "_artifacts" / "monitor" / "market.html").read_text()
    assert "prediction" in page
    assert "positive" in notebook("market_mood", lake, spark, capsys)


def test_headlines_come_from_a_broker_that_restarts(tmp_path, models, spark) -> None:
    chance, lake = random.Random(8), tmp_path / "lake"
    (tmp_path / "kafka").mkdir()
    with kafka_broker(tmp_path / "kafka") as broker:

        def produce(hours: range, positive: float = 0.5) -> int:
            rows = [(json.dumps(row),) for hour in hours for row in hour_of(chance, hour, positive)]
            frame = spark.createDataFrame(rows, "value string")
            frame.write.format("kafka").option("kafka.bootstrap.servers", broker.servers).option(
                "topic", "headlines"
            ).save()
            return len(rows)

        words = ["run-all", "--pipeline", "market", f"lake={lake}", "headlines.source.kafka.topic=headlines"]
        words += [f"headlines.source.kafka.servers={broker.servers}", *asked(models)]
        sent = produce(range(30))
        done(*words)
        broker.stop()
        assert call(*words, *QUICK)[0] == 1  # nobody is there
        broker.start()
        sent += produce(range(30, 32), positive=0.05)
        done(*words)
    texts = identities.table(lake, "headlines")
    assert texts.num_rows == sent == len(set(texts.column("doc_id").to_pylist()))
    raised = {
        row["window_start"]
        for row in identities.table(lake, "alerts").to_pylist()
        if (row["state"], row["slice"], row["signal"]) == ("raised", "all", "prediction")
    }
    assert raised == {START + timedelta(hours=30)}


def test_stars_become_sentiment(tmp_path, encoder, spark, capsys) -> None:
    chance = random.Random(9)
    rows = []
    for _ in range(300):
        text, said, _ = headline(chance)
        rows.append((text, str(chance.choice((4, 5) if said == "positive" else (1, 2)))))
    rows += [("neither this nor that " + headline(chance)[0], "3") for _ in range(60)] + [
        ("no stars", "many")
    ]
    file = labelled_file(tmp_path / "reviews.csv", rows, ("review", "stars"))
    lake = tmp_path / "lake"
    words = [f"lake={lake}", f"stars_ingest.source.path={file}", "stars_ingest.source.text_field=review"]
    done("run-all", "--pipeline", "stars", *words, "stars_ingest.source.label_field=stars",
         "stars.task.min_rows_per_label=2", *learning("stars", encoder, 120))  # fmt: skip
    labels = identities.table(lake, "stars_labelled").column("label").to_pylist()
    assert set(labels) == {"negative", "neutral", "positive"}
    shown = notebook("product_reviews", lake, spark, capsys)
    assert "accuracy" in shown
    assert "positive" in shown


def test_customers_are_understood(tmp_path, encoder, spark, capsys) -> None:
    chance = random.Random(11)
    rows = [(text, topic) for text, _, topic in (headline(chance) for _ in range(300))]
    faq = [(f"{a} {b} {c}", f"about {a}, {b} and {c}") for a in GOOD for b in FX for c in BAD[:3]]
    intents = labelled_file(tmp_path / "intents.csv", rows, ("text", "category"))
    answers = labelled_file(tmp_path / "faq.csv", faq, ("question", "answer"))
    lake = tmp_path / "lake"
    words = [
        f"lake={lake}",
        f"intents_ingest.source.path={intents}",
        "intents_ingest.source.label_field=category",
    ]
    words += [f"answers_ingest.source.path={answers}", "answers_ingest.source.text_field=question"]
    words += ["answers_ingest.source.text_b_field=answer", "intents.task.min_rows_per_label=2"]
    done("run-all", "--pipeline", "customers", *words, *learning("intents", encoder),
         *learning("answers", encoder, 20))  # fmt: skip
    shown = notebook("customer_service", lake, spark, capsys)
    assert "scope" in shown
    assert "baseline_accuracy" in shown


def test_names_are_found(tmp_path, encoder, spark, capsys) -> None:
    chance = random.Random(13)
    sentences = []
    for _ in range(200):
        name, place = chance.choice(["Ada", "Bob", "Cleo"]), chance.choice(["Rome", "Oslo", "Lima"])
        sentences.append(f"{name} B-PER\nlives O\nin O\n{place} B-LOC\n{chance.choice(GOOD)} O\n")
    (tmp_path / "all.conll").write_text("\n".join(sentences))
    lake = tmp_path / "lake"
    done("run-all", "--pipeline", "ner", f"lake={lake}", f"ner_ingest.source.path={tmp_path / 'all.conll'}",
         *learning("ner", encoder))  # fmt: skip
    shown = notebook("named_entities", lake, spark, capsys)
    assert "PER" in shown


def test_labels_of_people_make_a_better_version_and_worse_ones_do_not(tmp_path, encoder, spark) -> None:
    chance = random.Random(15)
    lake = tmp_path / "lake"
    rows = []
    for number in range(240):
        text, said, _ = headline(chance)
        split = "test" if number % 3 == 0 else "train"
        rows.append({"doc_id": f"d{number}", "text": f"{text} {number}", "label": said, "split": split})
    spark.createDataFrame(rows).write.format("delta").save(str(lake / "kept"))
    labels = FolderTable("labels", str(lake / "labels"))

    def put(n: int, *, wrong: bool) -> None:
        given = []
        for number in range(n):
            text, said, _ = headline(chance)
            other = "negative" if said == "positive" else "positive"
            given.append({"doc_id": f"l{wrong}{number}", "text": text, "label": other if wrong else said,
                          "labelled_at": datetime.now(timezone.utc), "labelled_by": "alice"})  # fmt: skip
        labels.append(pa.Table.from_pylist(given, LABELS), {})

    put(50, wrong=False)
    words = ["run-all", "--pipeline", "retrain", f"lake={lake}", *learning("candidate", encoder)]
    words += ["candidate.task.min_rows_per_label=2"]
    done(*words)
    registry = identities.table(lake, "models").to_pylist()
    assert [row["version"] for row in registry if row["model_id"] == "classifier"] == [1]
    put(2_000, wrong=True)
    done(*words)
    registry = identities.table(lake, "models").to_pylist()
    assert [row["version"] for row in registry if row["model_id"] == "classifier"] == [1]
    assert max(row["version"] for row in registry if row["model_id"] == "candidate") == 2
    runs = [row for row in identities.table(lake, "_runs").to_pylist() if row["step"] == "promoted"]
    last = dict(max(runs, key=lambda row: row["started_at"])["metrics"])
    assert last["promoted"] == 0
    assert last["gain"] < 0
