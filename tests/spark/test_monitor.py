"""The stage monitor: windows of a table beside a reference, alerts, rows to label, a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparkml.errors import InputError
from sparkml.frame.effects import watched_effects
from sparkml.frame.ledger import FAILED, STARTED, SUCCEEDED, Ledger
from sparkml.frame.tables import Tables
from sparkml.stages.monitor.config import MonitorConfig
from sparkml.stages.monitor.stage import run, source_state
from tests.kills import Killed
from tests.runs import new_run, put_run
from tests.webhook import Receiver, receiving

START = datetime(2026, 1, 5, tzinfo=timezone.utc)
DAY = timedelta(days=1)
WORDS = [
    "market",
    "price",
    "bank",
    "share",
    "gain",
    "loss",
    "rate",
    "cut",
    "rise",
    "fall",
    "week",
    "month",
    "trade",
    "firm",
    "sale",
]
NEW_WORDS = ["kettle", "spoon", "garden", "violin", "turtle", "lantern"]
SCHEMA = (
    "doc_id string, at timestamp, text string, lang string, prediction string, score double, topic string, "
    "label string, labelled_at timestamp"
)


def day_rows(
    day: int, n: int = 120, *, positive: float = 0.5, words: list[str] | None = None, lang: str = "en"
):
    """Rows of a day: texts of random words, a prediction that is right in nine of ten."""
    chance = np.random.default_rng(day + 1000)
    rows = []
    for number in range(n):
        text = " ".join(chance.choice(words or WORDS, 6 + int(chance.integers(6)))) + f" {number}"
        is_positive = chance.random() < positive
        prediction = "positive" if is_positive else "negative"
        other = "negative" if is_positive else "positive"
        label = prediction if chance.random() < 0.9 else other
        at = START + day * DAY + timedelta(minutes=int(chance.integers(1440)))
        topic = "fx" if chance.random() < 0.5 else "shares"
        score = 0.5 + 0.5 * float(chance.random())
        rows.append(
            (f"{day}-{number}", at, text, lang, prediction, score, topic, label, at + timedelta(hours=5))
        )
    return rows


QUIET = [row for day in range(14) for row in day_rows(day)]
CONFIG = MonitorConfig.model_validate(
    {
        "source": "documents",
        "columns": {"time": "at"},
        "slices": ["topic"],
        "reference_rows": {"windows": 10},
        "queue_rows": 6,
        "false_alarms": 0.01,
    }
)


class Watch:
    """A lake with a table of documents, and runs of the stage over it."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.tables = Tables(str(folder / "lake"), lambda: spark)

    def put(self, rows: list[tuple[Any, ...]], *, append: bool = False) -> None:
        frame = self.spark.createDataFrame(rows, SCHEMA)
        (self.tables.append if append else self.tables.overwrite)(frame, "documents")

    def run(self, config: MonitorConfig = CONFIG, watcher: Any = None) -> dict[str, float]:
        ledger = Ledger(self.tables)
        ledger.abandon_started()
        job = new_run(self.tables, ledger, self.folder / "artifacts", "monitor")
        put_run(job, STARTED)
        row = job.ledger.run(job.run_id)
        job.ledger.put(type(row)(**{**vars(row), "metrics": {"whole_commits": 1.0}}))
        try:
            with watched_effects(watcher or (lambda name: None)):
                report = run(job, config)
        except BaseException:
            job.ledger.put(type(row)(**{**vars(row), "metrics": {"whole_commits": 1.0}, "status": FAILED}))
            raise
        put_run(job, SUCCEEDED, report)
        return dict(report.metrics)

    def rows(self, table: str) -> list[dict[str, Any]]:
        if not self.tables.exists(table):
            return []
        return [row.asDict() for row in self.tables.read(table).collect()]

    def alarms(self, name: str = "all") -> set[tuple[int, str]]:
        """Days and signals of alarms."""
        return {
            ((row["window_start"].astimezone(timezone.utc) - START).days, row["signal"])
            for row in self.rows("monitored")
            if row["alarm"] and row["slice"] == name
        }


@pytest.fixture
def watch(spark: SparkSession, tmp_path: Path) -> Watch:
    return Watch(spark, tmp_path)


def test_quiet_days_raise_nothing_and_every_signal_stands_beside_its_limit(watch: Watch) -> None:
    watch.put(QUIET)
    metrics = watch.run()
    assert metrics["windows"] == 4
    assert metrics["rows"] == 480
    assert metrics["alarms"] == 0
    rows = watch.rows("monitored")
    signals = {row["signal"] for row in rows if row["slice"] == "all"}
    assert signals == {
        *("rows", "text.missing", "text.repeated", "text.characters", "text.words", "text.new_words", "lang"),
        *("prediction", "score", "correct", "calibration", "label.hours", "content"),
    }
    assert {row["slice"] for row in rows} == {"all", "topic=fx", "topic=shares"}
    assert all(row["value"] <= row["threshold"] for row in rows if row["signal"] != "rows")
    calibration = next(row for row in rows if row["signal"] == "calibration" and row["slice"] == "all")
    assert 0.8 < dict(calibration["statistics"])["accuracy"] < 1
    hours = next(row for row in rows if row["signal"] == "label.hours")
    assert hours["n"] == 120 or hours["slice"] != "all"
    assert watch.rows("alerts") == []
    page = (watch.folder / "artifacts" / "monitor" / "monitor.html").read_text()
    assert "No alert is open." in page
    assert "<script" not in page


def test_planted_drifts_are_alarms_of_their_days(watch: Watch) -> None:
    drifts: dict[int, tuple[dict[str, Any], set[str]]] = {
        14: ({"positive": 0.85}, {"prediction"}),
        16: ({"words": NEW_WORDS}, {"content", "text.new_words"}),
        18: ({"lang": "de"}, {"lang"}),
        20: ({"n": 10}, {"rows"}),
    }
    later = [row for day in range(14, 22) for row in day_rows(day, **drifts.get(day, ({}, set()))[0])]
    watch.put([*QUIET, *later])
    watch.run(CONFIG.model_copy(update={"min_rows": 5}))
    found = watch.alarms()
    assert {day for day, _ in found} == set(drifts)
    for day, (_, signals) in drifts.items():
        assert signals <= {signal for of, signal in found if of == day}


def test_an_alert_is_raised_once_and_recovers_and_a_second_run_says_nothing_new(watch: Watch) -> None:
    watch.put([*QUIET, *day_rows(14, positive=0.9)])
    watch.run()
    limits = {
        (row["signal"], row["slice"], row["window_start"]): row["threshold"]
        for row in watch.rows("monitored")
    }
    # Late rows of the reference's days change nothing any more: it was measured once.
    late = [(f"late-{row[0]}", *row[1:]) for row in day_rows(3, positive=0.0)]
    watch.put([*day_rows(15, positive=0.9), *day_rows(16), *late], append=True)
    metrics = watch.run()
    assert metrics["new_windows"] == 2
    now = {
        (row["signal"], row["slice"], row["window_start"]): row["threshold"]
        for row in watch.rows("monitored")
    }
    assert limits.items() <= now.items()
    events = [row for row in watch.rows("alerts") if (row["slice"], row["signal"]) == ("all", "prediction")]
    events.sort(key=lambda row: row["window_start"])
    assert [row["state"] for row in events] == ["raised", "repeated", "recovered"]
    assert len({row["alert_id"] for row in events}) == 1
    before = watch.rows("alerts"), watch.rows("labelling"), watch.rows("notifications")
    again = watch.run()
    assert (again["new_windows"], again["raised"], again["queued"]) == (0, 0, 0)
    assert (watch.rows("alerts"), watch.rows("labelling"), watch.rows("notifications")) == before


def test_rows_to_label_are_unsure_or_unlike_the_reference_and_come_once(watch: Watch) -> None:
    odd = [(*row[:7], None, None) for row in day_rows(14, words=NEW_WORDS)]
    watch.put([*QUIET, *odd])
    metrics = watch.run()
    queue = watch.rows("labelling")
    assert metrics["queued"] == len(queue) == len({row["doc_id"] for row in queue})
    reasons = Counter(row["reason"] for row in queue)
    assert reasons["uncertain"] == 3
    assert reasons["drift"] > 0
    lowest = sorted(odd, key=lambda row: (row[5], row[0]))[:3]
    assert {row["doc_id"] for row in queue if row["reason"] == "uncertain"} == {row[0] for row in lowest}
    assert all(set(row["text"].split()) & set(NEW_WORDS) for row in queue)


def test_labels_that_come_later_are_judged_when_they_are_there(watch: Watch) -> None:
    rows = [row for day in range(15) for row in day_rows(day)]
    watch.put([(*row[:7], None, None) for row in rows])
    wrong = [(row[0], "none of them" if row[0].startswith("14-") else row[7], row[8]) for row in rows]
    frame = watch.spark.createDataFrame(wrong, "doc_id string, label string, labelled_at timestamp")
    watch.tables.overwrite(frame.where("doc_id NOT LIKE '14-%'"), "labels")
    config = CONFIG.model_copy(update={"labels": "labels", "queue_rows": 0})
    watch.run(config)
    assert (14, "correct") not in watch.alarms()
    watch.tables.append(frame.where("doc_id LIKE '14-%'"), "labels")
    metrics = watch.run(config)
    assert metrics["new_windows"] == 1  # the window was judged, its performance was not
    assert (14, "correct") in watch.alarms()


def test_a_table_without_a_time_is_one_window_beside_another(watch: Watch) -> None:
    watch.put(QUIET)
    drifted = watch.spark.createDataFrame(day_rows(20, 400, positive=0.9), SCHEMA)
    watch.tables.overwrite(drifted, "now")
    config = MonitorConfig(source="now", reference="documents", queue_rows=0)
    watch.run(config)
    found = {row["signal"] for row in watch.rows("monitored") if row["alarm"]}
    assert "prediction" in found
    assert "rows" not in {row["signal"] for row in watch.rows("monitored")}
    watch.tables.overwrite(watch.spark.createDataFrame(day_rows(21, 400), SCHEMA), "now")
    watch.run(config)
    states = [row["state"] for row in watch.rows("alerts") if row["signal"] == "prediction"]
    assert sorted(states) == ["raised", "recovered"]


def test_a_day_that_is_missing_and_one_that_is_not_over(watch: Watch) -> None:
    now = datetime.now(timezone.utc)
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0) - 14 * DAY
    moved = [(row[0], row[1] - START + begin, *row[2:]) for row in QUIET[: 12 * 120]]  # 12 days, then nothing
    watch.put(moved)
    watch.run()
    quiet = {row["window_start"] for row in watch.rows("monitored")}
    assert max(quiet).astimezone(timezone.utc) == begin + 11 * DAY
    live = CONFIG.model_copy(update={"live": True})
    watch.run(live)
    empty = {row["window_start"].astimezone(timezone.utc) for row in watch.rows("monitored") if row["alarm"]}
    assert empty == {begin + 12 * DAY, begin + 13 * DAY}
    assert source_state(live) != ""
    assert source_state(CONFIG) == ""


def test_scores_of_another_table_are_joined_by_key_and_version(watch: Watch) -> None:
    from sparkml.frame.registry import ModelRecord, Registry

    rows = [*QUIET, *day_rows(14, positive=0.9)]
    watch.put(rows)
    for version in (1, 2):
        record = ModelRecord(
            "tone", version, str(watch.folder / f"v{version}"), "finetuned", stage_run=f"r{version}"
        )
        Registry(watch.tables, Ledger(watch.tables)).register(record, record.stage_run)
    answers = [
        (row[0], "tone", version, row[4] if version == 2 else "same", 0.9, None)
        for row in rows
        for version in (1, 2)
    ]
    schema = (
        "doc_id string, model_id string, model_version int, prediction string, score double, error string"
    )
    watch.tables.overwrite(watch.spark.createDataFrame(answers, schema), "answers")
    frame = watch.spark.createDataFrame(rows, SCHEMA).drop("prediction", "score")
    watch.tables.overwrite(frame, "plain")
    config = CONFIG.model_copy(update={"source": "plain", "scores": "answers", "model": "tone/v2"})
    watch.run(config)
    assert (14, "prediction") in watch.alarms()
    config = config.model_copy(update={"model": "tone/v1"})
    assert watch.run(config)["windows"] == 5


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def _hooked(receiver: Receiver) -> MonitorConfig:
    hook = {"url": f"http://127.0.0.1:{receiver.server_port}/"}
    return MonitorConfig.model_validate({**CONFIG.model_dump(), "webhook": hook})


@pytest.mark.rare
def test_who_dies_at_any_write_tells_everything_once(watch: Watch, receiver: Receiver) -> None:
    rows = [*QUIET, *day_rows(14, positive=0.9), *day_rows(15), *day_rows(16, words=NEW_WORDS)]
    rows = [(*row[:7], None, None) if row[0].startswith("16-") else row for row in rows]
    config = _hooked(receiver)
    effects: list[str] = []
    watch.put(rows)
    watch.run(config, effects.append)
    expected = _found(watch)
    told = [body["key"] for _, body in receiver.seen]
    assert len(told) == len(set(told)) > 1
    assert len(expected["labelling"]) > 0
    for kill in range(1, len(effects) + 1):
        receiver.seen.clear()
        other = Watch(watch.spark, watch.folder / str(kill))
        other.put(rows)
        left = kill

        def die(name: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise Killed(name)

        with pytest.raises(Killed):
            other.run(config, die)
        other.run(config)
        assert _found(other) == expected, effects[kill - 1]
        assert {headers["Idempotency-Key"] for headers, _ in receiver.seen} == set(told), effects[kill - 1]


def _found(watch: Watch) -> dict[str, list[Any]]:
    """What the tables hold, in order."""
    keys = {
        "alerts": ("event_id", "alert_id", "state", "message"),
        "monitored": ("slice", "signal", "window_start", "value", "alarm"),
        "notifications": ("message", "channel"),
        "labelling": ("doc_id", "reason", "window_start"),
    }
    return {
        table: sorted(tuple(row[key] for key in names) for row in watch.rows(table))
        for table, names in keys.items()
    }


def test_a_message_that_could_not_be_sent_goes_with_the_next_run(
    watch: Watch, receiver: Receiver, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sparkml.monitoring.telling._FIRST_WAIT", 0.01)
    watch.put([*QUIET, *day_rows(14, positive=0.9)])
    receiver.statuses = [503, 503, 503]
    assert watch.run(_hooked(receiver))["untold"] == 1
    assert watch.run(_hooked(receiver))["untold"] == 0
    keys = [headers["Idempotency-Key"] for headers, _ in receiver.seen]
    assert len(keys) == 4
    assert len(set(keys)) == 1
    body = json.loads(json.dumps(receiver.seen[-1][1]))
    assert {event["signal"] for event in body["events"]} >= {"prediction"}


def test_silence_is_written_and_not_told(watch: Watch) -> None:
    watch.put([*QUIET, *day_rows(14, positive=0.9)])
    silences = [{"signal": "prediction"}, {"slice": "topic=*"}]
    watch.run(MonitorConfig.model_validate({**CONFIG.model_dump(), "silences": silences}))
    states = {(row["slice"], row["signal"]): (row["state"], row["message"]) for row in watch.rows("alerts")}
    assert states["all", "prediction"] == ("silenced", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"time": "no_such"}}, "no column `no_such`"),
        ({"query": "SELECT nothing FROM {source}"}, "query cannot be asked"),
        ({"numbers": ["missing"]}, "no column `missing`"),
    ],
)
def test_what_cannot_be_watched_is_told(watch: Watch, change: dict[str, Any], message: str) -> None:
    watch.put(QUIET[:10])
    with pytest.raises(InputError, match=message):
        watch.run(MonitorConfig.model_validate({**CONFIG.model_dump(), **change}))


def test_an_empty_table_is_an_error_and_one_that_has_only_a_reference_is_not(watch: Watch) -> None:
    watch.put(QUIET)
    watch.tables.overwrite(watch.spark.createDataFrame([], SCHEMA), "documents")
    with pytest.raises(InputError, match="no row has a time"):
        watch.run()
    watch.put(QUIET[: 5 * 120])
    assert watch.run()["windows"] == 0
    assert (
        "No window was judged yet." in (watch.folder / "artifacts" / "monitor" / "monitor.html").read_text()
    )
