"""What each Unicode code point is: one table of bit flags, built on first use from the interpreter's Unicode data.

The sets follow the reference pipelines where a published rule depends on them (words that are wholly punctuation)
and spaCy's English tokenizer where a word boundary does.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SPACE = 1  # str.isspace
LINE_BREAK = 2  # ends a line for str.splitlines
ALPHABETIC = 4  # str.isalpha
PUNCTUATION = 8  # a word of nothing but these is not a word to the Gopher rules
LOWER = 16  # a lower-case letter, or one of a script without case
UPPER = 32  # an upper-case letter, or one of a script without case
PREFIX = 64  # comes off the front of a word
SUFFIX = 128  # comes off its end
INNER = 256  # splits a word wherever it is
QUOTE = 512
BEFORE_DOT = 1024  # after one of these a final full stop comes off
CURRENCY = 2048
HYPHEN = 4096  # splits a word between letters
DIGIT = 8192  # decimal digit of any script
SEPARATOR = 16384  # punctuation or symbol by its Unicode category, or a control character
BOUNDARY = 32768  # a word boundary may lie beside it, inside a run without white space

CODE_POINTS = 0x110000
# Outside these ranges there are only unassigned code points and private use.
_ASSIGNED = (range(0x33480), range(0xE0000, 0xE01F0))

_LINE_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_PUNCT = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
_CURRENCY = "$£€¥฿₽﷼" + "".join(map(chr, range(0x20A0, 0x20C0)))
_PREFIXES = "§%=—–"
_SUFFIXES = "—–"
_HYPHENS = "-–—~"
_BEFORE_DOT = "0123456789%²-+|" + _PUNCT + _QUOTES

# Inclusive ranges. The reference's list of punctuation holds a full-width digit one; it is kept for equal decisions.
_REFERENCE_PUNCTUATION = (
    "0000-0008 000B-0023 0024-002F 003A-0040 005B-0060 007B-009F 00AB 00B4 00BB 2013-2014 2019 201C-201E 2026 2236 "
    "2501 25BA 3001 3008-300D 3010-3011 FF05 FF08-FF09 FF0C FF11 FF1A-FF1B FF5E"
)
# Unicode's property Sentence_Terminal, 159 marks.
_TERMINAL = (
    "0021 002E 003F 0589 061D-061F 06D4 0700-0702 07F9 0837 0839 083D-083E 0964-0965 104A-104B 1362 1367-1368 166E "
    "1735-1736 17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F "
    "203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 "
    "AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 "
    "110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 "
    "115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 "
    "16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88"
)

# Those of them that spaCy's rule-based sentencizer does not know: Unicode had them later.
_NOT_OF_SENTENCIZER = (
    "061D-061E 0837 0839 083D-083E 17D4-17D6 17D9-17DA 1B7D-1B7E 2E53-2E54 10F55-10F59 10F86-10F89 11944 11946 "
    "11EF7-11EF8 11F43-11F44 16E98"
)

# Letters between which punctuation splits a word: the scripts that spaCy lists.
_CASED_SCRIPTS = (
    "0041-005A 0061-007A 00C0-00D6 00D8-00F6 00F8-02AF 0386 0388-038A 038C 038E-038F 0391-03A9 03AC-03CE 0400 0401 "
    "0403-0407 0409 040A 040C 040D 0410-044F 0450 0451 0453-0457 0459 045A 045C 045D 0490 0491 0496 0497 04A2 04A3 "
    "04AE 04AF 04BA 04BB 04D8 04D9 04E8 04E9 1D00-1D25 1D6B-1D77 1D79-1D9A 1E00-1EFF 2C60-2C7F A722-A787 A78B-A7FA "
    "AB30-AB64 FF21-FF3A FF41-FF5A"
)
_CASELESS_SCRIPTS = (
    "0591-05F4 0620-064A 066E-06D5 06E5-06FF 0750-077F 08A0-08BD 0900-09FF 0B80-0CFF 0D80-0DFF 1100-137F 2E80-2FDF "
    "2FF0-30FF 31C0-31EF 3200-4DBF 4E00-9FFF AC00-D7AF F900-FAFF FB1D-FBB1 FBD3-FD3D FD50-FDC7 FDF0-FDFB FE30-FE4F "
    "FE70-FEFC 1EE00-1EEBB 1F200-1F2FF 20000-2EBEF 2F800-2FA1F"
)
_BY_CATEGORY = {
    "Ll": ALPHABETIC | LOWER,
    "Lu": ALPHABETIC | UPPER,
    "Lt": ALPHABETIC | UPPER,
    "Lo": ALPHABETIC,
    "Lm": ALPHABETIC,
    "Nd": DIGIT,
    "Zs": SPACE,
    "Zl": SPACE,
    "Zp": SPACE,
    "Cc": SEPARATOR,
    **dict.fromkeys(("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk"), SEPARATOR),
    "So": SEPARATOR | PREFIX | SUFFIX | INNER,
}


@lru_cache(maxsize=1)
def flags_table() -> NDArray[np.uint16]:
    """Flags of every code point, uint16[0x110000]; built once per process (about 30 ms)."""
    table = np.zeros(CODE_POINTS, dtype=np.uint16)
    for block in _ASSIGNED:
        kinds = [_BY_CATEGORY.get(unicodedata.category(chr(code)), 0) for code in block]
        table[block.start : block.stop] = kinds
    cased = np.zeros(CODE_POINTS, dtype=np.bool_)
    for first, last in ranges(_CASED_SCRIPTS):
        cased[first : last + 1] = True
    table[~cased] &= np.uint16(0xFFFF ^ (LOWER | UPPER))
    for first, last in ranges(_CASELESS_SCRIPTS):
        table[first : last + 1] |= LOWER | UPPER
    for flag, members in (
        (SPACE, "\t\x1f" + _LINE_BREAKS),
        (LINE_BREAK, _LINE_BREAKS),
        (PREFIX, _PREFIXES + _PUNCT + _QUOTES + _CURRENCY),
        (SUFFIX, _SUFFIXES + _PUNCT + _QUOTES),
        (INNER, "…"),
        (QUOTE, _QUOTES),
        (BEFORE_DOT, _BEFORE_DOT),
        (CURRENCY, _CURRENCY),
        (HYPHEN, _HYPHENS),
    ):
        table[[ord(c) for c in members]] |= flag
    for first, last in (*ranges(_REFERENCE_PUNCTUATION), *ranges(_TERMINAL)):
        table[first : last + 1] |= PUNCTUATION
    table[(table & (PREFIX | SUFFIX | INNER | HYPHEN)) != 0] |= BOUNDARY
    table[[ord(c) for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]] |= BOUNDARY
    table.flags.writeable = False
    return table


@lru_cache(maxsize=1)
def terminal_table() -> NDArray[np.bool_]:
    """Whether a code point ends a sentence by Unicode's property, bool[0x110000]."""
    table = np.zeros(CODE_POINTS, np.bool_)
    for first, last in ranges(_TERMINAL):
        table[first : last + 1] = True
    table.flags.writeable = False
    return table


@lru_cache(maxsize=1)
def sentence_table() -> NDArray[np.uint8]:
    """What spaCy's sentencizer asks of a code point, uint8[0x110000]: 1: punctuation by its category, 2: a terminal."""
    table = terminal_table().astype(np.uint8) * 2
    for first, last in ranges(_NOT_OF_SENTENCIZER):
        table[first : last + 1] = 0
    for block in _ASSIGNED:
        table[block.start : block.stop] |= np.array(
            [unicodedata.category(chr(code)).startswith("P") for code in block], np.uint8
        )
    table.flags.writeable = False
    return table


def ranges(listed: str) -> list[tuple[int, int]]:
    """Inclusive ranges of code points from their listing in hexadecimal."""
    return [(int(part.split("-")[0], 16), int(part.split("-")[-1], 16)) for part in listed.split()]
