"""Models of vectors in smaller forms: near to what they were, under the gate's own figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparkml.compression.forms import Form, make
from sparkml.compression.gate import GateSettings, judge
from sparkml.compression.measure import quality
from sparkml.compression.methods import Given, MethodChoice
from sparkml.inference.scorer import load_scorer
from sparkml.models.directory import TASK_FILE
from sparkml.models.engines import able_engines
from sparkml.models.folder import write_json
from sparkml.tasks.asked import asked_spec
from sparkml.tasks.task import TaskChoice, task_of
from tests.tiny import DECIDED, tiny_model

TEXTS = ["win the prize", "late train", "lunch with a friend", "claim free cash", "book", "home tomorrow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the task retrieve, whose vectors lie far apart."""
    made = tiny_model(tmp_path_factory.mktemp("vectors") / "model", "AutoModel", config=DECIDED)
    write_json(made / TASK_FILE, asked_spec(made, TaskChoice(name="retrieve", pooling="mean")))
    return made


@pytest.mark.parametrize(
    ("method", "engines"),
    [
        ("int8_dynamic", ["encoder", "torch"]),
        ("bf16", ["encoder", "torch"]),
        ("weight_only", ["encoder", "torch"]),
        ("onnx", ["onnx"]),
    ],
)
def test_a_form_gives_vectors_near_to_those_before(
    folder: Path, tmp_path: Path, method: str, engines: list[str]
) -> None:
    # Each text is its own answer.
    examples = pa.table({"doc_id": [str(n) for n in range(len(TEXTS))], "text": TEXTS, "text_b": TEXTS})
    spec = asked_spec(folder)
    given = Given(folder, task_of(spec, folder), examples.to_batches()[0])
    form = make(Form(folder, "finetuned"), MethodChoice(name=method), given, tmp_path / "form")
    assert able_engines(task_of(spec, form.folder).network(), form.folder) == engines
    before = np.array([answer.embedding for answer in load_scorer(folder).answer(TEXTS)])
    for name in engines:
        found = np.array([one.embedding for one in load_scorer(form.folder, engine_name=name).answer(TEXTS)])
        assert (found * before).sum(
            axis=1
        ).min() > 0.9  # of weights as wide as these int8 leaves less than of trained ones
    first, second = (quality(place, examples, 1, 7) for place in (folder, form.folder))
    assert first.metrics["recall_at_1"] == second.metrics["recall_at_1"] == 1.0
    verdict = judge(first.judged, second.judged, GateSettings())
    assert (verdict.metric, verdict.holds, verdict.flips) == ("mrr_at_10", True, 0.0)
