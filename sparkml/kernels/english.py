"""Words that English tokenizers part in the middle (don't, cannot, 10am) or keep whole (Mr., e.g., o'clock).

The list follows spaCy's blank English tokenizer, so that counts of words agree with pipelines that use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

_MONTHS_AND_STATES = (
    "Ak Ala Apr Ariz Ark Aug Calif Colo Conn Dec Del Feb Fla Ga Ia Id Ill Ind Jan Jul Jun Kan Kans Ky La Mar Mass "
    "Mich Minn Miss Mt Neb Nebr Nev Nov Oct Okla Ore Pa Sep Sept Tenn Va Wash Wis"
)
_TITLES = (
    "a.m Adm Bros co Co Corp D.C Dr e.g E.g E.G Gen Gov i.e I.e I.E Inc Jr Ltd Md Messrs Mo Mont Mr Mrs Ms p.m Ph.D "
    "Prof Rep Rev Sen St vs v.s N.C N.D N.H N.J N.M N.Y S.C"
)
_WHOLE = (
    "and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout 'd 's 'S ‘s ‘S 'em em 'll ll 'nuff nuff ' '' "
    "ma'am Ma'am o'clock O'clock C++ \\t \\n \\\") <space>"
)
_DROPPED_G = "doin goin nothin nuthin ol somethin lovin havin"
_PARTED = (
    "y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta "
    "let|'s Let|'s c'm|on C'm|on i|'m I|'m i|m I|m i|'m|a I|'m|a i|m|a I|m|a"
)
_EMOTICONS = (
    "(*_*) (-8 (-: (-; (-_-) (._.) (: (; (= (>_<) (^_^) (o: )-: ): -_- -__- ._. 0.0 0.o 0_0 0_o 8) 8-) 8-D 8D :'( :') "
    ":'-( :'-) :( :(( :((( :() :) :)) :))) :* :-( :-(( :-((( :-) :-)) :-))) :-* :-/ :-0 :-3 :-> :-D :-O :-P :-X :-] "
    ":-o :-p :-x :-| :-} :/ :0 :1 :3 :> :D :O :P :X :] :o :o) :p :x :| :} :’( :’) :’-( :’-) ;) ;-) ;-D ;D ;_; <.< </3 "
    "<3 <33 <333 =( =) =/ =3 =D =[ =] =| >.< >.> >:( >:o @_@ O.O O.o O_O O_o V.V V_V XD XDD [-: [: [= ]= ^_^ ^__^ "
    "^___^ o.0 o.O o.o o_0 o_O o_o v.v v_v xD xDD (¬_¬) ಠ_ಠ (ಠ_ಠ)"
)
# Words of their own, although they look like a pronoun with its verb.
_NEVER_PARTED = frozenset(
    cased
    for word in ("ill", "its", "hell", "shell", "shed", "were", "well", "whore")
    for cased in (word, word.title())
)
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa "
    "Pa mbar mb MB kb KB gb GB tb TB T G M K %"
)


@lru_cache(maxsize=1)
def special_words() -> dict[str, tuple[str, ...]]:
    """Each special word with the parts that it is made of; a single part where it stays whole."""
    parted = {"".join(parts): parts for parts in _all_parts()}
    straight = {word: parts for word, parts in parted.items() if word not in _NEVER_PARTED}
    curly = {_curly(word): tuple(map(_curly, parts)) for word, parts in straight.items()}
    return straight | curly


def units() -> tuple[str, ...]:
    """Units of measurement that come off the number before them."""
    return tuple(_UNITS.split())


def _all_parts() -> Iterator[tuple[str, ...]]:
    yield from _pronouns()
    yield from _question_words()
    yield from _negations()
    for hour in range(1, 13):
        for period in ("a.m.", "am", "p.m.", "pm"):
            yield str(hour), period
    for word in _PARTED.split():
        yield tuple(word.split("|"))
    for word in (*_WHOLE.split(), *_EMOTICONS.split(), "—"):
        yield (word,)
    for scale in "CFKcfk":
        yield "°", scale, "."
    for word in (*_MONTHS_AND_STATES.split(), *_TITLES.split(), *"abcdefghijklmnopqrstuvwxyzäöü"):
        yield (word + ".",)
    for word in _DROPPED_G.split():
        for cased in _cased(word):
            yield (cased,)
            yield (cased + "'",)


def _cased(word: str) -> tuple[str, str]:
    return word, word.title()


def _with_and_without_apostrophe(word: str, *ends: str) -> Iterator[tuple[str, ...]]:
    yield (word, *(f"'{end}" for end in ends))
    yield (word, *ends)


def _pronouns() -> Iterator[tuple[str, ...]]:
    verbs = {
        "i": ("ve",),
        "you": ("ve", "re"),
        "we": ("ve", "re"),
        "they": ("ve", "re"),
        "he": ("s",),
        "she": ("s",),
        "it": ("s",),
    }
    for pronoun, own in verbs.items():
        for word in _cased(pronoun):
            for end in ("ll", "d", *own):
                yield from _with_and_without_apostrophe(word, end)
            for end in ("ll", "d"):
                yield from _with_and_without_apostrophe(word, end, "ve")


def _question_words() -> Iterator[tuple[str, ...]]:
    singular = ("that", "this")
    plural = ("these", "those")
    for base in ("who", "what", "when", "where", "why", "how", "there", *singular, *plural):
        ends = ["ll", "d"] + ["s"] * (base not in plural) + ["re", "ve"] * (base not in singular)
        for word in _cased(base):
            for end in ends:
                yield from _with_and_without_apostrophe(word, end)
            for end in ("ll", "d"):
                yield from _with_and_without_apostrophe(word, end, "ve")


def _negations() -> Iterator[tuple[str, ...]]:
    modal = ("could", "might", "must", "should", "would")
    with_have = (*modal, "ca", "do", "does", "did", "had", "may", "need", "ought", "sha", "wo")
    for base in (*with_have, "ai", "are", "is", "was", "were", "have", "has", "dare"):
        for word in _cased(base):
            yield word, "n't"
            yield word, "nt"
            if base in with_have:
                yield word, "n't", "'ve"
                yield word, "nt", "ve"
            if base in modal:
                yield from _with_and_without_apostrophe(word, "ve")


def _curly(word: str) -> str:
    return word.replace("'", "’")
