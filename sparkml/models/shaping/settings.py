"""How a network is shaped while it is trained; travels to the ranks with the training. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Matched = Literal["logits", "hidden", "attention"]


class Sparsity(BaseModel):
    """Weights of the linear layers that become zero, the smallest of each matrix, more and more of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(ge=0, lt=1, description="Of each matrix, in the end; 0: what is zero stays so")
    until: float = Field(0.7, gt=0, le=1, description="Part of the steps after which the share is reached")


class Teaching(BaseModel):
    """A teacher. Its logits are a column of the samples; the other two it computes beside the student."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(
        gt=0, le=1, description="Of the teacher's part of the loss; the task's own has the rest"
    )
    temperature: float = Field(gt=0, description="Softens both sides")
    match: tuple[Matched, ...] = ("logits",)
    teacher: str = ""  # its model directory, where it computes beside the student

    @property
    def beside(self) -> tuple[Matched, ...]:
        """What the teacher has to compute beside the student."""
        return tuple(one for one in self.match if one != "logits")


class Shaping(BaseModel):
    """All that shapes the network of one training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sparsity: Sparsity | None = None
    rounds: bool = False  # weights and tokens as int8 rounds them
    teaching: Teaching | None = None

    @property
    def is_any(self) -> bool:
        """Whether there is anything to do."""
        return self != Shaping()
