"""Settings of the task `retrieve`, and what a model's directory says in place of those that are not given."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sparkml.errors import ConfigError
from sparkml.tasks.texts import TextOptions

QUERY, PASSAGE = "query", "passage"


class RetrieveOptions(TextOptions):
    """Settings of `task:` where its name is `retrieve`."""

    max_length: int = Field(
        256,
        ge=8,
        description="Tokens of a window, special tokens included; not given: at most what the model was made for",
    )
    pooling: Literal["model", "mean", "cls", "max", "last"] = Field(
        "model",
        description="One vector of a text: as the model's directory says (1_Pooling, else mean), the mean or the "
        "largest numbers over its tokens, its first or its last token",
    )
    query_prefix: str | None = Field(
        None, description="Put before queries (e5: `query: `); null: as the model's directory says"
    )
    passage_prefix: str | None = Field(
        None, description="Put before passages (e5: `passage: `); null: as the model's directory says"
    )
    side: Literal["query", "passage"] = Field(
        "query", description="What the texts are that the model answers: only the prefix differs"
    )
    temperature: float = Field(0.05, gt=0, description="Cosines are divided by it before the softmax")
    symmetric: bool = Field(False, description="Passages are to find their queries, too")


def resolved(options: RetrieveOptions, inputs: Any) -> RetrieveOptions:
    """The options with what the model's directory says in place of what they leave open: they are kept with a model."""
    found: dict[str, Any] = {}
    if options.pooling == "model":
        found["pooling"] = getattr(inputs, "pooling", "mean")
    for name in ("query_prefix", "passage_prefix"):
        if getattr(options, name) is None:
            found[name] = getattr(inputs, name, "")
    if options.keep == "tail" and any(
        getattr(options.model_copy(update=found), name) for name in ("query_prefix", "passage_prefix")
    ):
        raise ConfigError(
            "a prefix stands before the head of a text, which is not read",
            where="task.keep",
            got="tail",
            expected="head or ends",
        )
    made_for = getattr(inputs, "made_for", None)
    if made_for and "max_length" not in options.model_fields_set:
        found["max_length"] = min(options.max_length, made_for)
    return options.model_copy(update=found)
