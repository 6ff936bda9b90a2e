"""Pages by where they lie: lists of domains and paths, words of the address."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PrivateAttr

from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import Batch, Count, RuleSet

if TYPE_CHECKING:
    from sparkml.stages.clean.addresses import AddressList, AddressWords


class URL(RuleSet):
    """Drops pages by the column `url`; a document without one passes.

    An entry `example.com` is for the domain and all below it, `news.example.com` for that part of it,
    `example.com/shop` for pages below this path. Case, `www.`, port and scheme do not count.
    """

    signals = ("url_listed", "url_words", "url_soft_words", "url_parts")
    limits = frozenset(("min_soft_words",))

    listed: tuple[str, ...] = Field((), description="Domains and paths that are left out")
    lists: tuple[str, ...] = Field((), description="Files of such entries, one a line, plain or compressed")
    words: tuple[str, ...] = Field((), description="Words of an address that drop the page, lower case")
    soft_words: tuple[str, ...] = Field((), description="Words of which several do")
    min_soft_words: Count = Field(2, description="So many do")
    parts: tuple[str, ...] = Field(
        (), description="Strings that drop the page wherever they stand in an address"
    )

    _addresses: AddressList | None = PrivateAttr(None)

    @property
    def places(self) -> tuple[str, ...]:
        """The files of entries."""
        return self.lists

    def prepared(self) -> URL:
        """With the entries of the files."""
        from sparkml.sources.lists import entries
        from sparkml.stages.clean.addresses import AddressList

        ready = self.model_copy()
        ready._addresses = AddressList.of(
            [*self.listed, *(entry for place in self.lists for entry in entries(place))]
        )
        return ready

    @cached_property
    def _words(self) -> AddressWords:
        from sparkml.stages.clean.addresses import AddressWords

        return AddressWords(frozenset(self.words), frozenset(self.soft_words), self.parts)

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Whether an address is listed, and which words it has."""
        if self._addresses is None:
            raise AssertionError("this rule set is prepared on the driver")
        count = len(batch.texts.offsets) - 1
        column = batch.columns.get("url")
        addresses = [None] * count if column is None else column.to_pylist()
        found = np.array([self._words.count(address) for address in addresses], np.float64).reshape(count, 3)
        signals = {"url_listed": self._addresses.has(addresses).astype(np.float64)}
        return signals | dict(zip(self.signals[1:], found.T, strict=True)), batch

    def rules(self) -> tuple[Rule, ...]:
        """Lists first."""
        soft = None if self.min_soft_words is None else self.min_soft_words - 1
        return (
            Rule("url_listed", "url_listed", most=0),
            Rule("url_word", "url_words", most=0),
            Rule("url_soft_words", "url_soft_words", most=soft),
            Rule("url_part", "url_parts", most=0),
        )
