"""Recipes: every form measured and judged, layers back to float, and the one that is picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from sparkml.compression import candidates, forms
from sparkml.compression.candidates import Candidate, Measuring, candidates_of, pick
from sparkml.compression.forms import Form, back_to_float
from sparkml.compression.gate import GateSettings, Verdict, judge
from sparkml.compression.measure import Speed, TimingPlan, quality, speeds
from sparkml.compression.methods import MethodChoice
from sparkml.errors import InputError
from sparkml.inference.scorer import load_scorer
from sparkml.models.folder import COMPRESSION_FILE, read_json
from tests.forms import compressed, given_of
from tests.tiny import WORDS, tiny_classifier

PLAN = TimingPlan(latency_documents=3, throughput_documents=8, rounds=2)
INT8, BF16, FOUR = (
    MethodChoice.model_validate(one) for one in ("int8_dynamic", "bf16", {"name": "weight_only", "bits": 4})
)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("candidates") / "float", ("ham", "spam"))


@pytest.fixture(scope="module")
def examples(exact: Path) -> pa.Table:
    """Labelled as the float model answers."""
    words = " ".join(WORDS).split()
    texts = [" ".join(words[n % 7 : n % 7 + 1 + n // 2]) for n in range(24)]
    labels = [answer.prediction for answer in load_scorer(exact).answer(texts)]
    return pa.table({"doc_id": [str(n) for n in range(24)], "text": texts, "label": labels})


@pytest.fixture(scope="module")
def found(exact: Path, examples: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Candidate]:
    measuring = Measuring(examples, GateSettings(max_flips=0.2, max_loss=0.2), PLAN, 17)
    recipes = [(INT8,), (BF16,), (BF16, FOUR)]
    work = tmp_path_factory.mktemp("work")
    return candidates_of(given_of(exact, examples), "finetuned", recipes, measuring, work)


def test_every_form_on_the_way_is_measured_once_and_beside_the_model(found: Sequence[Candidate]) -> None:
    names = [one.form.name for one in found]
    assert names == ["as it is", "int8_dynamic", "bf16", "bf16 > weight_only (bits 4)"]
    assert [one.form.kind for one in found] == ["finetuned", "int8", "bfloat16", "weight_only"]
    assert found[0].verdict is None
    assert found[0].quality.metrics["accuracy"] == 1.0
    for one in found[1:]:
        assert one.verdict is not None
        assert one.verdict.loss.value == pytest.approx(1 - one.quality.metrics["accuracy"])
        assert one.size_bytes < 0.7 * found[0].size_bytes
    for one in found:
        assert set(one.engines) == {"encoder", "torch"}
        assert one.speed == one.engines[one.engine]
        assert one.speed.documents_per_second == max(s.documents_per_second for s in one.engines.values())
        assert 0 < one.speed.latency_p50_ms <= one.speed.latency_p95_ms
        assert one.speed.core_seconds_per_1000 > 0
        assert one.memory_bytes is not None
        assert one.memory_bytes > 0


def test_what_is_picked_and_why(found: Sequence[Candidate]) -> None:
    def of(one: Candidate, rate: float, size: int) -> Candidate:
        return replace(one, engines={"torch": Speed(1 / rate, 2 / rate, rate, 1.0)}, size_bytes=size)

    assert found[1].verdict is not None
    bad = replace(found[2], verdict=replace(found[1].verdict, reason="loses 3 points"))
    every = [of(found[0], 99, 9), of(found[1], 5, 3), of(bad, 50, 1), of(found[3], 4, 2)]
    chosen, why = pick(every, "throughput")
    assert chosen.form.name == "int8_dynamic"
    assert why == "the most examples a second of the 2 forms that pass the gate; 1 did not pass"
    assert pick(every, "latency")[0].form.name == "int8_dynamic"
    close = [every[0], of(found[1], 98, 3), of(found[3], 100, 2)]
    assert pick(close, "throughput")[0].form.name == "int8_dynamic"  # within what is noise the first one
    assert pick(every, "size")[0].form.name == "bf16 > weight_only (bits 4)"
    with pytest.raises(InputError, match=r"nothing is published[\s\S]*bf16: loses 3 points"):
        pick([every[0], bad], "throughput")


def test_layers_go_back_to_float_the_most_sensitive_first(
    exact: Path, examples: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, given = Form(exact, "finetuned"), given_of(exact, examples)
    order = [f"bert.encoder.layer.{block}.{part}" for block in (1, 0) for part in ("intermediate", "output")]
    monkeypatch.setattr(forms, "_by_sensitivity", lambda *of: order)
    verdict = judge(*[quality(exact, examples, 1, 1).judged] * 2, GateSettings())
    asked = []

    def needs(n_float: int) -> forms.Judge:
        def judged(folder: Path) -> Verdict:
            kept = read_json(folder / COMPRESSION_FILE)["recipe"][-1]["stayed_float"]
            asked.append(len(kept))
            return replace(verdict, reason="" if len(kept) >= n_float else "loses 1 point")

        return judged

    for wanted, most, passes in ((3, 1.0, True), (1, 1.0, True), (4, 1.0, True), (3, 0.5, False)):
        first = forms.make(before, INT8, given, tmp_path / f"first-{wanted}-{most}")
        failed = (first, needs(wanted)(first.folder))
        asked.clear()
        made, said = back_to_float(
            before, failed, given, tmp_path / f"tries-{wanted}-{most}", needs(wanted), most
        )
        assert 0 not in asked  # what failed is not measured again
        assert said.holds is passes
        assert made.kept == frozenset(order[: wanted if passes else 2])


def test_sensitivity_is_measured_one_group_at_a_time(exact: Path, examples: pa.Table, tmp_path: Path) -> None:
    order = forms._by_sensitivity(Form(exact, "finetuned"), INT8, given_of(exact, examples), tmp_path)
    assert len(order) == len(set(order)) == 10
    assert not list(tmp_path.iterdir())


def test_an_example_that_cannot_be_answered_is_named(exact: Path) -> None:
    bad = pa.table({"doc_id": ["0", "1"], "text": ["win", " "], "label": ["ham", "spam"]})
    with pytest.raises(InputError, match=r"example 1[\s\S]*text_missing"):
        quality(exact, bad, 1, 1)


def test_forms_take_turns(exact: Path, examples: pa.Table, tmp_path: Path) -> None:
    folders = [exact, compressed(exact, tmp_path / "int8")]
    batch = examples.combine_chunks().to_batches()[0]
    assert [set(one) for one in speeds(folders, batch, PLAN)] == [{"encoder", "torch"}] * 2


@pytest.mark.rare
def test_floats_are_not_tried_against_what_an_earlier_method_has_lost(
    exact: Path, examples: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "judge", lambda *given: replace(judge(*given), reason="loses"))
    measuring = Measuring(examples, GateSettings(), PLAN, 17)
    found = candidates_of(
        given_of(exact, examples), "finetuned", [(BF16, INT8), (INT8,)], measuring, tmp_path
    )
    assert [one.form.name for one in found] == ["as it is", "bf16", "bf16 > int8_dynamic", "int8_dynamic"]
    assert [bool(one.form.kept) for one in found] == [False, False, False, True]
