"""The kinds: where each may be (`kernels.candidates`), its pattern over UTF-8 bytes, and what makes a match one.

A match that does not pass its check (a sum, a range, a date) is none. What a pattern cannot tell from an ordinary
number, such as a national phone number without a sign of it, is not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sparkml.kernels.candidates import AT, CODE, COLONS, NUMBER
from sparkml.stages.clean.personal import checks, national

# The bounds of what was found; None: it is none.
Span = tuple[int, int] | None
Check = Callable[[re.Match[bytes]], Span]


@dataclass(frozen=True)
class Pattern:
    """One way in which a kind is written."""

    place: int
    pattern: re.Pattern[bytes]
    check: Check


def _all(_: bytes) -> bool:
    return True


def _pattern(place: int, pattern: bytes, holds: Callable[[bytes], bool] = _all) -> Pattern:
    """The span is the group 1 of the pattern where it has one, else all of it."""
    compiled = re.compile(pattern)
    group = min(compiled.groups, 1)

    def check(match: re.Match[bytes]) -> Span:
        return match.span(group) if holds(match[group]) else None

    return Pattern(place, compiled, check)


# RFC 5322 without & / = ?: between an address and what stands before it in a link.
_ATOM = rb"[A-Za-z0-9!#$%'*+^_`{|}~-]+"
_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rb"(?:" + _OCTET + rb"\.){3}" + _OCTET

_EMAIL = (
    _pattern(
        AT,
        rb"\b"
        + _ATOM
        + rb"(?:\."
        + _ATOM
        + rb")*@(?:(?:"
        + _LABEL
        + rb"\.)+"
        + _LABEL
        + rb"|\["
        + _IPV4
        + rb"\])",
    ),
)
_IP = (
    _pattern(NUMBER, rb"(?<![\w.-])" + _IPV4 + rb"(?![\w-]|\.\d)", checks.is_public_ip),
    _pattern(
        COLONS,
        rb"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:" + _IPV4 + rb"|[0-9A-Fa-f]{1,4})?(?![\w:])",
        checks.is_public_ip,
    ),
)
_PHONE = (
    # With its country: +49 30 123456, 0044 (0)20 7946 0000.
    _pattern(
        NUMBER,
        rb"(?<![\w+.])(?:\+|(?<!\d )00)[1-9](?:[ .-]?\d){0,2}(?:[ .-]?\(0?\d{0,4}\))?"
        rb"(?:[ ./-]{0,2}\d){6,13}(?![\w-]|\.\d)",
        checks.has_digits_of_phone,
    ),
    # North America: (212) 555-0123, 1-212-555-0123.
    _pattern(
        NUMBER,
        rb"(?<![\w.+-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?![\w-]|\.\d)",
    ),
    # Any other that says what it is: Tel.: 030/123456.
    _pattern(
        NUMBER,
        rb"(?i)(?<!\w)(?:tele?(?:ph|f)one?|tel|phone|fax|mobile?|cell|handy)\b[^\w\n]{0,4}(?:(?:no|nr|number)\b)?"
        rb"[^\w\n]{0,4}?([+(]?\d[\d ()./-]{4,17}\d)(?!\w)",
        checks.has_digits_of_phone,
    ),
)


def _iban(match: re.Match[bytes]) -> Span:
    end = checks.iban_end(match.string, match.start())
    return None if end is None else (match.start(), end)


_IBAN = (Pattern(NUMBER, re.compile(rb"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?= ?[A-Z0-9]{2})"), _iban),)


def _card(match: re.Match[bytes]) -> Span:
    # Another number may stand behind it: the longest of the first groups that is a card.
    text, start = match[0], match.start()
    for end in (len(text), *(gap.start() for gap in reversed([*_GAP.finditer(text)]))):
        if checks.is_card(text[:end]):
            return start, start + end
        if end < _LEAST_CARD:
            break
    return None


_LEAST_CARD = 13  # digits
_GAP = re.compile(rb"[ -]")
_CARD = (Pattern(NUMBER, re.compile(rb"(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w-]|\.\d)"), _card),)
_KEYS = (
    rb"(?:A3T[A-Z0-9]|AKIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ASIA)[A-Z0-9]{16}",  # Amazon
    rb"AIza[\w-]{35}",  # Google
    rb"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}|glpat-[\w-]{20,}",
    rb"xox[abeoprs]-[A-Za-z0-9-]{10,}",  # Slack
    rb"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    rb"sk-[A-Za-z0-9_-]{20,}",
    rb"SG\.[\w-]{16,32}\.[\w-]{16,64}",  # SendGrid
    rb"(?:AC|SK)[0-9a-f]{32}",  # Twilio
    rb"npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,}|hf_[A-Za-z0-9]{30,}|dapi[0-9a-f]{32}",
    rb"eyJ[\w-]{10,1000}\.eyJ[\w-]{10,4000}\.[\w-]{10,1000}",  # JSON web tokens
)
_SECRET = (
    _pattern(CODE, rb"(?<![A-Za-z0-9])(?:" + rb"|".join(_KEYS) + rb")(?![A-Za-z0-9])"),
    # password = ..., "api_key": "...".
    _pattern(
        CODE,
        rb"(?i)(?:api[_-]?key|secret(?:[_-]?key)?|token|passw(?:or)?d|pwd)[\"']?[ \t]{0,2}[:=]{1,2}>?[ \t]{0,2}[\"']?"
        rb"([A-Za-z0-9_./+=~-]{20,})",
    ),
)

KINDS: dict[str, tuple[Pattern, ...]] = {
    "email": _EMAIL,
    "ip": _IP,
    "iban": _IBAN,
    "card": _CARD,
    "national_id": tuple(_pattern(place, pattern, holds) for place, pattern, holds in national.IDS),
    "phone": _PHONE,
    "secret": _SECRET,
}
# Blocks of lines that no place of a kernel holds: what they begin and end with.
PRIVATE_KEY = re.compile(
    rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s:,.()]|-(?!----))*"
    rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
)
