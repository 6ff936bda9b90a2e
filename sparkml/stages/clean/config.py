"""What `conf/base/clean.yaml` holds. Every limit may be null, which turns its rule off."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from sparkml.frame.stage import Reads, Shares, StageConfig, Uses, Writes
from sparkml.sources.lists import state
from sparkml.stages.clean.rules.bad_words import BadWords
from sparkml.stages.clean.rules.c4 import C4, MC4
from sparkml.stages.clean.rules.decontaminate import Decontaminate
from sparkml.stages.clean.rules.fineweb import FineWeb
from sparkml.stages.clean.rules.gopher_quality import GopherQuality
from sparkml.stages.clean.rules.gopher_repetition import GopherRepetition
from sparkml.stages.clean.rules.html import HTML
from sparkml.stages.clean.rules.language import Language
from sparkml.stages.clean.rules.pii import PII
from sparkml.stages.clean.rules.quality import Quality
from sparkml.stages.clean.rules.repair import Repair
from sparkml.stages.clean.rules.rule_set import RuleSet
from sparkml.stages.clean.rules.url import URL

GOPHER = ("gopher_repetition", "gopher_quality")
RULE_SETS = (
    *("html", "url", "repair", "language", *GOPHER, "c4", "mc4", "fineweb"),
    *("bad_words", "quality", "decontaminate", "pii"),
)


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
    from_signals: bool = Field(
        False,
        description="Decide again from the signals of the last run, where only limits are other ones: no text is read "
        "but of documents that come back",
        json_schema_extra={"semantic": False},
    )
    max_text_bytes: int = Field(10_000_000, ge=1, description="Larger documents are rejected unmeasured")

    html: HTML = Field(HTML(), description="The main text of web pages")
    language: Language = Field(Language(), description="The language of a document")
    gopher_repetition: GopherRepetition = Field(GopherRepetition(), description="Text that repeats itself")
    gopher_quality: GopherQuality = Field(GopherQuality(), description="Text that is not running text")
    c4: C4 = Field(C4(), description="Lines of web pages that are no sentences")
    mc4: MC4 = Field(MC4(), description="Pages without long lines")
    fineweb: FineWeb = Field(FineWeb(), description="Pages of lists and menus")
    url: URL = Field(URL(), description="Pages by their address")
    repair: Repair = Field(Repair(), description="Text that was decoded wrongly")
    bad_words: BadWords = Field(BadWords(), description="Bad words by language")
    quality_model: Uses | None = Field(
        None, description="Model of the rule set `quality`: what the stage learn_quality makes"
    )
    quality: Quality = Field(Quality(), description="Text that is not like good examples")
    decontaminate: Decontaminate = Field(Decontaminate(), description="Parts of evaluation sets")
    pii: PII = Field(PII(), description="Personal data and secrets")

    @model_validator(mode="after")
    def _quality_has_its_model(self) -> CleanConfig:
        if "quality" in self.rules and self.quality_model is None:
            raise ValueError("the rule set quality needs a model: quality_model")
        return self

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

    def for_words(self) -> CleanConfig:
        """The rule sets that also judge sentences which are given as words, and so have no running text."""
        judging = tuple(name for name in self.rules if getattr(self, name).judges_words)
        return self.model_copy(update={"rules": judging, "normalise": False})

    def with_model(self, location: str) -> CleanConfig:
        """The same with the model of the rule set `quality`, by its directory."""
        return self.model_copy(update={"quality": self.quality.with_model(location)})

    def prepared(self) -> CleanConfig:
        """The same as the workers need it."""
        return self.model_copy(update={name: getattr(self, name).prepared() for name in self.rules})

    def lookups(self) -> list[str]:
        """What stands in the files and tables that its rule sets look things up in."""
        return [state(place) for one in self.rule_sets for place in one.places]

    @property
    def signal_names(self) -> tuple[str, ...]:
        """Fields of `signals`: the number of words, then what the rule sets measure."""
        return tuple(dict.fromkeys(("n_words", *(name for one in self.rule_sets for name in one.signals))))
