"""Prefix tuning (Li and Liang 2021) and prompt tuning (Lester et al. 2021) through peft.

peft puts virtual tokens before the text; what it does with positions, masks and answers depends on the architecture.
So that every task sees a network like the base, answers at virtual tokens are cut off and labels are shifted to fit;
and before anything is trained, a trial on a few tokens refuses the networks with which this does not work.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel, PeftType, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import Tensor, nn

from sparkml.errors import ConfigError
from sparkml.models.adapt.heads import drawn_from
from sparkml.models.adapt.settings import AdaptSettings

_ADAPTER = "default"
# peft's name of a task by the end of the network's; it chooses how virtual tokens are fed.
_TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}
_ANSWERS = ("logits", "last_hidden_state", "start_logits", "end_logits", "encoder_last_hidden_state")
_IGNORED = -100
# Of a prefix's first weights: small, so that the network begins as what it was; peft's own are of size 1.
_PREFIX_STD = 0.02


def with_prompt(
    network: nn.Module, settings: AdaptSettings, heads: tuple[str, ...], *, seed: int
) -> PeftModel:
    """The network, frozen but for its head, with trainable virtual tokens; ConfigError where it takes none."""
    _check_reads_text(network, settings.method)
    task = _task(network)
    common: dict[str, Any] = {
        "task_type": task,
        "num_virtual_tokens": settings.virtual_tokens,
        "modules_to_save": list(heads) or None,
    }
    with drawn_from(seed, settings.method):
        try:
            if settings.method == "prefix":
                adapted = get_peft_model(network, PrefixTuningConfig(**common))
                nn.init.normal_(_virtual(adapted), std=_PREFIX_STD)
            else:
                config = PromptTuningConfig(
                    prompt_tuning_init="SAMPLE_VOCAB", num_transformer_submodules=1, **common
                )
                adapted = get_peft_model(network, config)
        except (ValueError, AttributeError, KeyError) as error:
            raise _refused(network, settings.method, str(error)) from error
    for name, parameter in adapted.base_model.named_parameters():
        parameter.requires_grad_(".modules_to_save." in name)
    hide_virtual_tokens(adapted)
    _try(adapted, settings.method)
    return adapted


def hide_virtual_tokens(adapted: PeftModel) -> None:
    """Make the network answer for the text alone, as its base does."""
    config = adapted.peft_config[_ADAPTER]
    if config.peft_type == PeftType.PROMPT_TUNING:
        adapted.register_forward_pre_hook(_shift_labels, with_kwargs=True)
        adapted.register_forward_hook(_cut_answers, with_kwargs=True)


def _shift_labels(
    adapted: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Labels of tokens get as many ignored ones in front as there are virtual tokens; peft does it for decoders."""
    config = _config(adapted)
    labels = kwargs.get("labels")
    if config.task_type in ("TOKEN_CLS", "FEATURE_EXTRACTION") and labels is not None and labels.dim() == 2:
        ignored = labels.new_full((len(labels), config.num_virtual_tokens), _IGNORED)
        kwargs = {**kwargs, "labels": torch.cat((ignored, labels), dim=1)}
    if config.task_type == "QUESTION_ANS":
        shifted = {
            name: kwargs[name] + config.num_virtual_tokens
            for name in ("start_positions", "end_positions")
            if kwargs.get(name) is not None
        }
        kwargs = {**kwargs, **shifted}
    return args, kwargs


def _cut_answers(adapted: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], answers: Any) -> Any:
    """Answers at virtual tokens are cut off, so that positions are those of the text."""
    config = _config(adapted)
    text = kwargs["input_ids"] if kwargs.get("input_ids") is not None else args[0] if args else None
    text = kwargs.get("inputs_embeds") if text is None else text
    if text is None:
        return answers
    width = text.shape[1] + config.num_virtual_tokens

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() >= 2 and value.shape[1] == width:
            return value[:, config.num_virtual_tokens :]
        return value

    for name in _ANSWERS:
        if getattr(answers, name, None) is not None:
            answers[name] = cut(answers[name])
    for name in ("hidden_states", "encoder_hidden_states"):
        if getattr(answers, name, None) is not None:
            answers[name] = tuple(cut(value) for value in answers[name])
    return answers


def _config(adapted: nn.Module) -> Any:
    return adapted.peft_config[_ADAPTER]  # type: ignore[index]  # a PeftModel


def _virtual(adapted: nn.Module) -> nn.Parameter:
    """The weights of the virtual tokens [token, width]."""
    weight: nn.Parameter = adapted.get_submodule(f"prompt_encoder.{_ADAPTER}.embedding").weight  # type: ignore[assignment]
    return weight


def _task(network: nn.Module) -> str:
    name = type(network).__name__
    return next((task for end, task in _TASKS.items() if name.endswith(end)), "FEATURE_EXTRACTION")


def _check_reads_text(network: nn.Module, method: str) -> None:
    if getattr(network, "main_input_name", None) != "input_ids" or not hasattr(network, "config"):
        raise _refused(network, method, "it does not read tokens")


def _refused(network: nn.Module, method: str, why: str) -> ConfigError:
    return ConfigError(
        f"the method {method} does not work with this network",
        where=type(network).__name__,
        got=why,
        expected="a network that takes virtual tokens before its text",
        next_action="choose the method lora or adapters",
    )


@torch.no_grad()
def _try(adapted: PeftModel, method: str) -> None:
    """Feed a few tokens: it must run, heed the virtual tokens, and answer a text alike with and without padding."""
    base: nn.Module = adapted.get_base_model()
    training = adapted.training
    adapted.eval()
    try:
        answer = _answer(adapted, [5, 3])
        alone = _answer(adapted, [3])
        weight = _virtual(adapted)
        kept = weight.clone()
        weight.copy_(3 * kept.flip(1))
        moved = _answer(adapted, [5, 3])
        weight.copy_(kept)
    except (ValueError, TypeError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        raise _refused(base, method, f"{type(error).__name__}: {error}") from error
    finally:
        adapted.train(training)
    if torch.allclose(answer, moved):
        raise _refused(base, method, "its answers do not depend on the virtual tokens")
    padded = answer[1:, :3] if answer.shape[1] == 5 else answer[1:]
    if padded.shape != alone.shape or not torch.allclose(padded, alone, atol=1e-3, rtol=1e-3):
        raise _refused(base, method, "its answer to a text depends on the padding behind it")


def _answer(adapted: PeftModel, lengths: list[int]) -> Tensor:
    """The first answer [row, ...] to texts of these lengths, padded behind."""
    config: Any = adapted.config
    padding = getattr(config, "pad_token_id", None) or 0
    tokens = [token for token in range(2, 9) if token != padding][:5]
    longest = max(lengths)
    ids = torch.tensor([tokens[:length] + [padding] * (longest - length) for length in lengths])
    mask = torch.tensor([[1] * length + [0] * (longest - length) for length in lengths])
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids[:, :1].expand(-1, 2)
    answers = adapted(**inputs)
    answer: Tensor = next(answers[name] for name in _ANSWERS if getattr(answers, name, None) is not None)
    return answer.float()
