"""Settings that make no sense together are refused before anything is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from sparkml.errors import ConfigError
from sparkml.models.adapt.settings import AdaptSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "prefix", "merge": True}, "prefix cannot be folded"),
        ({"method": "prompt", "merge": True}, "prompt cannot be folded"),
        ({"method": "adapters", "merge": True}, "adapters cannot be folded"),
        ({"method": "full", "merge": False}, "nothing is left that could lie beside"),
        ({"method": "frozen", "layer_decay": 0.9}, "trains nothing inside the layers"),
        ({"method": "prompt", "unfreeze_epochs": 1}, "trains nothing inside the layers"),
        ({"method": "adalora", "unfreeze_epochs": 1}, "compares the ranks of all layers"),
        ({"method": "adalora", "initial_rank": 4, "target_rank": 5}, "takes ranks away"),
        ({"method": "adalora", "tinit_fraction": 0.5, "tfinal_fraction": 0.5}, "no steps left"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("method", "merge"),
    [
        ("full", True),
        ("frozen", True),
        ("lora", True),
        ("adalora", True),
        ("adapters", False),
        ("prefix", False),
    ],
)
@pytest.mark.parametrize("given", [{}, {"merge": None}])
def test_merge_follows_the_method_unless_given(method: str, merge: bool, given: dict[str, None]) -> None:
    settings = AdaptSettings.model_validate({"method": method, **given})
    assert settings.merge is merge
    assert AdaptSettings.model_validate(settings.model_dump()) == settings


def test_every_field_says_what_it_means() -> None:
    assert [name for name, field in AdaptSettings.model_fields.items() if not field.description] == []


def test_unknown_fields_and_values_out_of_bounds_are_refused() -> None:
    for wrong in ({"ranks": 8}, {"rank": 0}, {"layer_decay": 0.0}, {"dropout": 1.0}, {"method": "loraa"}):
        with pytest.raises(ValidationError):
            AdaptSettings.model_validate(wrong)


def test_settings_are_read_without_torch() -> None:
    code = "import sys; import sparkml.models.adapt.settings; print('torch' in sys.modules, 'peft' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False", "False"]
