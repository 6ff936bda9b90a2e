"""What `conf/base/monitor.yaml` holds."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from sparkml.frame.secret import is_reference
from sparkml.frame.stage import Reads, Shares, StageConfig, Uses

_TIME = re.compile(r"(\d+) (second|minute|hour|day|week)s?")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_HOW: dict[str, JsonValue] = {"semantic": False}
Statistic = Literal["ks", "js", "psi", "chi_square"]
State = Literal["raised", "repeated", "silenced", "recovered"]


def seconds_of(text: str) -> int:
    """`2 hours` in seconds."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("expected a time such as `1 day` or `30 minutes`")
    return int(found[1]) * _SECONDS[found[2]]


def _is_time(text: str) -> str:
    seconds_of(text)
    return text


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


Time = Annotated[str, AfterValidator(_is_time)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Watched(_Part):
    """Which columns of the table hold what; one that the table lacks is not watched."""

    doc_id: str = Field("doc_id", min_length=1, description="The rows' key")
    time: str | None = Field(None, description="When a row came; null: all rows are one window")
    text: str = Field("text", description="Texts")
    lang: str = Field("lang", description="Where the table has none, languages are found (text_language)")
    prediction: str = Field("prediction", description="What a model has said")
    score: str = Field("score", description="How sure it was, 0 to 1")
    error: str = Field("error", description="Why it could not say anything; null: it could")
    label: str = Field("label", description="What is right; of the table `labels` where there is one")
    labelled_at: str = Field("labelled_at", description="When the label came")
    embedding: str = Field("embedding", description="Vectors that the classifier sees instead of words")


class Reference(_Part):
    """Rows as they should be. Only windows of time tell how much windows differ without drift."""

    version: int | None = Field(None, ge=0, description="Delta version of the table; null: the newest")
    start: Moment | None = Field(None, description="Rows from then on; null: from the first")
    end: Moment | None = Field(None, description="Rows before then; null: after `windows`")
    windows: int = Field(20, ge=1, description="The first windows of the table, where there is no end")


class Silenced(_Part):
    """Alerts that are kept quiet."""

    signal: str = Field("*", description="Pattern of the signal: `text.*`")
    slice: str = Field("*", description="Pattern of the slice: `lang=de`")
    until: Moment | None = Field(None, description="Windows that begin before then; null: all")


class Webhook(_Part):
    """Where messages are posted."""

    url: str | None = Field(None, description="The URL, or where it is: env:VARIABLE or file:PATH")
    token: str | None = Field(None, description="Where the bearer token is: env:VARIABLE or file:PATH")

    @field_validator("token")
    @classmethod
    def _is_no_secret(cls, token: str | None) -> str | None:
        if token is not None and not is_reference(token):
            raise ValueError("a secret is not written here: env:VARIABLE or file:PATH says where it is")
        return token


class Mail(_Part):
    """What sends mails: a command that reads one on its standard input."""

    command: tuple[str, ...] = Field((), description="Such as [sendmail, -t]")
    sender: str = Field("sparkml@localhost", description="Who sends")
    receivers: tuple[str, ...] = Field((), description="Who gets them")

    @model_validator(mode="after")
    def _has_receivers(self) -> Mail:
        if self.command and not self.receivers:
            raise ValueError("a mail needs receivers")
        return self


class MonitorConfig(StageConfig):
    """What is watched, beside what, and who is told."""

    source: Reads = Field("scores", description="The table that is watched")
    query: str | None = Field(
        None, description="SQL over {source}, and {scores} where they are named: what is watched"
    )
    reference: Reads | None = Field(None, description="Table of the reference; null: the one that is watched")
    reference_query: str | None = Field(None, description="SQL over {source}; null: as `query`")
    reference_rows: Reference = Field(Reference(), description="Which rows of it")
    scores: Reads | None = Field(None, description="Scores of the rows, joined by their key")
    model: Uses | None = Field(None, description="Whose scores; null: all that the table has")
    labels: Reads | None = Field(None, description="Labels that come later, joined by the key")
    columns: Watched = Field(Watched(), description="Which columns hold what")
    numbers: tuple[str, ...] = Field((), description="Further columns that are numbers")
    categories: tuple[str, ...] = Field((), description="Further columns of a few values")
    slices: tuple[str, ...] = Field((), description="Columns whose values are watched for themselves, too")
    text_language: bool = Field(
        False, description="Find the language of texts, where there is no column of it"
    )
    window: Time = Field("1 day", description="Length of a window: `1 hour`")
    wait: Time = Field("0 seconds", description="A window is judged so long after its end")
    label_wait: Time = Field("0 seconds", description="Performance is judged so long after a window's end")
    last_windows: int = Field(90, ge=1, description="Windows that are judged, and shown: the last ones")
    live: bool = Field(False, description="Windows up to now are expected: one without rows is an alarm")
    false_alarms: float = Field(
        0.01, gt=0, lt=0.5, description="Chance that a window without drift raises any alarm"
    )
    ordered: tuple[Statistic, ...] = Field(
        ("ks", "js"), min_length=1, description="What decides about numbers"
    )
    unordered: tuple[Literal["js", "psi", "chi_square"], ...] = Field(
        ("js",), min_length=1, description="What decides about values"
    )
    smallest_js: float = Field(0.0005, ge=0, description="Divergence in bits below which nothing is an alarm")
    min_rows: int = Field(30, ge=2, description="Rows of a slice below which a window is not judged")
    max_values: int = Field(20, ge=1, description="Values of a column that have a bin, or a slice")
    sample_rows: int = Field(300, ge=0, description="Rows of a window that a classifier sees; 0: none")
    queue_rows: int = Field(50, ge=0, description="Rows of a window that should be labelled")
    target: Shares = Field("monitored", description="One row a window, slice and signal")
    alerts: Shares = Field("alerts", description="What was raised, repeated, silenced, recovered")
    notifications: Shares = Field("notifications", description="Which messages were sent")
    queue: Shares = Field("labelling", description="Rows that somebody should label")
    silences: tuple[Silenced, ...] = Field((), description="Alerts that nobody is told of")
    tell: tuple[State, ...] = Field(("raised", "recovered"), description="Events that messages are sent of")
    webhook: Webhook = Field(Webhook(), description="Where messages are posted", json_schema_extra=_HOW)
    mail: Mail = Field(Mail(), description="What sends mails", json_schema_extra=_HOW)

    @model_validator(mode="after")
    def _has_a_reference(self) -> MonitorConfig:
        if self.columns.time is None and self.reference is None and self.reference_rows.version is None:
            raise ValueError(
                "a table without a time needs a reference: another table, or reference_rows.version"
            )
        return self
