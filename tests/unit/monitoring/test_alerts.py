"""States of alerts, and the messages about them."""

import email
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email import policy

import pytest

from sparkml.monitoring.alerts import Silence, advance
from sparkml.monitoring.dashboard import open_events
from sparkml.monitoring.judging import Verdict
from sparkml.monitoring.profile import Span
from sparkml.monitoring.telling import Message, UntoldError, to_command, to_webhook
from tests.webhook import receiving

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, tzinfo=timezone.utc)


def verdict(day, is_alarm, signal="score", name="all"):
    span = Span(START + day * DAY, START + (day + 1) * DAY)
    return Verdict(span, name, signal, "score", 100, "js", 0.3, 0.1, 1e-6, is_alarm, detail="more")


def states(events):
    return [(event.verdict.span.start.day, event.state) for event in events]


def test_an_alert_is_raised_repeated_and_recovers():
    days = [False, True, True, False, False, True]
    events = advance("watch", [verdict(day, alarm) for day, alarm in enumerate(days)], {}, [])
    assert states(events) == [(2, "raised"), (3, "repeated"), (4, "recovered"), (6, "raised")]
    first, second, third, other = (event.alert_id for event in events)
    assert first == second == third != other


def test_runs_one_after_the_other_say_the_same_as_one():
    verdicts = [verdict(day, day in (1, 2, 5), signal) for day in range(7) for signal in ("score", "lang")]
    whole = advance("watch", verdicts, {}, [])
    left = {}
    parts = [event for at in range(0, 14, 2) for event in advance("watch", verdicts[at : at + 2], left, [])]
    assert parts == whole


def test_ids_follow_from_what_an_event_is_about():
    again = advance("watch", [verdict(0, True)], {}, [])
    assert again == advance("watch", [verdict(0, True)], {}, [])
    assert again[0].event_id != advance("other", [verdict(0, True)], {}, [])[0].event_id


def test_silence_is_kept_until_it_ends():
    silence = Silence("score", "*", START + 2 * DAY)
    events = advance("watch", [verdict(day, day < 3) for day in range(4)], {}, [silence])
    assert states(events) == [(1, "silenced"), (2, "silenced"), (3, "raised"), (4, "recovered")]
    others = advance("watch", [verdict(0, True, "lang")], {}, [silence])
    assert states(others) == [(1, "raised")]


def test_open_alerts_are_those_that_have_not_recovered():
    events = [
        {"alert_id": "a", "window_start": START, "state": "raised", "slice": "all", "signal": "x"},
        {"alert_id": "a", "window_start": START + DAY, "state": "repeated", "slice": "all", "signal": "x"},
        {
            "alert_id": "a",
            "window_start": START + 2 * DAY,
            "state": "repeated",
            "slice": "all",
            "signal": "x",
        },
        {"alert_id": "b", "window_start": START, "state": "raised", "slice": "all", "signal": "y"},
        {"alert_id": "b", "window_start": START + DAY, "state": "recovered", "slice": "all", "signal": "y"},
    ]
    for order in (events, events[::-1], events[1:] + events[:1]):
        found = open_events(order)
        assert [(row["alert_id"], row["state"], row["since"]) for row in found] == [("a", "repeated", START)]


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


EVENT = {
    "state": "raised",
    "signal": "score",
    "slice": "all",
    "detail": "more",
    "value": 0.3,
    "threshold": 0.1,
}
MESSAGE = Message("key-1", "sparkml watch: 1 raised", [EVENT | {"window_start": START}])


def test_a_webhook_gets_the_message_with_its_key(receiver):
    to_webhook(f"http://127.0.0.1:{receiver.server_port}/hook", "secret-token")(MESSAGE)
    ((headers, body),) = receiver.seen
    assert headers["Idempotency-Key"] == "key-1"
    assert headers["Authorization"] == "Bearer secret-token"
    assert body["key"] == "key-1"
    assert body["events"][0]["window_start"] == "2026-03-01 00:00:00+00:00"
    assert "raised: score of all, more (value 0.3, limit 0.1)" in body["text"]


def test_a_webhook_that_is_down_for_a_moment_is_asked_again(receiver, monkeypatch):
    monkeypatch.setattr("sparkml.monitoring.telling._FIRST_WAIT", 0.01)
    receiver.statuses = [503, 429]
    to_webhook(f"http://127.0.0.1:{receiver.server_port}", None)(MESSAGE)
    assert len(receiver.seen) == 3
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.seen}) == 1


@pytest.mark.parametrize(("statuses", "tries"), [([404], 1), ([500] * 3, 3), ([302], 1)])
def test_a_webhook_that_does_not_take_it_is_an_error_without_its_url(receiver, monkeypatch, statuses, tries):
    monkeypatch.setattr("sparkml.monitoring.telling._FIRST_WAIT", 0.01)
    receiver.statuses = list(statuses)
    with pytest.raises(UntoldError) as caught:
        to_webhook(f"http://127.0.0.1:{receiver.server_port}/secret-path", None)(MESSAGE)
    assert len(receiver.seen) == tries
    assert "secret-path" not in caught.value.message()


def test_nobody_listens(monkeypatch):
    monkeypatch.setattr("sparkml.monitoring.telling._FIRST_WAIT", 0.01)
    with pytest.raises(UntoldError, match="webhook"):
        to_webhook("http://127.0.0.1:9", None)(MESSAGE)


def test_a_command_gets_a_mail(tmp_path):
    out = tmp_path / "mail"
    command = [sys.executable, "-c", f"import sys; open({str(out)!r}, 'wb').write(sys.stdin.buffer.read())"]
    subject = replace(MESSAGE, subject="größer\nBcc: someone@else".replace("\n", " "))
    to_command(command, "from@x.org", ["a@x.org", "b@x.org"])(subject)
    mail = email.message_from_bytes(out.read_bytes(), policy=policy.default)
    assert (mail["To"], mail["Message-ID"]) == ("a@x.org, b@x.org", "<key-1@sparkml>")
    assert mail["Subject"].startswith("größer")
    assert "raised: score of all" in mail.get_content()


def test_a_command_that_fails_is_an_error():
    with pytest.raises(UntoldError, match="exit status 3: no route"):
        to_command(
            [sys.executable, "-c", "import sys; sys.stderr.write('no route\\n'); sys.exit(3)"], "a@b", ["c@d"]
        )(MESSAGE)
    with pytest.raises(UntoldError, match="could not run"):
        to_command(["/no/such/program"], "a@b", ["c@d"])(MESSAGE)
