"""Slow, obvious versions of what the kernels compute, over Python strings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from sparkml.kernels import characters as c
from sparkml.kernels.characters import flags_table, sentence_table, terminal_table
from sparkml.kernels.english import special_words, units
from sparkml.kernels.texts import read_texts
from sparkml.kernels.words import find_words

SPECIAL = special_words()
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


def kernel_words(text: str) -> list[str]:
    """The words that the kernel finds."""
    found = find_words(read_texts(pa.array([text])))
    content = text.encode()
    return [content[row[0] : row[1]].decode() for row in found.table]


def has(char: str, flag: int) -> bool:
    """Whether a character has a flag."""
    return bool(flags_table()[ord(char)] & flag)


def words(text: str) -> list[str]:
    """Words by white space, then affixes, then infixes, then special words put together again."""
    return [word for run in text.split() for word in join(split(run))]


def split(run: str) -> list[str]:
    """The words of a run without white space."""
    fronts: list[str] = []
    backs: list[str] = []
    while run and run not in SPECIAL:
        front = prefix(run)
        if front and run[front:] in SPECIAL:
            fronts.append(run[:front])
            run = run[front:]
            break
        back = suffix(run[front:])
        if back and run[:-back] in SPECIAL:
            backs.append(run[-back:])
            run = run[:-back]
            break
        if not front and not back:
            break
        fronts += [run[:front]] * (front > 0)
        backs += [run[len(run) - back :]] * (back > 0)
        run = run[front : len(run) - back]
    return [*fronts, *middle(run), *reversed(backs)]


def prefix(run: str) -> int:
    """Length of what comes off the front."""
    if match := re.match(r"\.\.+|US\$|[CA]\$|\+(?![0-9])", run):
        return match.end()
    return int(has(run[0], c.PREFIX)) if run else 0


def suffix(run: str) -> int:
    """Length of what comes off the end."""
    lengths = [0]
    unit = "|".join(map(re.escape, units()))
    for pattern in (
        r"\.\.+",
        "……",
        "['’][sS]",
        r"(?<=[0-9])\+",
        rf"(?<=[0-9])({unit})",
        r"(?<=[0-9])(US|C|A)\$",
    ):
        if match := re.search(f"(?:{pattern})$(?!\n)", run):
            lengths.append(len(match.group()))
    if run:
        before = run[-2] if len(run) > 1 else ""
        digit = bool(before) and before in "0123456789"
        lengths.append(int(has(run[-1], c.SUFFIX) or (digit and has(run[-1], c.CURRENCY))))
        if run[-1] == "." and before:
            lengths.append(int(has(before, c.BEFORE_DOT | c.LOWER)))
            lengths.append(int(len(run) > 2 and has(before, c.UPPER) and has(run[-3], c.UPPER)))
            lengths.append(int(len(run) > 2 and before in "FCK" and run[-3] == "°"))
    return max(lengths)


def middle(run: str) -> list[str]:
    """The words of a run whose affixes are gone."""
    if run in SPECIAL:
        return list(SPECIAL[run])
    found, start, at = [], 0, 0
    while at < len(run):
        length = infix(run, at)
        if length and is_link(run):
            return [run]
        if length and at:
            found += [run[start:at], run[at : at + length]]
            start = at + length
        at += length or 1
    return [word for word in [*found, run[start:]] if word]


def infix(run: str, at: int) -> int:
    """Length of what parts the run at this place."""
    if match := re.match(r"\.\.+", run[at:]):
        return match.end()
    if has(run[at], c.INNER):
        return 1
    if at == 0 or at + 1 == len(run):
        return 0
    before, char, after = run[at - 1], run[at], run[at + 1]
    letter, digit = c.LOWER | c.UPPER, "0123456789"
    if before in digit and char in "+-*^" and after in digit + "-":
        return 1
    if char == "." and has(before, c.LOWER | c.QUOTE) and has(after, c.UPPER | c.QUOTE):
        return 1
    if char == "," and has(before, letter) and has(after, letter):
        return 1
    if before not in digit and not has(before, letter):
        return 0
    if char in ":<>=/" and has(after, letter):
        return 1
    match = re.match("-{1,3}|—{1,2}|–|~", run[at:])
    if match and at + match.end() < len(run) and has(run[at + match.end()], letter):
        return match.end()
    return 0


def is_link(run: str) -> bool:
    """A web address, a host name or a mail address."""
    if len(run) > 2048:
        return False
    scheme = 0
    while scheme < len(run) and (has(run[scheme], c.ALPHABETIC | c.DIGIT) or run[scheme] in "+-._"):
        scheme += 1
    rest = (
        run[scheme + 3 :]
        if scheme > 1 and run[scheme : scheme + 3] == "://" and len(run) > scheme + 2
        else run
    )
    return is_host(rest) or ("@" in rest[1:] and is_host(rest[1:].rsplit("@", 1)[1]))


def is_host(rest: str) -> bool:
    """Host or address, perhaps a port, then nothing or a path."""
    match = re.match("(?s)([A-Za-z0-9\u00a1-\uffff_.-]*)(:[0-9]{2,5}(?![0-9]))?($(?!\n)|[/?#])", rest)
    if not match:
        return False
    labels = match[1].split(".")
    if len(labels) < 2 or any(not label or re.search("^[-_]", label) for label in labels):
        return False
    if any(label[-1] in "-_" for label in labels[:-1]):
        return False
    if all(re.fullmatch("[0-9]+", label) for label in labels):
        return len(labels) == 4
    return len(labels[-1]) > 1 and all(has(char, c.LOWER) for char in labels[-1])


def join(parts: list[str]) -> list[str]:
    """Special words that affixes took apart, together again, from the left."""
    joined, at = [], 0
    while at < len(parts):
        for wide in (5, 4, 3, 2):
            special = SPECIAL.get("".join(parts[at : at + wide]))
            if special and at + wide <= len(parts) and len(special) <= wide + (wide > 2):
                joined += special
                at += wide
                break
        else:
            joined.append(parts[at])
            at += 1
    return joined


def quality(text: str, tokens: Sequence[str]) -> dict[str, float]:
    """Signals of the Gopher quality rules."""
    proper = [word for word in tokens if not all(has(char, c.PUNCTUATION) for char in word)]
    lines = text.splitlines()
    return {
        "n_words": len(proper),
        "mean_word_length": float(np.mean([len(word) for word in proper])) if proper else 0.0,
        "hash_ratio": text.count("#") / len(tokens) if tokens else 0.0,
        "ellipsis_ratio": (text.count("...") + text.count("…")) / len(tokens) if tokens else 0.0,
        "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines)
        if lines
        else 0.0,
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines)
        if lines
        else 0.0,
        "alpha_words": sum(any(map(str.isalpha, word)) for word in tokens) / len(tokens) if tokens else 0.0,
        "stop_words": len(set(STOP_WORDS) & set(tokens)),
    }


def repetition(text: str, tokens: Sequence[str]) -> dict[str, float]:
    """Signals of the Gopher repetition rules."""
    signals: dict[str, float] = {}
    chars = max(len(text), 1)
    for name, blocks in (("paragraph", re.split(r"\n{2,}", text.strip())), ("line", re.split(r"\n+", text))):
        repeated = [block for index, block in enumerate(blocks) if block in blocks[:index]]
        signals[f"dup_{name}s"] = len(repeated) / len(blocks)
        signals[f"dup_{name}_chars"] = sum(map(len, repeated)) / chars
    for n in (2, 3, 4):
        grams = Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))
        top = grams.most_common(1)
        signals[f"top_{n}_gram"] = len(" ".join(top[0][0])) * top[0][1] / chars if top else 0.0
    for n in range(5, 11):
        seen: set[str] = set()
        at = length = 0
        while at <= len(tokens) - n:
            gram = "".join(tokens[at : at + n])
            length += len(gram) * (gram in seen)
            at += n if gram in seen else 1
            seen.add(gram)
        signals[f"dup_{n}_grams"] = length / chars
    return signals


CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


def c4(text: str, *, terminal: bool = True) -> tuple[str, str, int]:
    """What is left of a text, the word that drops it, and how many sentences are left."""
    kept: list[str] = []
    for whole in text.splitlines():
        words = whole.split()
        line = CITATION.sub("", whole.strip())
        lowered = line.lower()
        if any(len(word) > 1000 for word in words):
            continue
        if terminal and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            continue
        if len(words) < 3:
            continue
        if "lorem ipsum" in lowered:
            return "", "lorem_ipsum", 0
        if "javascript" in lowered:
            continue
        if "{" in line:
            return "", "curly_bracket", 0
        if not any(policy in lowered for policy in POLICIES):
            kept.append(line)
    return "\n".join(kept).strip(), "", sum(map(sentences, kept))


def sentences(line: str) -> int:
    """Sentences of a line, as spaCy's sentencizer finds them; those of white space alone do not count."""
    tokens: list[str] = []
    for run in re.findall(r"\S+|\s+", line):
        if run.isspace():
            # A blank right behind a word belongs to it, all else is a word.
            run = run.removeprefix(" ") if tokens else run
            tokens += [run] if run else []
        else:
            tokens += kernel_words(run)
    found: list[list[str]] = [[]]
    ended = False
    for token in tokens:
        is_end = len(token) == 1 and bool(sentence_table()[ord(token)] & 2)
        if ended and not is_end and not all(unicodedata.category(char)[0] == "P" for char in token):
            found.append([])
            ended = False
        elif is_end:
            ended = True
        found[-1].append(token)
    return sum(bool("".join(sentence).strip()) for sentence in found)


def fineweb(text: str, tokens: Sequence[str]) -> dict[str, float]:
    """Signals of the FineWeb rules."""
    lines = [line for line in text.split("\n") if line.strip()]
    repeated = [line for index, line in enumerate(lines) if line in lines[:index]]
    n_lines, chars = max(len(lines), 1), max(len(text.replace("\n", "")), 1)
    return {
        "lines": len(lines),
        "line_punct_ratio": sum(bool(terminal_table()[ord(line[-1])]) for line in lines) / n_lines,
        "short_line_ratio": sum(len(line) <= 30 for line in lines) / n_lines,
        "char_dup_ratio": sum(map(len, repeated)) / chars,
        "list_ratio": text.count("\n") / len(tokens) if tokens else 0.0,
    }


INVISIBLE = "\u00ad\u061c\u180e\u200b\u200e\u200f\ufeff" + "".join(
    chr(code)
    for first, last in ((0x202A, 0x202E), (0x2060, 0x2064), (0x2066, 0x206F), (0xE0000, 0xE007F))
    for code in range(first, last + 1)
)


def visible(char: str) -> bool:
    """A character that normalisation never touches."""
    hidden = INVISIBLE + "\u200c\u200d"
    return char != "" and char not in hidden and not char.isspace() and unicodedata.category(char) != "Cc"


def without_invisible(text: str) -> str:
    """The text without what takes no room; joiners stay right between visible characters beyond ASCII."""
    kept: list[str] = []
    for char, after in zip(text, [*text[1:], ""], strict=False):
        if char in "\u200c\u200d":
            before = kept[-1] if kept else ""
            if all(visible(near) and near > "\x7f" for near in (before, after)):
                kept.append(char)
        elif visible(char) or char.isspace():
            kept.append(char)
    return "".join(kept)


def normalise(text: str) -> str:
    """Normalised text, line by line."""
    # A pair of CR and LF is one break where it was written as a pair.
    text = without_invisible(text.replace("\r\n", "\n"))
    text = re.sub("[\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]", "\n", text)
    text = "".join(" " if char not in "\n\t" and char.isspace() else char for char in text)
    lines = []
    for line in text.split("\n"):
        body = line.lstrip(" \t")
        lines.append(line[: len(line) - len(body)] + re.sub("[ \t]+", " ", body) if body else "")
    text = "\n".join(line.rstrip(" \t") for line in lines)
    return unicodedata.normalize("NFC", re.sub("\n{3,}", "\n\n", text).strip(" \t\n"))
