"""A teacher that computes beside its student: what their last blocks give is compared, pass by pass.

`hidden`: the vectors of all tokens, as mean squared differences; `attention`: where each head looks, as KL(teacher ||
student) over the tokens (Wang et al. 2020, arXiv:2002.10957, without its relations of values).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparkml.errors import ConfigError
from sparkml.models.engines.layout import FAMILIES
from sparkml.models.shaping.settings import Matched

_FAR = -1e4


class Beside:
    """Listens to the student, which is called by others, and asks the teacher.

    ConfigError where the two cannot be compared: other widths, other numbers of heads.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, match: Sequence[Matched]) -> None:
        self._match, self._teacher = match, teacher.eval().requires_grad_(False)
        _check(student, teacher, match)
        self._heard = {"student": _Heard(student, match), "teacher": _Heard(teacher, match)}

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The mean distance over the rows that the student was just called with."""
        with torch.no_grad():
            self._teacher(**inputs)
        student, teacher = self._heard["student"], self._heard["teacher"]
        real = inputs.get("attention_mask")
        found = []
        if "hidden" in self._match:
            apart = (student.hidden() - teacher.hidden()).square().mean(dim=-1)
            found.append(_mean(apart, real))
        if "attention" in self._match:
            ours, theirs = (one.attention(real) for one in (student, teacher))
            apart = (theirs.exp() * (theirs - ours)).sum(dim=-1).mean(dim=1)
            found.append(_mean(apart, real))
        return torch.stack(found).sum()


class _Heard:
    """What the last block of a network gave when it was last called."""

    def __init__(self, network: nn.Module, match: Sequence[Matched]) -> None:
        base: Any = getattr(network, "base_model", network)
        self._base, self._kept = base, dict[str, Tensor]()
        if "hidden" in match:
            base.register_forward_hook(lambda module, given, out: self._keep("hidden", out[0]))
        if "attention" in match:
            family = FAMILIES[base.config.model_type]
            last = base.get_submodule(family.block.partition(".{}")[0])[-1]
            self._n_heads = int(getattr(base.config, family.n_heads))
            for name, layer in (("query", family.query), ("key", family.key)):
                last.get_submodule(layer).register_forward_hook(
                    lambda module, given, out, name=name: self._keep(name, out)
                )

    def _keep(self, name: str, value: Tensor) -> None:
        self._kept[name] = value

    def hidden(self) -> Tensor:
        """float32 [rows, time, width]."""
        return self._kept["hidden"].float()

    def attention(self, real: Tensor | None) -> Tensor:
        """Logarithms of where tokens look, float32 [rows, heads, time, time]."""
        query, key = (self._by_head(self._kept[name].float()) for name in ("query", "key"))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if real is not None:
            scores = scores.masked_fill(real[:, None, None, :] == 0, _FAR)
        logarithms: Tensor = scores.log_softmax(dim=-1)
        return logarithms

    def _by_head(self, values: Tensor) -> Tensor:
        rows, time, _ = values.shape
        return values.view(rows, time, self._n_heads, -1).transpose(1, 2)


def _mean(apart: Tensor, real: Tensor | None) -> Tensor:
    """Of [rows, time] the mean over the tokens of each row, and over the rows."""
    if real is None:
        return apart.mean()
    return ((apart * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)).mean()


def _check(student: nn.Module, teacher: nn.Module, match: Sequence[Matched]) -> None:
    configs: list[Any] = [getattr(one, "base_model", one).config for one in (student, teacher)]
    ours, theirs = configs
    names = ["hidden_size"]
    if "attention" in match:
        if not {ours.model_type, theirs.model_type} <= set(FAMILIES):
            raise ConfigError(
                "the attention of this architecture cannot be matched",
                got=f"{ours.model_type} and {theirs.model_type}",
                expected=", ".join(FAMILIES),
                next_action="leave attention out of `match`",
            )
        names.append("num_attention_heads")
    for name in names:
        if getattr(ours, name, None) != getattr(theirs, name, None):
            raise ConfigError(
                "what student and teacher give has another shape: it cannot be matched",
                where=name,
                got=f"{getattr(ours, name, None)} and {getattr(theirs, name, None)}",
                next_action="leave hidden and attention out of `match`",
            )
