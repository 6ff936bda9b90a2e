"""Bodies of requests: what is read of them, and which field is wrong."""

import base64
import json
import random

import pyarrow as pa
import pytest

from sparkml.serving.bodies import ARROW, JSON, Limits, RefusedError, arrow_answers, json_answers, read_body

LIMITS = Limits(examples=4, example_bytes=100)
ANSWER = {
    "prediction": "good",
    "score": 0.75,
    "scores": [("good", 0.75), ("bad", 0.25)],
    "spans": None,
    "embedding": None,
    "output": None,
    "error": None,
    "n_tokens": 5,
}


def _json(**body) -> bytes:
    return json.dumps(body).encode()


def _arrow(table: pa.Table, **options) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ({"texts": ["a", None, "ü"]}, {"text": ["a", None, "ü"]}),
        ({"pairs": [["a", "b"], ["c", ""]]}, {"text": ["a", "c"], "text_b": ["b", ""]}),
        ({"tokens": [["a", "b"], []]}, {"tokens": [["a", "b"], []]}),
        ({"media": [base64.b64encode(b"\x00\xff").decode()]}, {"media": [b"\x00\xff"]}),
    ],
)
def test_json_and_arrow_say_the_same(body, columns):
    from sparkml.tasks.task import column_type

    read = read_body(_json(**body, model="m"), JSON, LIMITS)
    assert read.examples.to_pydict() == columns
    arrays = {name: pa.array(values, column_type(name)) for name, values in columns.items()}
    table = pa.table(arrays).replace_schema_metadata({"model": "m"})
    also = read_body(_arrow(table), ARROW, LIMITS)
    assert also.examples.to_pydict() == columns
    assert (read.model, also.model) == ("m", "m")
    assert read.batch(list(columns)).num_rows == len(next(iter(columns.values())))


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"", 422, ()),
        (b"[]", 422, ()),
        (b"\xff\xfe", 422, ()),
        (b'{"texts": ["\\ud800"]}', 422, ()),
        (b"[" * 100_000, 422, ()),
        (_json(), 422, ()),
        (_json(texts="a"), 422, ("texts",)),
        (_json(texts=[1]), 422, ("texts", 0)),
        (_json(texts=["a", {}]), 422, ("texts", 1)),
        (_json(texts=["a"], pairs=[["a", "b"]]), 422, ("pairs",)),
        (_json(texts=["a"], text=["a"]), 422, ("text",)),
        (_json(texts=["a"], top_labels=0), 422, ("top_labels",)),
        (_json(texts=["a"], top_labels=True), 422, ("top_labels",)),
        (_json(texts=["a"], model=7), 422, ("model",)),
        (_json(pairs=[["a"]]), 422, ("pairs", 0, 1)),
        (_json(tokens=[["a", None]]), 422, ("tokens", 0, 1)),
        (_json(media=["***"]), 422, ("media", 0)),
        (_json(texts=[]), 422, ("texts",)),
        (_json(texts=["a"] * 5), 413, ()),
        (_json(texts=["a", "b" * 101]), 422, ("texts", 1)),
        (_json(tokens=[["b" * 60, "c" * 60]]), 422, ("tokens", 0)),
        (_json(tokens=[["a"], ["ü" * 51]]), 422, ("tokens", 1)),
        (_json(pairs=[["a", "b"], ["c" * 60, "d" * 60]]), 422, ("pairs", 1)),
    ],
)
def test_what_is_wrong_is_named_by_its_field(body, status, where):
    with pytest.raises(RefusedError) as refused:
        read_body(body, JSON, LIMITS)
    assert (refused.value.status, refused.value.where) == (status, where)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", ()),
        (b"nonsense", ()),
        (_arrow(pa.table({"text": ["a"]}))[:100], ()),
        (_arrow(pa.table({"text": ["a" * 50]}), compression="zstd"), ()),
        (_arrow(pa.table({"text": ["a" * 50]}), compression="lz4"), ()),
        (_arrow(pa.table({"text": pa.array(["a", "a"]).dictionary_encode()})), ("text",)),
        (_arrow(pa.table({"text": [1]})), ("text",)),
        (_arrow(pa.table({"tokens": ["a"]})), ("tokens",)),
        (_arrow(pa.table({"nothing": ["a"]})), ("nothing",)),
        (_arrow(pa.table({"text": pa.array([], pa.string())})), ("texts",)),
    ],
)
def test_streams_that_are_no_examples_are_refused(body, where):
    with pytest.raises(RefusedError) as refused:
        read_body(body, ARROW, LIMITS)
    assert refused.value.status == 422
    assert refused.value.where in (where, ())


def test_other_kinds_of_bodies_are_refused():
    with pytest.raises(RefusedError) as refused:
        read_body(b"a=b", "application/x-www-form-urlencoded", LIMITS)
    assert refused.value.status == 415


def test_forged_bodies_are_refused_or_read_and_nothing_else():
    draw = random.Random(3)
    table = pa.table({"text": pa.array(["one", None, "three"])}).replace_schema_metadata({"model": "m"})
    wholes = [(_arrow(table), ARROW), (_json(texts=["one", None], model="m", top_labels=2), JSON)]
    refused = 0
    for _ in range(3000):
        whole, kind = draw.choice(wholes)
        forged = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            forged[draw.randrange(len(forged))] = draw.randrange(256)
        del forged[draw.randrange(len(forged) // 2, len(forged) + 1) :]
        try:
            read_body(bytes(forged), kind, LIMITS).examples.to_pylist()
        except RefusedError as error:
            refused += 1
            json.loads(error.body())
    assert refused > 1000


def test_a_body_with_other_columns_than_the_model_reads_names_both():
    asked = read_body(_json(texts=["a"]), JSON, LIMITS)
    with pytest.raises(RefusedError, match="answers from `pairs`") as refused:
        asked.batch(["text", "text_b"])
    assert refused.value.where == ("texts",)


def test_answers_as_json_and_arrow():
    bad = {**dict.fromkeys(ANSWER), "error": "text_missing", "n_tokens": 0}
    read = json.loads(json_answers("c/v1", [ANSWER, bad], 1))
    said = {name: value for name, value in ANSWER.items() if name != "n_tokens"}
    assert read["model"] == "c/v1"
    assert read["answers"][0] == {**said, "scores": {"good": 0.75}}
    assert read["answers"][1]["error"] == "text_missing"
    with pa.ipc.open_stream(arrow_answers("c/v1", [ANSWER, bad])) as reader:
        table = reader.read_all()
    assert table.schema.metadata == {b"model": b"c/v1"}
    assert table.column("scores").to_pylist() == [[("good", 0.75), ("bad", 0.25)], None]
    assert table.column("error").to_pylist() == [None, "text_missing"]
