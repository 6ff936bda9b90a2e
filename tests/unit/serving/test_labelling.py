"""`sparkml label` as its users meet it: a process with a port, and Delta tables without Spark."""

from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from sparkml.frame.delta import FolderTable
from sparkml.frame.schemas import LABELLING, LABELS
from tests.servers import free_ports
from tests.service import ALICE, ROOT, Served, serving

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def queue_rows(*rows: tuple[str, float, str]) -> pa.Table:
    found = [
        {
            "doc_id": doc_id,
            "step": "monitor",
            "window_start": NOW,
            "reason": "uncertain",
            "priority": priority,
            "text": f"text of {doc_id}",
            "prediction": prediction,
            "score": 0.5,
            "queued_at": NOW,
            "run_id": "r",
        }
        for doc_id, priority, prediction in rows
    ]
    return pa.Table.from_pylist(found, LABELLING)


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("label") / "lake"
    table = FolderTable("labelling", str(folder / "labelling"))
    table.append(queue_rows(("a", 0.2, "good"), ("b", 0.9, "bad"), ("c", 0.5, "good"), ("d", 0.4, "bad")), {})
    return folder


@pytest.fixture(scope="module")
def served(lake):
    with serving(lake.parent, f"lake={lake}", port=free_ports(1)[0], command="label") as running:
        yield running


def given(lake: Path) -> list[dict]:
    table = FolderTable("labels", str(lake / "labels"))
    return table.read().to_pylist() if table.version() is not None else []


def put(served: Served, *labels: tuple[str, str], token: str = ALICE):
    return served.ask(
        "/v1/labels", {"labels": [{"doc_id": d, "label": name} for d, name in labels]}, token=token
    )


def test_rows_come_by_priority_and_labels_go_into_a_table(served, lake):
    found = served.ask("/v1/queue?limit=2").json
    assert [row["doc_id"] for row in found["rows"]] == ["b", "c"]
    assert (found["open"], found["labelled"], found["choices"]) == (4, 0, ["bad", "good"])
    assert put(served, ("b", "good"), ("c", "good")).json == {"labelled": 2}
    assert put(served, ("b", "bad"), token=ROOT).status == 200
    after = served.ask("/v1/queue").json
    assert ([row["doc_id"] for row in after["rows"]], after["labelled"]) == (["d", "a"], 2)
    rows = sorted(given(lake), key=lambda row: row["labelled_at"])
    assert [(row["doc_id"], row["label"], row["labelled_by"]) for row in rows] == [
        ("b", "good", "alice"),
        ("c", "good", "alice"),
        ("b", "bad", "root"),
    ]
    assert rows[0]["text"] == "text of b"
    assert set(rows[0]) == set(LABELS.names)


def test_rows_that_come_meanwhile_are_shown(served, lake):
    before = served.ask("/v1/queue").json["open"]
    FolderTable("labelling", str(lake / "labelling")).append(queue_rows(("new", 5.0, "good")), {})
    found = served.ask("/v1/queue?limit=1").json
    assert (found["rows"][0]["doc_id"], found["open"]) == ("new", before + 1)


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"labels": [{"doc_id": "nobody", "label": "good"}]}, 404, ["body", "labels", 0, "doc_id"]),
        ({"labels": [{"doc_id": "d", "label": "ugly"}]}, 422, ["body", "labels", 0, "label"]),
        ({"labels": [{"doc_id": "d"}]}, 422, ["body", "labels", 0, "label"]),
        ({"labels": []}, 422, ["body", "labels"]),
        ({"labels": [{"doc_id": "d", "label": "x" * 201}]}, 422, ["body", "labels", 0, "label"]),
        (b"\xff\x00", 422, None),
        (b"x" * (1 << 20) + b"x", 413, None),
    ],
)
def test_what_is_no_label_is_refused_and_nothing_is_written(served, lake, body, status, where):
    before = len(given(lake))
    reply = served.ask("/v1/labels", body)
    assert reply.status == status
    if where:
        assert reply.json["detail"][0]["loc"] == where
    assert len(given(lake)) == before


def test_nobody_reads_or_writes_without_a_token(served):
    for path, body in (("/v1/queue", None), ("/v1/labels", {"labels": [{"doc_id": "d", "label": "good"}]})):
        assert served.ask(path, body, token=None).status == 401
        assert served.ask(path, body, token="x" * 24).status == 401


def test_the_page_needs_nothing_from_elsewhere(served):
    reply = served.ask("/", token=None)
    assert reply.status == 200
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert b"http" not in reply.content
    assert served.ask("/label.js", token=None).headers["content-type"].startswith("text/javascript")


def test_a_table_that_cannot_be_read_is_told_without_its_place(tmp_path):
    folder = tmp_path / "lake"
    FolderTable("labelling", str(folder / "labelling")).append(queue_rows(("a", 0.2, "good")), {})
    with serving(tmp_path, f"lake={folder}", "free=true", port=free_ports(1)[0], command="label") as running:
        assert put(running, ("a", "anything")).status == 200
        (folder / "labelling" / "_delta_log" / "00000000000000000000.json").write_text("nothing")
        reply = running.ask("/v1/queue")
        assert reply.status in (200, 503)  # what was read before may still be shown
        assert str(folder) not in reply.content.decode()
        assert running.stop() == 0
