"""False and missed alarms of the stage `monitor` beside evidently's defaults, on labelled texts.

    python -m tests.bench.bench_monitor --texts FILE.tsv [--other FILE.tsv] [--peer-python PATH] [--windows 200]

`--texts`: lines `text TAB label TAB split`. A linear classifier (TF-IDF) learns from the split `train` and gives every
row its prediction and score. Days of about 200 rows are drawn from the other splits: 20 as the reference, `--windows`
without drift, and 20 of each planted drift and size. `drawn at random` draws rows one by one; `days differ` gives every
day a mix of labels of its own (a beta distribution of 40 rows' weight). Both see the same columns: text, its characters
and words, prediction, score. Windows with any alarm are counted: false ones, and of planted drifts those found.
evidently runs in `--peer-python`, once a day against all rows of the reference: DataDriftPreset as it is.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PEER = Path(__file__).with_name("monitor_peer.py")
ROWS, REFERENCE, PLANTED = 200, 20, 20
START = datetime(2020, 1, 1, tzinfo=timezone.utc)
Draw = Callable[[np.random.Generator, int], list[int]]


def read_texts(file: str) -> list[tuple[str, str, str]]:
    """Texts, labels, splits."""
    csv.field_size_limit(1 << 30)
    with open(file, encoding="utf-8", newline="") as lines:
        return [
            (row["text"], row["label"], row["split"])
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def judged(train: list[tuple[str, str]], texts: list[str]) -> list[tuple[str, float]]:
    """Prediction and score of each text by a linear classifier."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = LogisticRegression(max_iter=1000, C=10).fit(
        vectors.fit_transform([text for text, _ in train]), [label for _, label in train]
    )
    shares = model.predict_proba(vectors.transform(texts))
    best = shares.argmax(1)
    return [(str(model.classes_[at]), float(row[at])) for at, row in zip(best, shares, strict=True)]


def days(
    rows: list[dict[str, Any]], other: list[dict[str, Any]], windows: int, *, differ: bool, seed: int
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Kind (`reference`, `quiet`, or a drift) and rows of each day."""
    chance = np.random.default_rng(seed)
    labels = sorted({row["label"] for row in rows})
    by_label = {label: [row for row in rows if row["label"] == label] for label in labels}
    shares = np.array([len(by_label[label]) for label in labels]) / len(rows)

    def drawn(n: int, weights: np.ndarray) -> list[dict[str, Any]]:
        mix = chance.dirichlet(weights * 40) if differ else weights
        counts = chance.multinomial(n, mix)
        found = [
            by_label[label][at]
            for label, count in zip(labels, counts, strict=True)
            for at in chance.integers(len(by_label[label]), size=count)
        ]
        chance.shuffle(found)
        return found

    def day(weights: np.ndarray = shares) -> list[dict[str, Any]]:
        return drawn(int(chance.poisson(ROWS)), weights)

    def swung(by: float) -> np.ndarray:
        moved = shares.copy()
        moved[0] = max(0.0, moved[0] - by)
        moved[-1] = 1 - moved[:-1].sum()
        return moved

    def replaced(share: float, of: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
        return [of(row) if chance.random() < share else row for row in day()]

    def cut(row: dict[str, Any]) -> dict[str, Any]:
        return featured(" ".join(row["text"].split()[:5]), row["label"], row["prediction"], row["score"])

    def empty(row: dict[str, Any]) -> dict[str, Any]:
        return featured("", row["label"], row["prediction"], row["score"])

    def foreign(_: dict[str, Any]) -> dict[str, Any]:
        return other[int(chance.integers(len(other)))]

    found = [("reference", day()) for _ in range(REFERENCE)]
    found += [("quiet", day()) for _ in range(windows)]
    plans: list[tuple[str, Callable[[], list[dict[str, Any]]]]] = [
        ("label mix, 10 points", lambda: day(swung(0.1))),
        ("label mix, 25 points", lambda: day(swung(0.25))),
        ("cut to five words, 10 %", lambda: replaced(0.1, cut)),
        ("cut to five words, 30 %", lambda: replaced(0.3, cut)),
        ("empty texts, 3 %", lambda: replaced(0.03, empty)),
        ("empty texts, 10 %", lambda: replaced(0.1, empty)),
        ("other domain, 10 %", lambda: replaced(0.1, foreign)),
        ("other domain, 30 %", lambda: replaced(0.3, foreign)),
        ("half of the rows are missing", lambda: day()[: ROWS // 2]),
    ]
    for name, make in plans:
        found += [(name, make()) for _ in range(PLANTED)]
    return found


def featured(text: str, label: str, prediction: str, score: float) -> dict[str, Any]:
    """A row, as both see it."""
    return {
        "text": text,
        "label": label,
        "prediction": prediction,
        "score": score,
        "characters": len(text),
        "words": len(text.split()),
    }


def ours(found: list[tuple[str, list[dict[str, Any]]]], false_alarms: float) -> tuple[list[bool], float]:
    """Whether each day behind the reference raises an alarm, and the seconds of the stage."""
    from sparkml.frame.config import load_config
    from sparkml.frame.ledger import Ledger
    from sparkml.frame.session import Session
    from sparkml.frame.tables import Tables
    from sparkml.stages.monitor.config import MonitorConfig
    from sparkml.stages.monitor.stage import run
    from tests.runs import new_run

    rows = [
        {**row, "doc_id": f"{day}-{at}", "at": START + timedelta(days=day, seconds=at)}
        for day, (_, some) in enumerate(found)
        for at, row in enumerate(some)
    ]
    config = MonitorConfig.model_validate(
        {
            "source": "rows",
            "query": "SELECT doc_id, at, text, prediction, score FROM {source}",
            "columns": {"time": "at"},
            "reference_rows": {"windows": REFERENCE},
            "last_windows": len(found),
            "false_alarms": false_alarms,
            "queue_rows": 0,
        }
    )
    with (
        Session(load_config("local", ["spark.master=local[2]"]).spark) as session,
        tempfile.TemporaryDirectory() as name,
    ):
        spark = session()
        tables = Tables(str(Path(name, "lake")), lambda: spark)
        pq.write_table(pa.Table.from_pylist(rows), Path(name, "rows.parquet"))
        tables.overwrite(spark.read.parquet(str(Path(name, "rows.parquet"))), "rows")
        begun = time.monotonic()
        run(new_run(tables, Ledger(tables), Path(name, "artifacts"), "monitor"), config)
        seconds = time.monotonic() - begun
        alarms = tables.read("monitored").where("alarm").select("window_start", "signal").collect()
    days_of = {(row["window_start"].astimezone(timezone.utc) - START).days for row in alarms}
    return [day in days_of for day in range(REFERENCE, len(found))], seconds


def theirs(
    found: list[tuple[str, list[dict[str, Any]]]], python: str, folder: Path
) -> tuple[dict[str, list[bool]], float]:
    """The same by evidently: any column drifted; and its own verdict on the data set (half of the columns)."""
    names = ("text", "prediction", "score", "characters", "words")
    rows = [
        {"day": day, **{name: row[name] for name in names}}
        for day, (_, some) in enumerate(found)
        for row in some
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "days.parquet")
    command = [python, str(PEER), str(folder / "days.parquet"), str(REFERENCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    said = json.loads(done.stdout.splitlines()[-1])
    return {"any column": said["any"], "data set": said["dataset"]}, said["seconds"]


def rates(found: list[tuple[str, list[dict[str, Any]]]], alarms: list[bool]) -> dict[str, float]:
    """Share of the days of each kind with an alarm."""
    kinds = [kind for kind, _ in found[REFERENCE:]]
    return {
        kind: statistics.mean(alarm for of, alarm in zip(kinds, alarms, strict=True) if of == kind)
        for kind in dict.fromkeys(kinds)
    }


def main() -> None:
    """Print the rates as a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", required=True)
    parser.add_argument("--other", required=True, help="texts of another domain")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--false-alarms", type=float, default=0.01)
    parser.add_argument("--peer-python", default="")
    options = parser.parse_args()
    texts = read_texts(options.texts)
    train = [(text, label) for text, label, split in texts if split == "train"]
    foreign = [(text, label) for text, label, _ in read_texts(options.other)]
    tested = [(text, label) for text, label, split in texts if split != "train"]
    said = judged(train, [text for text, _ in [*tested, *foreign]])
    rows = [featured(*pair, *answer) for pair, answer in zip([*tested, *foreign], said, strict=True)]
    own, other = rows[: len(tested)], rows[len(tested) :]
    for name, differ in (("drawn at random", False), ("days differ", True)):
        found = days(own, other, options.windows, differ=differ, seed=3)
        columns: dict[str, dict[str, float]] = {}
        alarms, seconds = ours(found, options.false_alarms)
        columns["ours"] = rates(found, alarms)
        print(f"{name}: ours {seconds:.0f} s for {len(found)} days", file=sys.stderr)
        if options.peer_python:
            with tempfile.TemporaryDirectory() as folder:
                by_rule, seconds = theirs(found, options.peer_python, Path(folder))
            print(f"{name}: evidently {seconds:.0f} s", file=sys.stderr)
            columns |= {f"evidently, {rule}": rates(found, alarms) for rule, alarms in by_rule.items()}
        print(f"\n{name} | {' | '.join(columns)}")
        for kind in columns["ours"]:
            print(kind, *(f"{100 * one[kind]:.1f} %" for one in columns.values()), sep=" | ")


if __name__ == "__main__":
    main()
