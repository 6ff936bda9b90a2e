"""What `conf/base/clean.yaml` holds. Every limit may be null, which turns its rule off."""

from __future__ import annotations

from pydantic import Field, field_validator

from sparkml.frame.stage import Reads, Shares, StageConfig, Writes
from sparkml.stages.clean.rules.c4 import C4, MC4
from sparkml.stages.clean.rules.fineweb import FineWeb
from sparkml.stages.clean.rules.gopher_quality import GopherQuality
from sparkml.stages.clean.rules.gopher_repetition import GopherRepetition
from sparkml.stages.clean.rules.html import HTML
from sparkml.stages.clean.rules.language import Language
from sparkml.stages.clean.rules.pii import PII
from sparkml.stages.clean.rules.rule_set import RuleSet

GOPHER = ("gopher_repetition", "gopher_quality")
RULE_SETS = ("html", "language", *GOPHER, "c4", "mc4", "fineweb", "pii")


class CleanConfig(StageConfig):
    """Which rules run, in which order, and their limits; the defaults are the published constants."""

    source: Reads = Field("bronze", description="Documents as they were read")
    target: Writes = Field("clean", description="Normalised documents that passed every rule")
    rejects: Shares = Field("rejects", description="The others, with the rule that they failed")
    normalise: bool = Field(True, description="Normalise Unicode and white space before the rules")
    rules: tuple[str, ...] = Field(GOPHER, description="Rule sets in order; the first failure is the reason")
    drop_when: str | None = Field(
        None, description="SQL over `text`, `n_words`, `signals` and what else a document has: true drops it"
    )
    max_text_bytes: int = Field(10_000_000, ge=1, description="Larger documents are rejected unmeasured")

    html: HTML = Field(HTML(), description="The main text of web pages")
    language: Language = Field(Language(), description="The language of a document")
    gopher_repetition: GopherRepetition = Field(GopherRepetition(), description="Text that repeats itself")
    gopher_quality: GopherQuality = Field(GopherQuality(), description="Text that is not running text")
    c4: C4 = Field(C4(), description="Lines of web pages that are no sentences")
    mc4: MC4 = Field(MC4(), description="Pages without long lines")
    fineweb: FineWeb = Field(FineWeb(), description="Pages of lists and menus")

    pii: PII = Field(PII(), description="Personal data and secrets")

    @field_validator("rules")
    @classmethod
    def _rules_are_known(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in rules if name not in RULE_SETS]
        if unknown or len(set(rules)) < len(rules):
            raise ValueError(f"each of {', '.join(RULE_SETS)} at most once; got {', '.join(rules)}")
        if "html" in rules[1:]:
            raise ValueError(f"html comes first: all others are for text; got {', '.join(rules)}")
        return rules

    @property
    def rule_sets(self) -> tuple[RuleSet, ...]:
        """Those that run, in order."""
        return tuple(getattr(self, name) for name in self.rules)

    def prepared(self) -> CleanConfig:
        """The same as the workers need it."""
        return self.model_copy(update={name: getattr(self, name).prepared() for name in self.rules})

    @property
    def signal_names(self) -> tuple[str, ...]:
        """Fields of `signals`: the number of words, then what the rule sets measure."""
        return tuple(dict.fromkeys(("n_words", *(name for one in self.rule_sets for name in one.signals))))
