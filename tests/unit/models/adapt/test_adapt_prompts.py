"""Virtual tokens: answers keep the positions of the text, padding does not matter, what does not work is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from sparkml.errors import ConfigError
from sparkml.models.adapt import Adapted, AdaptSettings, adapt
from tests.unit.models.adapt.networks import VOCABULARY, Training, adapted, batch

_BERT = hf.BertConfig(
    vocab_size=VOCABULARY,
    num_labels=3,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
)
_PLACES = hf.BertConfig(**{**_BERT.to_dict(), "id2label": {0: "start", 1: "end"}})
_GPT2 = hf.GPT2Config(
    vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0, num_labels=3
)
TASKS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "sequence": (lambda: hf.BertForSequenceClassification(_BERT), ("classifier",)),
    "tokens": (lambda: hf.BertForTokenClassification(_BERT), ("classifier",)),
    "masked": (lambda: hf.BertForMaskedLM(_BERT), ()),
    "encoder": (lambda: hf.BertModel(_BERT), ()),
    "answers": (lambda: hf.BertForQuestionAnswering(_PLACES), ("qa_outputs",)),
    "next": (lambda: hf.GPT2LMHeadModel(_GPT2), ()),
}


def prompted(task: str, method: str, **settings: Any) -> Adapted:
    build, new = TASKS[task]
    torch.manual_seed(0)
    settings = {"virtual_tokens": 3, **settings, "method": method}
    return adapt(
        build(),
        AdaptSettings.model_validate(settings),
        new_modules=new,
        total_steps=9,
        epoch_steps=9,
        seed=1,
    )


@torch.no_grad()
def first_answer(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    answer: torch.Tensor = model.eval()(**inputs)[0]
    return answer


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@pytest.mark.parametrize("task", TASKS)
def test_answers_have_the_shape_of_the_base(task: str, method: str) -> None:
    torch.manual_seed(0)
    expected = first_answer(TASKS[task][0](), batch("bert"))
    model = prompted(task, method)
    assert first_answer(model.network, batch("bert")).shape == expected.shape


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@pytest.mark.parametrize("task", TASKS)
def test_an_answer_does_not_depend_on_padding(task: str, method: str) -> None:
    model = prompted(task, method).network
    inputs = batch("bert")
    together = first_answer(model, inputs)
    lengths = inputs["attention_mask"].sum(1).tolist()
    for row, length in enumerate(lengths):
        alone = first_answer(model, {name: value[row : row + 1, :length] for name, value in inputs.items()})
        padded = together[row : row + 1]
        padded = padded[:, :length] if task != "sequence" else padded
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("method", "size"), [("prefix", 3 * 2 * 2 * 32), ("prompt", 3 * 32)])
def test_only_virtual_tokens_and_the_head_are_trained(method: str, size: int) -> None:
    sizes = {name: p.numel() for name, p in prompted("tokens", method).trained_parameters().items()}
    assert sizes == {
        "base_model.classifier.modules_to_save.default.weight": 3 * 32,
        "base_model.classifier.modules_to_save.default.bias": 3,
        "prompt_encoder.default.embedding.weight": size,
    }


def test_a_prefix_begins_near_the_network() -> None:
    torch.manual_seed(0)
    base = TASKS["encoder"][0]()
    inputs = {"input_ids": batch("bert")["input_ids"][:1]}
    moved = {**inputs, "position_ids": torch.arange(3, 10)[None]}
    expected = first_answer(base, moved)
    found = first_answer(prompted("encoder", "prefix").network, inputs)
    assert 0 < float((found - expected).abs().max()) < 1.5 < float(expected.abs().max())


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_the_loss_of_the_network_counts_the_text_alone(method: str) -> None:
    model = prompted("tokens", method).network.eval()
    labels = torch.arange(28).view(4, 7) % 3
    with torch.no_grad():
        output = model(**batch("bert"), labels=labels)
    expected = nn.functional.cross_entropy(output.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_places_in_a_text_are_counted_from_its_first_token(method: str) -> None:
    model = prompted("answers", method).network.eval()
    start, end = torch.tensor([1, 0, 2, 0]), torch.tensor([3, 1, 2, 2])
    with torch.no_grad():
        output = model(**batch("bert"), start_positions=start, end_positions=end)
    losses = [
        nn.functional.cross_entropy(output.start_logits, start),
        nn.functional.cross_entropy(output.end_logits, end),
    ]
    assert output.start_logits.shape == (4, 7)
    if method == "prefix":
        torch.testing.assert_close(output.loss, sum(losses) / 2)
    else:  # the network normalises over the virtual tokens too: its loss is above that of the text alone
        assert float(output.loss) > float(sum(losses) / 2)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("bert", "prefix"),
        ("roberta", "prompt"),
        ("t5", "prefix"),
        ("t5", "prompt"),
        ("llama", "prefix"),
        ("llama", "prompt"),
        ("gpt2", "prefix"),
    ],
)
def test_training_moves_the_virtual_tokens_and_lowers_the_loss(kind: str, method: str) -> None:
    model = adapted(kind, steps=30, method=method, virtual_tokens=4)
    name = "prompt_encoder.default.embedding.weight"
    before = model.trained_parameters()[name].detach().clone()
    losses = Training(model, kind, rate=5e-2).steps(0, 30)
    changed = (model.trained_parameters()[name] != before).any(dim=1)
    assert bool(changed.all())
    assert sum(losses[-3:]) < 0.98 * sum(losses[:3])


@pytest.mark.parametrize(
    ("kind", "method", "why"),
    [
        ("vit", "prompt", "does not read tokens"),
        ("vit", "prefix", "does not read tokens"),
        ("distilbert", "prefix", "ForSequenceClassification"),
        ("modernbert", "prefix", "ForSequenceClassification"),
        ("gpt2", "prompt", "depends on the padding"),
    ],
)
def test_networks_with_which_it_does_not_work_are_named(kind: str, method: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)the method {method} does not work.*{why}"):
        adapted(kind, method=method)
