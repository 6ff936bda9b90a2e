"""`sparkml serve` as its users meet it: a process with a port."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparkml.frame.delta import FolderTable
from sparkml.inference.scorer import load_scorer
from sparkml.serving.bodies import ARROW
from tests.servers import free_ports
from tests.service import ALICE, ROOT, Served, serving, texts_of, wait_ready
from tests.tiny import WORDS, tiny_classifier

_HEAD = f"POST /v1/score HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ALICE}\r\n"
TEXTS = texts_of(60, " ".join(WORDS).split())


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mood"
    for version in (1, 2):
        tiny_classifier(folder / f"v{version}", labels=("good", "bad"), seed=version)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory, models):
    settings = ["examples=100", "body_bytes=100000", "example_bytes=20000", "workers=2", "log_seconds=0.2"]
    folder = tmp_path_factory.mktemp("service")
    words = [str(models / "v1"), f"other={models / 'v2'}", f"log_table={folder / 'answers'}", *settings]
    with serving(folder, *words, port=free_ports(1)[0]) as running:
        yield running


def _said(models: Path, version: int, texts: list[str | None]) -> list[str | None]:
    return [answer.prediction for answer in load_scorer(models / f"v{version}").answer(texts)]


def _together(served: Served, requests: list[dict], threads: int = 8) -> list:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda body: served.ask("/v1/score", body), requests))


def test_answers_are_those_of_the_scorer_whoever_asks_at_the_same_time(served, models):
    requests = [{"model": "mood", "texts": TEXTS[at : at + 1 + at % 7]} for at in range(50)]
    wanted = load_scorer(models / "v1").answer(TEXTS)
    for at, reply in enumerate(_together(served, requests)):
        assert reply.json["model"] == "mood/v1"
        for said, want in zip(reply.json["answers"], wanted[at : at + 1 + at % 7], strict=True):
            assert said["prediction"] == want.prediction
            assert said["scores"] == pytest.approx(dict(want.scores), abs=2e-5)
            assert said["error"] is None


def test_a_text_that_cannot_be_answered_costs_itself_alone(served):
    answers = served.score("spam", None, "lunch", model="mood").json["answers"]
    assert [answer["error"] is None for answer in answers] == [True, False, True]
    assert answers[1]["prediction"] is None


def test_arrow_in_arrow_out(served, models):
    sink = pa.BufferOutputStream()
    table = pa.table({"text": TEXTS[:9]}).replace_schema_metadata({"model": "other"})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    reply = served.ask("/v1/score", sink.getvalue().to_pybytes(), headers={"Content-Type": ARROW})
    with pa.ipc.open_stream(reply.content) as reader:
        found = reader.read_all()
    assert found.schema.metadata == {b"model": b"mood/v2"}
    assert found.column("prediction").to_pylist() == _said(models, 2, TEXTS[:9])


@pytest.mark.parametrize(
    ("path", "body", "token", "status"),
    [
        ("/v1/score", {"texts": ["a"]}, None, 401),
        ("/v1/score", {"texts": ["a"]}, "alice", 401),
        ("/v1/models", None, None, 401),
        ("/metrics", None, None, 401),
        ("/v1/explain", {"text": "a"}, None, 401),
        ("/v1/models/mood", {"model": "x"}, "right", 403),
        ("/v1/score", {"texts": ["a"]}, "right", 422),
        ("/v1/score", {"texts": ["a"], "model": "none"}, "right", 404),
        ("/v1/score", {"texts": ["a"] * 101, "model": "mood"}, "right", 413),
        ("/v1/score", {"texts": ["a" * 100_001], "model": "mood"}, "right", 413),
        ("/v1/score", {"texts": ["a" * 20_001], "model": "mood"}, "right", 422),
        ("/v1/score", {"pairs": [["a", "b"]], "model": "mood"}, "right", 422),
        ("/v1/explain", {"text": "", "model": "mood"}, "right", 422),
        ("/nothing", None, "right", 404),
    ],
)
def test_what_is_refused_says_why(served, path, body, token, status):
    reply = served.ask(path, body, token=ALICE if token == "right" else token)
    assert reply.status == status
    assert reply.json["detail"]
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_a_request_keeps_the_id_that_it_brings(served):
    assert (
        served.ask("/health", token=None, headers={"X-Request-Id": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    forged = served.ask("/health", token=None, headers={"X-Request-Id": "a b\tc"}).headers["x-request-id"]
    assert len(forged) == 16


def test_texts_stand_nowhere_in_the_log(served):
    mark = "unmistakable-words-of-a-customer"
    assert served.score(mark, model="mood").status == 200
    served.ask("/v1/explain", {"text": mark, "model": "mood"})
    served.ask("/v1/score", {"texts": [mark], "nonsense": mark})
    time.sleep(0.3)
    log = served.log.read_text()
    assert '"examples": 1' in log
    assert mark not in log
    assert all(
        isinstance(json.loads(line[line.index("{") :]), dict) for line in log.splitlines() if "access" in line
    )


def test_an_explanation_is_what_the_scorer_says_without_each_word(served, models):
    text = "spam offer money lunch"
    found = served.ask("/v1/explain", {"text": text, "model": "mood"}).json
    scorer = load_scorer(models / "v1")
    whole, without = scorer.answer([text, "offer money lunch"])
    before, after = (dict(answer.scores)[found["label"]] for answer in (whole, without))
    assert found["prediction"] == whole.prediction
    assert [part["text"] for part in found["parts"]] == ["spam ", "offer ", "money ", "lunch"]
    assert found["parts"][0]["effect"] == pytest.approx(before - after, abs=3e-5)


def test_metrics_count_what_happened(served):
    before = served.metric("sparkml_answers_total")
    served.score(*TEXTS[:7], model="mood")
    assert served.metric("sparkml_answers_total") == before + 7
    assert served.metric("sparkml_workers") == 2
    assert served.metric("sparkml_batch_rows_count") > 0


def test_pages_need_nothing_from_elsewhere(served):
    for path in ("/", "/docs", "/page.js", "/docs.js", "/page.css"):
        reply = served.ask(path, token=None)
        assert reply.status == 200
        assert b"http://" not in reply.content.replace(b"http://www.w3.org", b"")
        assert b"https://" not in reply.content
        assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "/v1/score" in served.ask("/openapi.json", token=None).json["paths"]


def test_a_killed_worker_fails_nobody(served):
    stopped = threading.Event()
    codes: list[int] = []

    def ask_on() -> None:
        while not stopped.is_set():
            codes.append(served.score(*TEXTS[:20], model="mood").status)

    askers = [threading.Thread(target=ask_on) for _ in range(4)]
    for one in askers:
        one.start()
    deaths = served.metric("sparkml_worker_deaths_total")
    for _ in range(3):
        time.sleep(0.3)
        os.kill(served.workers[0].pid, signal.SIGKILL)
        _wait(lambda: served.metric("sparkml_workers") == 2)
    stopped.set()
    for one in askers:
        one.join()
    assert served.metric("sparkml_worker_deaths_total") == deaths + 3
    assert set(codes) == {200}
    assert len(codes) > 20


def _wait(ready, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_version_is_exchanged_without_losing_a_request(served, models):
    stopped = threading.Event()
    said: list[tuple[int, str]] = []

    def ask_on() -> None:
        while not stopped.is_set():
            reply = served.score("spam", model="other")
            said.append((reply.status, reply.json.get("model", "")))

    asker = threading.Thread(target=ask_on)
    asker.start()
    changed = served.ask("/v1/models/other", {"model": str(models / "v1")}, token=ROOT)
    after = len(said)
    time.sleep(0.3)
    stopped.set()
    asker.join()
    assert changed.json == {"name": "other", "model": "mood/v1"}
    assert {status for status, _ in said} == {200}
    assert {model for _, model in said[after + 1 :]} == {"mood/v1"}
    back = served.ask("/v1/models/other", {"model": str(models / "v2")}, token=ROOT)
    assert back.json["model"] == "mood/v2"


def test_a_version_that_cannot_be_loaded_changes_nothing(served, tmp_path):
    reply = served.ask("/v1/models/other", {"model": str(tmp_path)}, token=ROOT)
    assert reply.status == 422
    assert served.score("spam", model="other").json["model"] == "mood/v2"


def test_a_canary_gets_its_share_and_the_shadow_answers_into_the_table(served, models):
    change = {"canary": str(models / "v2"), "canary_share": 0.5, "shadow": str(models / "v2")}
    told = served.ask("/v1/models/mood", change, token=ROOT).json
    assert told == {
        "name": "mood",
        "model": "mood/v1",
        "canary": "mood/v2",
        "canary_share": 0.5,
        "shadow": "mood/v2",
    }
    asked = [served.score(text, model="mood").json["model"] for text in TEXTS]
    assert 10 < asked.count("mood/v2") < 50
    table = FolderTable("served", str(served.log.parent / "answers"))
    _wait(lambda: table.version() is not None and _rows(table, "shadow") >= len(TEXTS))
    rows = table.read().to_pylist()
    by_id = {}
    for row in rows:
        by_id.setdefault(row["request_id"], {})[row["role"]] = row
    both = [found for found in by_id.values() if "shadow" in found]
    assert len(both) == len(TEXTS)
    for found in both:
        answered = found.get("primary") or found["canary"]
        assert answered["text_hash"] == found["shadow"]["text_hash"]
        assert answered["text"] is None
    hashes = {hashlib.sha256(text.encode()).hexdigest() for text in TEXTS}
    assert {found["shadow"]["text_hash"] for found in both} == hashes
    gone = served.ask("/v1/models/mood", {"canary": None, "shadow": None}, token=ROOT).json
    assert gone == {"name": "mood", "model": "mood/v1"}


def _rows(table: FolderTable, role: str) -> int:
    return table.read().column("role").to_pylist().count(role)


def test_bytes_that_are_no_requests_never_break_it(served):
    draw = np.random.default_rng(11)
    valid = (
        b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b'Authorization: Bearer none\r\nContent-Length: 33\r\n\r\n{"texts": ["a"], "model": "mood"}'
    )
    before = served.metric("sparkml_requests_total")
    codes = [_raw(served.port, _forged(valid, draw)) for _ in range(300)]
    assert not [code for code in codes if code >= 500]
    assert len([code for code in codes if 400 <= code < 500]) > 100
    assert served.metric("sparkml_requests_total") > before
    assert served.score("spam", model="mood").status == 200


def _forged(valid: bytes, draw: np.random.Generator) -> bytes:
    forged = bytearray(valid)
    for place in draw.integers(0, len(forged), draw.integers(1, 8)):
        forged[place] = draw.integers(0, 256)
    return bytes(forged[: draw.integers(1, len(forged) + 1)]) if draw.random() < 0.3 else bytes(forged)


def _raw(port: int, content: bytes) -> int:
    """The status that some bytes get; 0: none, the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        try:
            reply = connection.recv(100)
        except OSError:
            return 0
    return int(reply.split()[1]) if reply else 0


def test_a_client_that_hangs_up_costs_nothing_more(served):
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        body = json.dumps({"model": "mood", "texts": TEXTS}).encode()
        connection.sendall(f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert served.score("spam", model="mood").status == 200
    _wait(lambda: served.metric("sparkml_queue_seconds") == 0)


def test_busy_slow_and_leaving(tmp_path, models):
    """A service of one worker that is stopped: whoever waits too long is told so, and what is in work is answered."""
    words = [
        "workers=1",
        "queue_seconds=0.5",
        "request_seconds=2",
        "body_seconds=1",
        "requests_per_second=20",
    ]
    with serving(tmp_path, f"mood={models / 'v1'}", *words, port=free_ports(1)[0]) as served:
        worker = served.workers[0]
        assert served.score("spam").status == 200
        worker.suspend()
        with ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(lambda _: served.score(*TEXTS), range(12)))
        worker.resume()
        codes = {reply.status for reply in replies}
        assert 504 in codes
        assert codes <= {504, 429}
        asked = [served.score("spam") for _ in range(60)]
        busy = [reply for reply in asked if reply.status == 429]
        assert busy, "a token may ask 20 times a second"
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in busy)
        time.sleep(2.5)
        assert served.score("spam").status == 200
        assert _slow_body(served.port) == 408
        worker.suspend()
        waiting = threading.Thread(target=lambda: replies.append(served.score("lunch")))
        waiting.start()
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        worker.resume()
        waiting.join()
        assert replies[-1].status == 200
        assert served.process.wait(30) == 0
        assert not worker.is_running()


def _slow_body(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"{_HEAD}Content-Length: 50\r\n\r\n{{".encode())
        return int(connection.recv(100).split()[1])


def test_a_service_that_is_killed_leaves_no_process(tmp_path, models):
    with serving(tmp_path, str(models / "v1"), "workers=2", port=free_ports(1)[0]) as served:
        workers = served.workers
        assert len(workers) == 2
        served.process.kill()
        served.process.wait()
        _wait(lambda: not any(worker.is_running() for worker in workers), 20)


def test_a_model_that_cannot_be_loaded_ends_the_service(tmp_path, models):
    broken = tmp_path / "broken"
    tiny_classifier(broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with (
        pytest.raises(AssertionError, match="could not be loaded"),
        serving(tmp_path, str(broken), port=free_ports(1)[0]) as served,
    ):
        wait_ready(served)
