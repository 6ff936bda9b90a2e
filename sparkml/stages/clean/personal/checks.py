"""Whether a number is what it looks like: check digits, ranges, dates."""

from __future__ import annotations

import ipaddress

_DIGITS = b"0123456789"
# Characters of an IBAN by country, ISO 13616.
_IBANS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
    "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 "
    "QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
_IBAN_LENGTHS = {entry[:2].encode(): int(entry[2:]) for entry in _IBANS.split()}
_CARD_LENGTHS = range(13, 20)
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")


def digits_of(text: bytes) -> list[int]:
    """The digits, left to right."""
    return [byte - 48 for byte in text if byte in _DIGITS]


def is_public_ip(text: bytes) -> bool:
    """An address of the public internet."""
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        return False
    if address.version == 6 and address not in _GLOBAL_IPV6:
        return False
    return address.is_global and not address.is_multicast


def has_digits_of_phone(text: bytes) -> bool:
    """E.164: at most 15 digits; fewer than 6 are an extension."""
    return 6 <= len(digits_of(text.removeprefix(b"00"))) <= 15


def luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812: the last digit is the check digit."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def is_card(text: bytes) -> bool:
    """The number of a payment card: its issuer's range and length, and the check digit."""
    digits = digits_of(text)
    number = "".join(map(str, digits))
    if len(number) not in _CARD_LENGTHS:
        return False
    two, four = int(number[:2]), int(number[:4])
    of_issuer = (
        (number[0] == "4" and len(number) in (13, 16, 19))
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and len(number) == 16)
        or (two in (34, 37) and len(number) == 15)
        or ((four == 6011 or two == 65 or 644 <= int(number[:3]) <= 649) and len(number) in (16, 19))
        or (3528 <= four <= 3589 and len(number) in (16, 19))
        or ((300 <= int(number[:3]) <= 305 or two in (36, 38, 39)) and len(number) in (14, 16, 19))
        or (two == 62 and 16 <= len(number) <= 19)
    )
    return of_issuer and len(set(digits)) > 1 and luhn(digits)


def iban_end(text: bytes, start: int) -> int | None:
    """Where the IBAN that starts here ends, in groups of any size with single blanks; None: there is none."""
    wanted = _IBAN_LENGTHS.get(text[start : start + 2])
    if wanted is None:
        return None
    found, at = bytearray(), start
    while at < len(text) and len(found) < wanted:
        byte = text[at]
        if byte == 32 and at + 1 < len(text) and text[at - 1] != 32:
            at += 1
            continue
        if not (48 <= byte <= 57 or 65 <= byte <= 90):
            return None
        found.append(byte)
        at += 1
    if len(found) < wanted or (at < len(text) and chr(text[at]).isalnum()):
        return None
    moved = (found[4:] + found[:4]).decode()
    return at if int("".join(str(int(char, 36)) for char in moved)) % 97 == 1 else None
