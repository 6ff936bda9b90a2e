"""Text that was decoded wrongly: `â€™` where an apostrophe was."""

from __future__ import annotations

import re

import numpy as np

from sparkml.kernels.rules import Rule, Signals
from sparkml.stages.clean.rules.rule_set import Batch, RuleSet

# Controls that nobody writes: Windows-1252 read as Latin-1.
_C1 = re.compile("[\x80-\x9f]")


class Repair(RuleSet):
    """Lines that look like one encoding read as another are put right, by ftfy; all others stay as they are."""

    signals = ("repaired_lines",)

    def measure(self, batch: Batch) -> tuple[Signals, Batch]:
        """Lines that were put right; the texts with them."""
        from sparkml.kernels.texts import as_texts, contents

        found = [(text, 0) if text.isascii() else _repaired(text) for text in contents(batch.texts)]
        counts = np.array([count for _, count in found], np.float64)
        left = batch.of(as_texts([text for text, _ in found])) if counts.any() else batch
        return {"repaired_lines": counts}, left

    def rules(self) -> tuple[Rule, ...]:
        """None: nothing is dropped for it."""
        return ()


def _repaired(text: bytes) -> tuple[bytes, int]:
    """A text with its wrong lines put right, and how many those are."""
    import ftfy
    from ftfy import badness
    from ftfy.fixes import fix_c1_controls

    lines, count = text.split(b"\n"), 0
    for number, line in enumerate(lines):
        if line.isascii():
            continue
        given = line.decode("utf-8", "surrogateescape")
        right = ftfy.fix_encoding(given) if badness.is_bad(given) else given
        right = fix_c1_controls(right) if _C1.search(right) else right
        if right != given:
            lines[number], count = right.encode("utf-8", "surrogateescape"), count + 1
    return b"\n".join(lines), count
