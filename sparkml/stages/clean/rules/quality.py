"""How good a text is, by a model that learnt it from examples (Brown et al. 2020, appendix A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PrivateAttr

from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import Batch, Fraction, RuleSet

if TYPE_CHECKING:
    from sparkml.stages.clean.linear_model import LinearModel


class Quality(RuleSet):
    """Scores each document with the model `clean.quality_model`, which the stage `learn_quality` makes.

    With a limit here documents below it go; the stage `select` takes the best share, or a sample by score.
    """

    signals = ("quality",)
    limits = frozenset(("min_score",))

    min_score: Fraction = Field(None, description="Score from 0 to 1, at least")

    _model: LinearModel | None = PrivateAttr(None)

    def with_model(self, location: str) -> Quality:
        """With the weights of a model directory."""
        from sparkml.stages.clean.linear_model import LinearModel

        ready = self.model_copy()
        ready._model = LinearModel.of(location)
        return ready

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """The score of each document."""
        from sparkml.kernels.linear import scores

        if self._model is None:
            raise AssertionError("the stage gives this rule set its model")
        model = self._model
        found = scores(batch.texts, model.weights, model.bias, model.most_words, batch.memory)
        return {"quality": np.asarray(found)}, batch

    def rules(self) -> tuple[Rule, ...]:
        """The one."""
        return (Rule("low_quality", "quality", least=self.min_score),)
