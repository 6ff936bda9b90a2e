"""Numbers that a state gives to a person, by country: those whose form or check digits tell them from other numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

from sparkml.kernels.candidates import CODE, NUMBER
from sparkml.stages.clean.personal.checks import digits_of, luhn

_DNI_LETTERS = b"TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_LETTERS = b"0123456789ABCDEFHJKLMNPRSTUVWXY"
# Verhoeff's tables: multiplication in the dihedral group of order 10, and how a place permutes a digit.
_TURN = [
    [
        (row + column) % 5 + 5 * (column // 5) if row < 5 else (row - column) % 5 + 5 * (1 - column // 5)
        for column in range(10)
    ]
    for row in range(10)
]
_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
# Italy's tax code: what a character counts for at an odd place.
_ODD_VALUES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_ODD = dict(
    zip(
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (*_ODD_VALUES, *_ODD_VALUES, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def is_date(year: int, month: int, day: int) -> bool:
    """Whether there is such a day."""
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    """The sum of the products of the first digits with the weights."""
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def is_dni(text: bytes) -> bool:
    """Spain, DNI and NIE."""
    letters = {b"X": b"0", b"Y": b"1", b"Z": b"2"}
    plain = text.replace(b"-", b"")
    number = letters.get(plain[:1], plain[:1]) + plain[1:-1]
    return len(number) == 8 and _DNI_LETTERS[int(number) % 23] == plain[-1]


def is_codice_fiscale(text: bytes) -> bool:
    """Italy."""
    total = sum(
        _ODD[byte] if place % 2 == 0 else int(chr(byte), 36) - (10 if byte > 57 else 0)
        for place, byte in enumerate(text[:15])
    )
    return total % 26 == text[15] - 65


def is_nir(text: bytes) -> bool:
    """France: 13 digits and a key of two."""
    plain = text.replace(b" ", b"").replace(b"2A", b"19").replace(b"2B", b"18")
    return 97 - int(plain[:13]) % 97 == int(plain[13:])


def is_steuer_id(text: bytes) -> bool:
    """Germany: of the first ten digits one stands there two or three times, the others once at most; ISO 7064."""
    digits = digits_of(text)
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if counts[-1] not in (2, 3) or counts[:-1] != [1] * (len(counts) - 1):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == digits[10]


def is_pesel(text: bytes) -> bool:
    """Poland: a date of birth, its century in the month."""
    digits = digits_of(text)
    month = 10 * digits[2] + digits[3]
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[month // 20]
    born = is_date(century + 10 * digits[0] + digits[1], month % 20, 10 * digits[4] + digits[5])
    return born and (10 - weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == digits[10]


def is_cpf(text: bytes) -> bool:
    """Brazil."""
    digits = digits_of(text)
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        check = weighted(digits[:length], range(length + 1, 1, -1)) * 10 % 11 % 10
        if check != digits[length]:
            return False
    return True


def is_personnummer(text: bytes) -> bool:
    """Sweden: YYMMDD-NNNN, also with its century; of coordination numbers the day is 60 more."""
    digits = digits_of(text)[-10:]
    day = 10 * digits[4] + digits[5]
    return luhn(digits) and is_date(2000, 10 * digits[2] + digits[3], day - 60 if day > 60 else day)


def is_hetu(text: bytes) -> bool:
    """Finland."""
    return _HETU_LETTERS[int(text[:6] + text[7:10]) % 31] == text[10] and is_date(
        2000, int(text[2:4]), int(text[:2])
    )


def is_ahv(text: bytes) -> bool:
    """Switzerland: the check digit of EAN-13."""
    digits = digits_of(text)
    return (10 - weighted(digits, (1, 3) * 6) % 10) % 10 == digits[12]


def is_aadhaar(text: bytes) -> bool:
    """India: Verhoeff's check digit."""
    check = 0
    for place, digit in enumerate(reversed(digits_of(text))):
        for _ in range(place % 8):
            digit = _PERMUTATION[digit]
        check = _TURN[check][digit]
    return check == 0


def is_resident_id(text: bytes) -> bool:
    """China: 17 digits with a date of birth, and a check character of ISO 7064."""
    check = weighted(digits_of(text[:17]), (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11
    born = is_date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    return born and b"10X98765432"[check] == text[17]


def _has_form(_: bytes) -> bool:
    return True


# Where it may be, its form, and its check.
IDS: tuple[tuple[int, bytes, Callable[[bytes], bool]], ...] = (
    # United States, social security.
    (NUMBER, rb"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])", _has_form),
    # United Kingdom, national insurance.
    (
        NUMBER,
        rb"(?<!\w)(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D](?!\w)",
        _has_form,
    ),
    (NUMBER, rb"(?<![\w-])(?:[XYZ]-?\d{7}|\d{8})-?[A-HJ-NP-TV-Z](?!\w)", is_dni),
    (CODE, rb"(?<!\w)[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)", is_codice_fiscale),
    (
        NUMBER,
        rb"(?<!\w)[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d(?!\w)",
        is_nir,
    ),
    (NUMBER, rb"(?<![\w.-])[1-9]\d ?\d{3} ?\d{3} ?\d{3}(?![\w.-])", is_steuer_id),
    (NUMBER, rb"(?<![\w.-])\d{11}(?![\w.-])", is_pesel),
    (NUMBER, rb"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d\d(?![\w-])", is_cpf),
    (NUMBER, rb"(?<![\w.-])(?:19|20)?\d{6}[-+]\d{4}(?![\w-])", is_personnummer),
    (NUMBER, rb"(?<![\w.-])\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y](?![\w-])", is_hetu),
    (NUMBER, rb"(?<![\w.-])756\.\d{4}\.\d{4}\.\d\d(?![\w.-]\d)", is_ahv),
    (NUMBER, rb"(?<![\w.-])[2-9]\d{3} \d{4} \d{4}(?![\w-]| \d{4})", is_aadhaar),
    (NUMBER, rb"(?<!\w)[1-9]\d{5}(?:19|20)\d{9}[\dX](?!\w)", is_resident_id),
)
