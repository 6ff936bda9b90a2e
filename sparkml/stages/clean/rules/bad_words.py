"""Bad words by language, as C4 leaves them out (Raffel et al. 2020, section 2.2; mC4: Xue et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from pydantic import Field, PrivateAttr

from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import Batch, RuleSet

if TYPE_CHECKING:
    from sparkml.stages.clean.word_lists import WordList


class BadWords(RuleSet):
    """Counts words of a list of the document's language: whole words, in Japanese, Thai and Chinese any occurrence.

    The language is the column `lang` (the rule set `language` before this one, or the source's field), else
    `default_language`; documents of languages without a list pass.
    """

    signals = ("bad_words",)

    lists: Mapping[str, str] = Field({}, description="Language -> file of words or phrases, one a line")
    words: Mapping[str, tuple[str, ...]] = Field({}, description="Language -> words or phrases")
    default_language: str = Field("en", description="Of documents whose language is not known")
    keep_fraction: float = Field(
        0.0, ge=0, le=1, description="Part of the documents with bad words that stays, by a hash of the text"
    )

    _ready: Mapping[str, WordList] | None = PrivateAttr(None)

    @property
    def places(self) -> tuple[str, ...]:
        """The files of words."""
        return tuple(self.lists.values())

    def prepared(self) -> BadWords:
        """With the words of the files."""
        from sparkml.sources.lists import entries
        from sparkml.stages.clean.word_lists import WordList

        words = {lang: list(given) for lang, given in self.words.items()}
        for lang, place in self.lists.items():
            words.setdefault(lang, []).extend(entries(place))
        ready = self.model_copy()
        ready._ready = {lang: WordList.of(lang, given) for lang, given in words.items()}
        return ready

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """How many bad words there are."""
        from sparkml.kernels.texts import contents

        if self._ready is None:
            raise AssertionError("this rule set is prepared on the driver")
        documents = list(contents(batch.texts))
        column = batch.columns.get("lang")
        languages = [None] * len(documents) if column is None else column.to_pylist()
        counts = np.zeros(len(documents))
        for number, (text, lang) in enumerate(zip(documents, languages, strict=True)):
            words = self._ready.get(lang or self.default_language)
            if words is not None and not self._stays(text):
                counts[number] = words.count(text)
        return {"bad_words": counts}, batch

    def rules(self) -> tuple[Rule, ...]:
        """The one."""
        return (Rule("bad_words", "bad_words", most=0),)

    def _stays(self, text: bytes) -> bool:
        return self.keep_fraction > 0 and xxhash.xxh3_64_intdigest(text) < self.keep_fraction * 2**64
