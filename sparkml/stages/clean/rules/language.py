"""The language of a document."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from sparkml.frame.schemas import LANGUAGES
from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import Batch, Fraction, RuleSet


class Language(RuleSet):
    """Names the language in `lang`, its share of the text in `lang_score`, and all shares in `languages`."""

    signals = ("lang_score", "lang_is_kept")
    limits = frozenset(("min_score",))

    keep: tuple[str, ...] | None = Field(
        None, description="Languages that stay, as ISO 639-1 codes; null: all that are known"
    )
    min_score: Fraction = Field(0.65, description="Share of the main language, at least")
    most_bytes: int = Field(
        12_000, ge=1, description="Looked at of a document: of a longer one, its beginning, middle and end"
    )

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """The share of the main language, and whether it stays."""
        import pyarrow as pa

        from sparkml.kernels.languages import UNKNOWN, detect
        from sparkml.kernels.texts import contents

        found = [detect(text, self.most_bytes) for text in contents(batch.texts)]
        stays = [one.lang != UNKNOWN and (self.keep is None or one.lang in self.keep) for one in found]
        score = np.array([one.share for one in found], np.float64)
        columns = {
            "lang": pa.array([one.lang for one in found], pa.string()),
            "lang_score": pa.array(score.astype(np.float32)),
            "languages": pa.array([one.shares for one in found], LANGUAGES),
        }
        signals = {"lang_score": score, "lang_is_kept": np.array(stays, np.float64)}
        return signals, replace(batch, columns={**batch.columns, **columns})

    def rules(self) -> tuple[Rule, ...]:
        """The language, then how much of the text is in it."""
        return (
            Rule("language", "lang_is_kept", least=None if self.keep is None else 1),
            Rule("language_score", "lang_score", least=self.min_score),
        )
