"""What a network writes: a row's text depends on the row alone, draws are exact, and every form of a model writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sparkml.errors import ConfigError, InputError
from sparkml.inference.scorer import Scorer, load_scorer
from sparkml.models.adapt import AdaptSettings, adapt
from sparkml.models.engines import able_engines, choose, engine
from sparkml.models.folder import GENERATION_FILE, read_json
from sparkml.models.generation import _Drawn, _NoRepeat
from sparkml.models.generation_settings import GenerationSettings
from sparkml.models.heads import build_network
from sparkml.tasks.causal_lm import CausalLM, CausalLMOptions
from sparkml.tasks.seq2seq import Seq2Seq, Seq2SeqOptions
from sparkml.tasks.task import Targets, make_task, task_spec
from tests.forms import compressed
from tests.writers import GPT2, LLAMA, T5, backwards, tiny_writer

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3, "length_penalty": 0.7},
    "drawn": {"sample": True, "temperature": 1.2, "top_k": 30, "top_p": 0.95, "seed": 4},
    "no repeats": {"no_repeat_ngram_size": 2, "num_beams": 2},
}
CONFIGS = {"t5": T5, "gpt2": GPT2, "llama": LLAMA}
TEXTS, TARGETS = backwards(24, seed=9)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("writers")
    return {name: tiny_writer(root / name, config) for name, config in CONFIGS.items()}


def writing(folder: Path, budget: int = 2048, **options: Any) -> Scorer:
    """The model of a folder with other settings of writing."""
    scorer = load_scorer(folder)
    spec = task_spec(scorer.task)
    spec["options"] |= options
    return Scorer(make_task(spec, scorer.task.inputs), scorer.network, token_budget=budget)


def texts_of(scorer: Scorer, texts: Sequence[str]) -> list[str | None]:
    return [one.output for one in scorer.answer(texts)]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(("t5", way) for way in WAYS),
        ("gpt2", "greedy"),
        ("gpt2", "beams"),
        ("gpt2", "drawn"),
        ("llama", "drawn"),
    ],
)
def test_a_text_does_not_depend_on_its_company(folders: dict[str, Path], name: str, way: str) -> None:
    together = texts_of(writing(folders[name], **WAYS[way]), TEXTS)
    backward = texts_of(writing(folders[name], budget=150, **WAYS[way]), TEXTS[::-1])[::-1]
    alone = [texts_of(writing(folders[name], **WAYS[way]), [text])[0] for text in TEXTS[:4]]
    assert backward == together
    assert alone == together[:4]
    assert len(set(together)) > len(TEXTS) // 2  # a network that always says the same would prove nothing


def test_a_draw_follows_from_text_and_seed(folders: dict[str, Path]) -> None:
    hot = {"sample": True, "temperature": 2.0}
    first, again, other = (texts_of(writing(folders["t5"], seed=seed, **hot), TEXTS) for seed in (1, 1, 2))
    assert first == again
    assert sum(one != two for one, two in zip(first, other, strict=True)) > len(TEXTS) // 2


def test_tokens_are_drawn_with_the_probabilities_of_the_network() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    rows = [[number] for number in range(6000)]
    drawn = _Drawn(rows, seed=3)(torch.zeros(6000, 1), logits.repeat(6000, 1)).argmax(dim=1)
    found = np.bincount(drawn.numpy(), minlength=4) / 6000
    np.testing.assert_allclose(found, logits.softmax(dim=0).numpy(), atol=0.02)
    assert found[3] == 0


def test_the_score_is_the_mean_probability_of_what_was_written(folders: dict[str, Path]) -> None:
    scorer = writing(folders["gpt2"])
    for text in TEXTS[:3]:
        (answer,) = scorer.answer([text])
        encoder = scorer.task.inputs.encoder()
        ((window,),) = encoder.encode([text], max_length=32)
        ((said,),) = encoder.encode([str(answer.output)], max_length=32)
        ids = torch.tensor([[*window.ids, *said.ids[1:]]])  # without the token before a text
        with torch.inference_mode():
            logits = scorer.network(input_ids=ids).logits[0].log_softmax(dim=1)
        places = range(len(window.ids), ids.shape[1])
        expected = np.exp(np.mean([float(logits[place - 1, ids[0, place]]) for place in places]))
        assert answer.score == pytest.approx(expected, abs=1e-5)


def test_the_likeliest_token_is_written_step_by_step(folders: dict[str, Path]) -> None:
    """By forward passes alone, without cache and padding."""
    scorer = writing(folders["t5"])
    inputs = scorer.task.inputs
    for text in TEXTS[:3]:
        ((window,),) = inputs.encoder().encode([text], max_length=32)
        said = [inputs.start_id]
        while len(said) < 17 and said[-1] != inputs.sep_id:
            given = {"input_ids": torch.tensor([window.ids]), "decoder_input_ids": torch.tensor([said])}
            with torch.inference_mode():
                logits = scorer.network(**given).logits[0, -1].clone()
                logits[inputs.pad_id] = -torch.inf
            said.append(int(logits.argmax()))
        assert scorer.answer([text])[0].output == scorer.task._generating.encoder.text(said[1:]).strip()


def test_beams_find_texts_that_are_likelier_as_a_whole(folders: dict[str, Path]) -> None:
    def likely(**options: Any) -> list[float]:
        found = writing(folders["t5"], **options).answer(TEXTS)
        return [one.score or 0.0 for one in found]

    gain = np.array(likely(num_beams=4)) - np.array(likely())
    assert gain.mean() > 0
    assert (gain >= -1e-6).mean() > 0.8


def test_a_text_ends_before_a_string_that_stops_it(folders: dict[str, Path]) -> None:
    long = [text for text, target in zip(TEXTS, TARGETS, strict=True) if len(target.split()) > 2]
    for name in ("t5", "gpt2"):
        whole = texts_of(writing(folders[name]), long)
        stopped = writing(folders[name], stop=("never", "n")).answer(long)
        assert [one.output for one in stopped] == [str(text).split("n")[0].strip() for text in whole]
        assert any("n" in str(text) for text in whole)
        assert all(0 < (one.score or 0) <= 1 for one in stopped)


def test_no_run_of_tokens_is_written_twice() -> None:
    ids = torch.tensor([[9, 9, 9, 5, 6, 7, 5, 6], [9, 9, 9, 5, 6, 7, 8, 5]])
    scores = _NoRepeat(3, start=3)(ids, torch.zeros(2, 10))
    assert torch.isinf(scores).nonzero().tolist() == [[0, 7]]
    once = _NoRepeat(1, start=3)(ids, torch.zeros(2, 10))
    assert torch.isinf(once[1]).nonzero().flatten().tolist() == [5, 6, 7, 8]


def test_no_more_tokens_are_written_than_asked_for(folders: dict[str, Path]) -> None:
    whole = texts_of(writing(folders["t5"]), TEXTS)
    cut = texts_of(writing(folders["t5"], max_new_tokens=2), TEXTS)
    assert all(str(text).startswith(str(begin)) for text, begin in zip(whole, cut, strict=True))
    assert any(text != begin for text, begin in zip(whole, cut, strict=True))
    one = texts_of(writing(folders["t5"], max_new_tokens=1), TEXTS)
    assert any(begin != first for begin, first in zip(cut, one, strict=True))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("t5", "weight_only"),
        ("t5", "int8_dynamic"),
        ("t5", "bf16"),
        ("gpt2", "int8_dynamic"),
        ("llama", "int8_dynamic"),
        ("llama", "weight_only"),
    ],
)
def test_compressed_forms_write(folders: dict[str, Path], tmp_path: Path, name: str, method: str) -> None:
    made = compressed(folders[name], tmp_path / "made", method)
    found = texts_of(load_scorer(made), TEXTS)
    exact = texts_of(load_scorer(folders[name]), TEXTS)
    assert np.mean([one == two for one, two in zip(found, exact, strict=True)]) > 0.4
    assert texts_of(load_scorer(made), TEXTS[::-1])[::-1] == found or method == "int8_dynamic"


@pytest.mark.parametrize("method", ["distil", "int8_static", "onnx"])
def test_methods_that_need_answers_at_once_say_so(
    folders: dict[str, Path], tmp_path: Path, method: str
) -> None:
    with pytest.raises(ConfigError, match=f"{method} is not for models that write text"):
        compressed(folders["t5"], tmp_path / "made", method)


@pytest.mark.parametrize(
    ("name", "method"), [("t5", "lora"), ("t5", "prefix"), ("gpt2", "adapters"), ("gpt2", "prompt")]
)
def test_adapted_networks_write(folders: dict[str, Path], name: str, method: str) -> None:
    scorer = load_scorer(folders[name])
    network, new = build_network(scorer.task.network(), folders[name], seed=0)
    settings = AdaptSettings(method=method, merge=None, virtual_tokens=4)
    adapted = adapt(network, settings, new_modules=new, total_steps=10, epoch_steps=5, seed=1)
    with torch.no_grad():
        for parameter in adapted.trained_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.03)
    writer = Scorer(scorer.task, adapted.network)
    found = texts_of(writer, TEXTS)
    assert [texts_of(writer, [text])[0] for text in TEXTS[:6]] == found[:6]
    assert found != texts_of(scorer, TEXTS)


def test_other_engines_say_why_they_do_not_write(folders: dict[str, Path]) -> None:
    spec = load_scorer(folders["gpt2"]).task.network()
    assert able_engines(spec, folders["gpt2"]) == ["torch"]
    for name, reason in (("encoder", "encoders alone"), ("onnx", "token by token")):
        assert reason in engine(name).why_not(spec, folders["gpt2"])
        with pytest.raises(InputError, match=reason):
            choose(name, spec, folders["gpt2"])


def test_a_models_own_habits_of_writing_do_not_count(folders: dict[str, Path], tmp_path: Path) -> None:
    """generation_config.json of a pretrained model asks for beams, minimal lengths or random draws."""
    folder = tiny_writer(tmp_path / "habits", steps=5)
    before = texts_of(load_scorer(folder), TEXTS[:4])
    habits = read_json(folder / GENERATION_FILE) | {"min_new_tokens": 12, "do_sample": True, "num_beams": 4}
    (folder / GENERATION_FILE).write_text(json.dumps(habits))
    assert texts_of(load_scorer(folder), TEXTS[:4]) == before


def test_a_text_is_gone_on_with(folders: dict[str, Path]) -> None:
    folder = folders["gpt2"]
    options = CausalLMOptions(max_length=24, max_new_tokens=6)
    task = CausalLM(options, Targets(), CausalLM.read_inputs(str(folder)))
    scorer = Scorer(task, load_scorer(folder).network)
    texts = ["win a prize now", None, "x", "free cash " * 40]
    found = scorer.answer(texts)
    assert [one.error for one in found] == [None, "text_missing null", None, None]
    assert [one.output is None for one in found] == [False, True, False, False]
    assert texts_of(scorer, [text for text in texts[::-1] if text]) == [
        one.output for one in found[::-1] if one.output is not None
    ]
    # Of a long text the end counts: it is what is to be gone on with.
    end = scorer.answer(["meeting friend " + "free cash " * 40])[0].output
    assert end == found[3].output
    # What is written goes on with the row: the first token is the likeliest one after it.
    encoded = task.encode(_texts([texts[0]]), purpose="answer").samples
    ids = np.frombuffer(encoded.column("input_ids")[0].as_py(), np.int32)
    assert ids[-1] != task.inputs.sep_id
    with torch.inference_mode():
        logits = scorer.network(input_ids=torch.tensor(ids[None].astype(np.int64))).logits[0, -1]
        logits[task.inputs.pad_id] = -torch.inf
    first = task._generating.encoder.text([int(logits.argmax())])
    assert str(found[0].output).startswith(first)


def _texts(texts: Sequence[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.string())})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sample": True, "num_beams": 2}, "not both"),
        ({"top_k": 5}, "top_k of tokens that are not drawn"),
        ({"stop": ("",)}, "empty string"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GenerationSettings(**settings)


def test_a_target_is_as_long_as_what_is_written() -> None:
    assert Seq2SeqOptions(max_target_length=20).max_new_tokens == 20
    assert Seq2SeqOptions(max_target_length=20, max_new_tokens=30).max_new_tokens == 30
    assert Seq2Seq.Options().max_new_tokens == 64
