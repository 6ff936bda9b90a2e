"""Parts that are found by their name: modules of a package that hold a certain attribute."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from sparkml.errors import ConfigError
from sparkml.frame.config_layers import did_you_mean


def names_in(package: str, attribute: str) -> list[str]:
    """The modules of a package that have the attribute, sorted."""
    modules = (name for _, name, _ in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return sorted(
        name for name in modules if hasattr(importlib.import_module(f"{package}.{name}"), attribute)
    )


def find_in(package: str, attribute: str, name: str, what: str, *also: str) -> Any:
    """The attribute of a module; ConfigError lists the names that there are, and `also` others that are allowed."""
    names = names_in(package, attribute)
    if name not in names:
        raise ConfigError(
            f"there is no such {what}",
            got=name,
            expected=", ".join([*also, *names]),
            next_action=did_you_mean(name, names),
        )
    return getattr(importlib.import_module(f"{package}.{name}"), attribute)
