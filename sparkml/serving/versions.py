"""Which version of a model answers under which name: its own, a canary's share, and one that answers in the shadow."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sparkml.errors import UsageError
from sparkml.serving.wire import Loaded


@dataclass(frozen=True)
class Route:
    """What answers under a name. `asked` is what was asked for: `classifier` without a version follows the newest."""

    name: str
    asked: str
    primary: Loaded
    canary: Loaded | None = None
    canary_share: float = 0.0
    shadow: Loaded | None = None

    @property
    def versions(self) -> list[Loaded]:
        """All that it takes."""
        return [one for one in (self.primary, self.canary, self.shadow) if one is not None]

    def draw(self) -> tuple[Loaded, str]:
        """The version that answers a request, and its role."""
        if self.canary is not None and random.random() < self.canary_share:
            return self.canary, "canary"
        return self.primary, "primary"

    def told(self) -> dict[str, Any]:
        """As `GET /v1/models` shows it."""
        found: dict[str, Any] = {"name": self.name, "model": self.primary.key}
        if self.canary is not None:
            found |= {"canary": self.canary.key, "canary_share": self.canary_share}
        return {**found, "shadow": self.shadow.key} if self.shadow is not None else found


class Shelf(Protocol):
    """Where models are found."""

    def find(self, model: str) -> Loaded:
        """A version that can answer, by a name or a directory; InputError where it is missing or answers nothing."""
        ...

    def follows(self, model: str) -> bool:
        """Whether newer versions may appear under what was asked for."""
        ...


def read_routes(models: Sequence[str], shelf: Shelf) -> dict[str, Route]:
    """Routes from words `MODEL` or `NAME=MODEL`; UsageError where two have one name."""
    found: dict[str, Route] = {}
    for word in models:
        given, equals, rest = word.partition("=")
        model = rest if equals else word
        version = shelf.find(model)
        # `classifier` of `classifier/v3`, `minilm` of `minilm@1a2b3c4`.
        name = given if equals else re.split("/v|@", version.key)[0]
        if name in found:
            raise UsageError(f"two models would be called `{name}`", next_action=f"name one: NAME={model}")
        found[name] = Route(name, model, version)
    return found


def with_versions(
    routes: Mapping[str, Route],
    shelf: Shelf,
    *,
    canaries: Sequence[str] = (),
    shadows: Sequence[str] = (),
) -> dict[str, Route]:
    """The same with `NAME=MODEL:SHARE` as canaries and `NAME=MODEL` in the shadow."""
    found = dict(routes)
    for word in canaries:
        name, model = _named(word, found)
        model, _, share = model.rpartition(":")
        found[name] = changed(found[name], {"canary": model, "canary_share": _share(share, word)}, shelf.find)
    for word in shadows:
        name, model = _named(word, found)
        found[name] = changed(found[name], {"shadow": model}, shelf.find)
    return found


def changed(route: Route, change: Mapping[str, Any], find: Callable[[str], Loaded]) -> Route:
    """The route with what `change` says of `model`, `canary`, `canary_share` and `shadow`; null takes one away."""
    new = route
    if change.get("model"):
        new = replace(new, asked=str(change["model"]), primary=find(str(change["model"])))
    for role in ("canary", "shadow"):
        if role in change:
            version = find(str(change[role])) if change[role] else None
            new = replace(new, canary=version) if role == "canary" else replace(new, shadow=version)
    if change.get("canary_share") is not None:
        new = replace(new, canary_share=float(change["canary_share"]))
    return new


def _named(word: str, routes: Mapping[str, Route]) -> tuple[str, str]:
    name, equals, model = word.partition("=")
    if not equals or name not in routes:
        raise UsageError(
            "no such model is served", got=word, expected=f"NAME=MODEL with NAME of {', '.join(routes)}"
        )
    return name, model


def _share(text: str, word: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError("a canary needs its share of the requests", got=word, expected="NAME=MODEL:0.05")
    return share
