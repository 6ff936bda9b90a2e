"""What decides a result is found in the code: every module that a stage reaches, and the packages that it uses."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkml.frame.fingerprint import code_of, versions_of
from sparkml.frame.stage import load_stage, stage_names


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "farm"
    folder.mkdir()
    sources = {
        "__init__": "",
        "stage": """
            from typing import TYPE_CHECKING
            import numpy as np
            from farm.near import helper
            if TYPE_CHECKING:
                from farm import types_only
            def run():
                from . import lazy
        """,
        "near": "import json\ndef helper(): pass",
        "lazy": "import farm.far",
        "far": "VALUE = 1",
        "types_only": "",
        "stranger": "",
    }
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "farm"]:
        del sys.modules[name]


def forget() -> None:
    for cache in ("code_of", "_file"):
        getattr(importlib.import_module("sparkml.frame.fingerprint"), cache).cache_clear()


def changed(package: Path, name: str) -> bool:
    forget()
    before = code_of("farm.stage").digest
    (package / f"{name}.py").write_text((package / f"{name}.py").read_text() + "\n# changed\n")
    forget()
    return code_of("farm.stage").digest != before


def test_the_closure_follows_every_import(package: Path) -> None:
    code = code_of("farm.stage")
    assert code.modules == ("farm", "farm.far", "farm.lazy", "farm.near", "farm.stage")
    assert code.packages == ("numpy",)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("near", True), ("lazy", True), ("far", True), ("types_only", False), ("stranger", False)],
)
def test_what_is_reached_counts_and_nothing_else(package: Path, name: str, counts: bool) -> None:
    assert changed(package, name) is counts


def test_nothing_is_imported_to_look_at_it() -> None:
    code_of("sparkml.training.rank")
    assert "torch" in code_of("sparkml.training.rank").packages
    assert "sparkml.training.trainer" in code_of("sparkml.training.rank").modules


@pytest.mark.parametrize(
    ("stage", "modules", "packages"),
    [
        (
            "shard",
            {"sparkml.frame.splits", "sparkml.models.inputs", "sparkml.kernels.packing"},
            {"tokenizers"},
        ),
        ("clean", {"sparkml.kernels.repetition", "sparkml.stages.clean.batches"}, {"numba", "numpy"}),
        ("finetune", {"sparkml.models.heads", "sparkml.training.trainer"}, {"torch", "safetensors"}),
        (
            "train",
            {"sparkml.training.trainer", "sparkml.compat.petastorm"},
            {"torch", "transformers", "horovod"},
        ),
        ("score", {"sparkml.inference.scorer"}, {"torch", "tokenizers"}),
    ],
)
def test_what_decides_the_results_of_our_stages(stage: str, modules: set[str], packages: set[str]) -> None:
    code = code_of(load_stage(stage).module)
    assert modules <= set(code.modules)
    assert packages <= set(code.packages)


def test_every_stage_stands_on_the_tables() -> None:
    assert "sparkml.frame.tables" in code_of("sparkml.frame.run").modules
    assert len(stage_names()) >= 9


def test_python_and_its_unicode_tables_count() -> None:
    found = versions_of(("numpy", "no_such_package"))
    assert set(found) == {"python", "unicode", "numpy"}


def test_modules_that_are_loaded_by_name_count() -> None:
    found = code_of(load_stage("finetune").module)
    assert {"sparkml.tasks.classify", "sparkml.tasks.tag", "sparkml.models.adapt.low_rank"} <= set(
        found.modules
    )
    assert {"peft", "transformers", "torch"} <= set(found.packages)
