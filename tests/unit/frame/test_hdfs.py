"""HDFS without a server: what is missing is told by name."""

from __future__ import annotations

import sys

import pytest

from sparkml.errors import InputError, MissingToolError
from sparkml.frame import storage


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    with pytest.raises(MissingToolError) as raised:
        storage.read_bytes("hdfs://without-client:9000/x")
    assert "pip install hdfs-native" in raised.value.next_action


def test_a_name_service_that_no_configuration_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("HADOOP_HOME", raising=False)
    with pytest.raises(InputError) as raised:
        storage.read_bytes("hdfs://nowhere/x")
    assert "HADOOP_CONF_DIR" in raised.value.next_action
