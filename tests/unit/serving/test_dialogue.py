"""Replies: intents, what is out of scope, the nearest of the frequent questions; and the live page of a monitor."""

import base64
import json
from pathlib import Path

import pytest

from sparkml.errors import InputError
from sparkml.inference.scorer import load_scorer
from sparkml.serving.dialogue import read_faq
from tests.servers import free_ports
from tests.service import ALICE, serving
from tests.tiny import DECIDED, tiny_classifier, tiny_retriever

FAQ = [
    ("spam offer prize", "Delete it."),
    ("lunch meeting monday", "In room 3."),
    ("report draft review", "On Friday."),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_classifier(folder / "intents", labels=("mail", "room"), config=DECIDED)
    tiny_retriever(folder / "vectors")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("dialogue")
    faq = folder / "faq.jsonl"
    faq.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in FAQ))
    pages = folder / "pages"
    pages.mkdir()
    (pages / "watch.html").write_text("<!doctype html><style>p{}</style><p>no alert is open</p>")
    (folder / "secret.html").write_text("secret")
    words = [f"intents={models / 'intents'}", f"vectors={models / 'vectors'}"]
    settings = [f"faq={faq}", "faq_model=vectors", "faq_similarity=0.999", "scope=0.0", f"dashboards={pages}"]
    with serving(folder, "wanted=" + str(models / "intents"), words[1], "intents=wanted", *settings,
                 port=free_ports(1)[0]) as running:  # fmt: skip
        yield running


def reply(served, text, **more):
    return served.ask("/v1/reply", {"text": text}, **more)


def test_a_question_of_the_list_gets_its_answer(served):
    for question, answer in FAQ:
        found = reply(served, question).json
        assert found["kind"] == "answer"
        assert (found["answers"][0]["question"], found["answers"][0]["answer"]) == (question, answer)
        assert found["answers"][0]["similarity"] == pytest.approx(1, abs=1e-4)
        assert len(found["answers"]) == 3


def test_another_question_gets_its_intent(served, models):
    text = "prize monday review lunch"
    found = reply(served, text).json
    (wanted,) = load_scorer(models / "intents").answer([text])
    assert found["kind"] == "intent"
    assert found["intent"]["label"] == wanted.prediction
    assert found["intent"]["score"] == pytest.approx(wanted.score, abs=1e-4)
    assert len(found["models"]) == 2


def test_an_unsure_intent_is_out_of_scope(tmp_path, models):
    with serving(tmp_path, f"wanted={models / 'intents'}", "intents=wanted", "scope=1.0",
                 port=free_ports(1)[0]) as running:  # fmt: skip
        found = reply(running, "lunch").json
        assert (found["kind"], found["intent"]["in_scope"], found["answers"]) == ("out_of_scope", False, [])


@pytest.mark.parametrize(
    ("body", "status"), [({"text": ""}, 422), ({}, 422), ({"text": 3}, 422), (b"{", 422)]
)
def test_what_is_no_question_is_refused(served, body, status):
    assert served.ask("/v1/reply", body).status == status


def test_a_reply_needs_a_token(served):
    assert reply(served, "lunch", token=None).status == 401
    assert served.ask("/dialogue", token=None).status == 200


def test_a_service_without_a_dialogue_says_so(tmp_path, models):
    with serving(tmp_path, str(models / "intents"), port=free_ports(1)[0]) as running:
        assert reply(running, "lunch").status == 404
        assert running.ask("/dashboard/watch").status == 404


def _basic(secret):
    return {"Authorization": "Basic " + base64.b64encode(f"me:{secret}".encode()).decode()}


def test_the_page_of_a_monitor_is_served_to_who_has_a_token(served):
    assert b"no alert is open" in served.ask("/dashboard/watch").content
    found = served.ask("/dashboard/watch", token=None, headers=_basic(ALICE))
    assert found.status == 200
    assert "style-src 'unsafe-inline'" in found.headers["content-security-policy"]
    assert "script-src" not in found.headers["content-security-policy"]
    for headers in ({}, _basic("x" * 24), {"Authorization": "Basic ???"}):
        refused = served.ask("/dashboard/watch", token=None, headers=headers)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Basic")
    for name in ("other", "..%2Fsecret", "%2e%2e%2fsecret", "watch.html"):
        assert served.ask(f"/dashboard/{name}").status == 404


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("faq.jsonl", '{"question": "a", "answer": "b"}\n{"question": "a"}\n', "row 2"),
        ("faq.jsonl", "[1]\n", "row 1"),
        ("faq.jsonl", "{", "cannot be read"),
        ("faq.jsonl", "", "0 rows"),
        ("faq.csv", "question,other\na,b\n", "row 1"),
    ],
)
def test_a_list_that_is_none_is_an_error_with_its_row(tmp_path, name, content, wrong):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read_faq(str(tmp_path / name))
    assert wrong in caught.value.message()


def test_a_list_as_csv(tmp_path):
    (tmp_path / "faq.csv").write_text('text,text_b\n"a, b",c\n', encoding="utf-8-sig")
    assert read_faq(str(tmp_path / "faq.csv")) == [("a, b", "c")]
