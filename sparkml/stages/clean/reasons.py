"""Why a document is dropped whatever the limits of the rule sets are; apart, for code that needs no kernel."""

from __future__ import annotations

EMPTY, NULL_TEXT, TOO_LARGE, DROP_WHEN = "empty", "null_text", "too_large", "drop_when"
# Details of the reason `empty`: before all rules, and behind them.
NOTHING_VISIBLE, NO_LINE_STAYS = "no visible character", "no line stays"
