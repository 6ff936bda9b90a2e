"""Streams as processes: killed again and again, over a broker that goes and comes back. Nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkml.inference.scorer import load_scorer
from tests import identities
from tests.conftest import SMALL
from tests.servers import Broker, kafka_broker, wait_for
from tests.streams import answers, put_file
from tests.tiny import tiny_classifier
from tests.way import ENVIRONMENT

_log = logging.getLogger(__name__)
KILLS = 20
ENDLESS = ["stream.trigger=500 milliseconds"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("model") / "tiny")


def command(lake: Path, model: Path, *words: str) -> list[str]:
    given = [f"lake={lake}", f"stream.model={model}", *SMALL, *words]
    return [sys.executable, "-m", "sparkml.cli", "run", "stream", "--pipeline", "stream", *given]


@contextlib.contextmanager
def running(log: Path, words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A driver with its JVM, which are gone after the block."""
    with log.open("ab") as said:
        driver = subprocess.Popen(words, env=ENVIRONMENT, stdout=said, stderr=said, start_new_session=True)
    try:
        yield driver
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


def to_the_end(words: list[str]) -> None:
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def version(lake: Path) -> int:
    return len(list((lake / "scores" / "_delta_log").glob("*.json")))


def check(lake: Path, model: Path, texts: dict[str, str]) -> None:
    """Every document has one row, with the answer to its last text."""
    rows = answers(lake)
    assert rows.keys() == texts.keys()
    expected = load_scorer(model).answer(list(texts.values()))
    for (doc_id, _), answer in zip(texts.items(), expected, strict=True):
        assert rows[doc_id]["prediction"] == answer.prediction, doc_id
        assert rows[doc_id]["score"] == pytest.approx(answer.score, abs=2e-5), doc_id


class Feeding(threading.Thread):
    """Puts a file of new, changed, repeated and broken records into a folder, again and again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.texts, self.broken = folder, dict[str, str](), 0
        self.ended = threading.Event()
        self._chance = random.Random(3)

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            fresh = {f"doc-{number:05d}-{k}": f"{number} {k} spam meeting" for k in range(5)}
            known = self._chance.sample(sorted(self.texts), min(3, len(self.texts)))
            again = {doc_id: self.texts[doc_id] for doc_id in known[:1]}
            changed = dict.fromkeys(known[1:], f"changed {number} lunch offer")
            lines: list[Any] = [
                {"id": name, "text": text} for name, text in {**fresh, **again, **changed}.items()
            ]
            put_file(self.folder, f"{number:05d}.jsonl", [*lines, f"{{broken {number}"])
            self.texts |= {**fresh, **changed}
            self.broken += 1
            number += 1
            self.ended.wait(0.7)


def test_twenty_kills_lose_and_double_nothing(tmp_path: Path, model: Path) -> None:
    """At random moments after its start, or soon after a commit; the driver alone, or its JVM with it."""
    chance = random.SystemRandom()
    lake, feeding = tmp_path / "lake", Feeding(tmp_path / "in")
    words = [f"stream.files.path={feeding.folder}", "stream.files.id_field=id"]
    small = ["stream.max_files_per_batch=3"]
    feeding.folder.mkdir()
    feeding.start()
    in_work = 0
    for kill in range(KILLS):
        before = version(lake)
        with running(tmp_path / "log", command(lake, model, *words, *small, *ENDLESS)) as driver:
            if kill % 4:
                wait_for(lambda before=before: version(lake) > before, 240, "a commit")  # type: ignore[misc]
                time.sleep(chance.uniform(0, 4))
            else:
                time.sleep(chance.uniform(5, 25))
            in_work += version(lake) > before
            assert driver.poll() is None, (tmp_path / "log").read_text()[-3000:]
            if kill % 2:
                driver.kill()  # the block's end kills the JVM with it
        _log.info("kill %d at version %d (%d before)", kill + 1, version(lake), before)
    feeding.ended.set()
    feeding.join()
    to_the_end(command(lake, model, *words))
    check(lake, model, feeding.texts)
    rejects = identities.table(lake, "rejects").to_pylist()
    assert len(rejects) == len({row["doc_id"] for row in rejects}) == feeding.broken
    assert in_work >= KILLS // 2
    runs = identities.table(lake, "_runs").to_pylist()
    assert sum(row["status"] == "failed" for row in runs) >= KILLS // 2
    _log.info("%d documents, %d commits, %d kills after a commit", len(feeding.texts), version(lake), in_work)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "kafka"
    folder.mkdir()
    with kafka_broker(folder) as found:
        yield found


def test_a_broker_that_restarts_and_a_driver_that_is_killed(
    spark: SparkSession, broker: Broker, tmp_path: Path, model: Path
) -> None:
    lake, texts = tmp_path / "lake", dict[str, str]()

    def produce(first: int, n: int) -> None:
        fresh = {f"doc-{number:05d}": f"{number} money friend click" for number in range(first, first + n)}
        objects = [(f'{{"id": "{name}", "body": "{text}"}}',) for name, text in fresh.items()]
        rows = spark.createDataFrame([*objects, (f"{{broken {first}",)], "value string").repartition(2)
        rows.write.format("kafka").option("kafka.bootstrap.servers", broker.servers).option(
            "topic", "docs"
        ).save()
        texts.update(fresh)

    words = [
        *(f"stream.kafka.servers={broker.servers}", "stream.kafka.topic=docs", "stream.kafka.id_field=id"),
        *("stream.columns.text=body", "stream.max_rows_per_batch=1000"),
    ]

    def is_answered() -> bool:
        return version(lake) > 0 and len(answers(lake)) == len(texts)

    produce(0, 300)
    with running(tmp_path / "log", command(lake, model, *words, *ENDLESS)) as driver:
        wait_for(is_answered, 240, "the first answers")
        broker.stop()
        time.sleep(5)
        broker.start()
        produce(300, 300)
        wait_for(is_answered, 240, "answers after the restart of the broker")
        produce(600, 5000)
        time.sleep(1)
        assert driver.poll() is None, (tmp_path / "log").read_text()[-3000:]
    to_the_end(command(lake, model, *words))
    check(lake, model, texts)
    rejects = identities.table(lake, "rejects").to_pylist()
    assert {row["drop_reason"] for row in rejects} == {"malformed_json"}
    assert len({row["doc_id"] for row in rejects}) == len(rejects) >= 3
    last = [row for row in identities.table(lake, "_runs").to_pylist() if row["status"] == "succeeded"][-1]
    _log.info("the last run: %s", dict(last["metrics"]))
