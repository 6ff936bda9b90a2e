"""Personal data and secrets: what is found is masked, hashed, or drops the document."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from sparkml.frame.secret import is_reference, secret_at
from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import CHANGEABLE, Batch, RuleSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

Action = Literal["mask", "hash", "drop", "keep"]


class PII(RuleSet):
    """Looks into `text`, and into `title`, `url`, `text_b` and the values of `meta`, and counts each kind.

    mask: `<EMAIL>` stands there instead; hash: `<EMAIL:9f86d081884c7d65>`, the same for the same original and key;
    drop: the document is rejected; keep: it is not looked for. Where a document is words with tags, every word of what
    is found is replaced: there are as many as before.
    """

    judges_words: ClassVar[bool] = True

    signals = tuple(
        f"pii_{kind}" for kind in ("email", "ip", "iban", "card", "national_id", "phone", "secret")
    )

    email: Action = Field("mask", description="E-mail addresses")
    ip: Action = Field("mask", description="Addresses of the public internet, IPv4 and IPv6")
    iban: Action = Field("mask", description="Bank accounts")
    card: Action = Field("mask", description="Payment cards")
    national_id: Action = Field("mask", description="Numbers of persons, of 13 countries")
    phone: Action = Field(
        "mask", description="Telephone numbers: with their country, North American, or after `tel.`"
    )
    secret: Action = Field(
        "mask", description="Keys of services, tokens, private keys, values of `password =`"
    )
    key: str = Field(
        "", description="Where the key for `hash` is: env:VARIABLE or file:PATH; the value is kept nowhere"
    )

    _key: bytes = PrivateAttr(b"")

    @model_validator(mode="after")
    def _hashes_with_a_key(self) -> PII:
        if "hash" in self.actions.values() and not is_reference(self.key):
            raise ValueError("to hash takes a key that nobody can guess: key=env:VARIABLE or key=file:PATH")
        return self

    def prepared(self) -> PII:
        """With its key; ConfigError where there is none."""
        if "hash" not in self.actions.values():
            return self
        keyed = self.model_copy()
        keyed._key = secret_at(self.key, "the key of clean.pii").encode()
        return keyed

    @cached_property
    def actions(self) -> dict[str, str]:
        """What is done, by kind that is looked for."""
        kinds = (name.removeprefix("pii_") for name in self.signals)
        return {kind: action for kind in kinds if (action := getattr(self, kind)) != "keep"}

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """How much of each kind there is; the texts and columns without it."""
        from sparkml.stages.clean.personal.find import counts, find, masks, replaced

        kinds, documents = tuple(self.actions), len(batch.texts.offsets) - 1
        mask = masks(self.actions, self._key)
        found = find(batch.texts, kinds, batch.memory)
        signals = {name: np.zeros(documents) for name in self.signals}
        signals |= {f"pii_{kind}": count for kind, count in counts(found, kinds, documents).items()}
        columns = dict(batch.columns)
        for name in CHANGEABLE:
            if name in columns:
                columns[name], more = _masked(columns[name], kinds, mask)
                for kind, count in more.items():
                    signals[f"pii_{kind}"] += count
        return signals, replace(batch, texts=replaced(batch.texts, found, mask), columns=columns)

    def words_left(self, words: Sequence[str]) -> list[str]:
        """The words, those of what is found replaced by what stands for it."""
        import pyarrow as pa

        from sparkml.kernels.texts import read_texts
        from sparkml.stages.clean.personal.find import find, masks

        left = list(words)
        parts = [word.encode() for word in words]
        starts = np.cumsum([0, *(len(part) + 1 for part in parts)])
        content = b" ".join(parts)
        mask = masks(self.actions, self._key)
        for one in find(read_texts(pa.array([content.decode()])), tuple(self.actions)):
            first = int(np.searchsorted(starts, one.start, side="right")) - 1
            last = int(np.searchsorted(starts, one.end, side="left"))
            for place in range(first, last):
                left[place] = mask(one.kind, content[one.start : one.end]).decode()
        return left

    def rules(self) -> tuple[Rule, ...]:
        """One for each kind that drops."""
        dropping = [kind for kind, action in self.actions.items() if action == "drop"]
        return tuple(Rule(f"pii_{kind}", f"pii_{kind}", most=0) for kind in dropping)


def _masked(
    column: pa.Array, kinds: tuple[str, ...], mask: Callable[[str, bytes], bytes]
) -> tuple[pa.Array, Signals]:
    """A column of texts, or of maps with texts, without what is of these kinds; how much there was by row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from sparkml.kernels.texts import as_column, read_texts
    from sparkml.stages.clean.personal.find import counts, find, replaced

    is_map = pa.types.is_map(column.type)
    offsets = column.offsets.to_numpy() if is_map else np.zeros(2, np.int64)
    # A slice of a column of maps has the values of all rows.
    values = column.items[offsets[0] : offsets[-1]] if is_map else column
    texts = read_texts(values)
    found = find(texts, kinds)
    of_values = counts(found, kinds, len(values))
    if not is_map:
        if not found:
            return column, of_values
        new = as_column(replaced(texts, found, mask), values.type)
        return pc.if_else(values.is_valid(), new, pa.scalar(None, values.type)), of_values
    keys = column.keys[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    sums = {kind: np.concatenate([[0], np.cumsum(of)]) for kind, of in of_values.items()}
    of_rows = {kind: sum_[offsets[1:]] - sum_[offsets[:-1]] for kind, sum_ in sums.items()}
    if not found:
        return column, of_rows
    new = as_column(replaced(texts, found, mask), values.type)
    new = pc.if_else(values.is_valid(), new, pa.scalar(None, values.type))
    rebuilt = pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, new)
    return pc.if_else(column.is_valid(), rebuilt, None), of_rows
