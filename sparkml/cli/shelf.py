"""The models that a service may take: those of a lake, and directories."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from sparkml.errors import UsageError
from sparkml.frame import artifacts
from sparkml.frame.delta import FolderTable
from sparkml.frame.ledger import Ledger
from sparkml.frame.pipeline import PACKAGE, is_directory
from sparkml.frame.registry import ModelRecord, Registry, external_model
from sparkml.frame.tables import Tables
from sparkml.inference.batches import answering_task
from sparkml.serving.wire import Loaded


class LakeShelf:
    """Models by their names in a lake, and directories by path, URI or `package:NAME`."""

    def __init__(self, lake: str) -> None:
        self._tables = Tables(lake, _no_session)

    def find(self, model: str) -> Loaded:
        """A version that can answer; InputError where it is missing, altered, or answers nothing."""
        # A ledger keeps what it has read; here other processes write while we look.
        registry = Registry(self._tables, Ledger(self._tables))
        record = external_model(model) if is_directory(model) else registry.require(model)
        folder = artifacts.localise(record.path)
        answering_task(folder)
        return Loaded(_key(record), str(folder))

    def follows(self, model: str) -> bool:
        """Whether newer versions may appear under what was asked for."""
        return not is_directory(model) and "/" not in model


def _no_session() -> Any:
    raise UsageError(
        "the models of a catalog can be read with Spark alone",
        next_action="name a model's directory (models.path), or a lake that is a folder or URI",
    )


def _key(record: ModelRecord) -> str:
    """`classifier/v3`; of a directory that is not called so its name and a hash of its content."""
    if record.kind != "external":
        return record.name
    folder = PurePosixPath(record.model_id.removeprefix(PACKAGE).rstrip("/"))
    if re.fullmatch(r"v\d+", folder.name):
        return f"{folder.parent.name}/{folder.name}"
    return f"{folder.name}@{record.version:07x}"


def folder_table(lake: str, ref: str) -> FolderTable:
    """A table of a lake that is a folder or URI."""
    location = Tables(lake, _no_session).locate(ref)
    if not location.is_path:
        raise UsageError(
            "the tables of a catalog can be read with Spark alone",
            got=location.identifier,
            next_action="name a path or URI",
        )
    return FolderTable(ref, location.identifier)
