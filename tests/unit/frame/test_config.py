"""Configuration: layers, origins, references, overrides, and errors that help."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from sparkml.errors import ConfigError
from sparkml.frame.config import StageConfig, TableRef, digest, load_config


class WashConfig(StageConfig):
    source: TableRef = "bronze"
    min_words: int = Field(50, ge=1, description="Drop shorter documents")
    fraction: float = 0.1
    workers: int = Field(2, json_schema_extra={"semantic": False})


STAGES = {"wash": WashConfig}


@pytest.fixture
def conf(tmp_path: Path) -> str:
    folder = tmp_path / "conf"
    (folder / "base").mkdir(parents=True)
    (folder / "spark").mkdir()
    (folder / "base" / "project.yaml").write_text("lake: lake\nseed: 17\n")
    (folder / "base" / "wash.yaml").write_text("min_words: 40\n")
    (folder / "local.yaml").write_text("wash:\n  fraction: 0.5\n")
    (folder / "spark" / "local.conf").write_text("# comment\nspark.master  local[2]\n")
    return str(folder)


def load(conf: str, *overrides: str):
    return load_config("local", overrides, stages=STAGES, conf_dir=conf)


def test_layers_in_order_with_origins(conf: str) -> None:
    config = load(conf, "wash.source=/elsewhere/bronze")
    assert config.stages["wash"] == WashConfig(source="/elsewhere/bronze", min_words=40, fraction=0.5)
    origins = {key: origin for key, _, origin in config.flat()}
    assert origins["wash.min_words"] == "base/wash.yaml"
    assert origins["wash.fraction"] == "local.yaml"
    assert origins["wash.source"] == "command line"
    assert origins["wash.workers"] == "default"
    assert origins["spark.master"] == "spark/local.conf"


def test_unknown_key_is_told_with_the_nearest_known(conf: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean `wash\.min_words`") as caught:
        load(conf, "wash.min_word=3")
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match="did you mean `wash`"):
        load(conf, "wsh.min_words=3")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("wash.min_words=many", "valid integer"),
        ("wash.min_words=0", "greater than or equal to 1"),
        ("wash.min_words", "form key=value"),
        ("wash=3", "group of keys"),
        ("seed=-1", "whole number"),
        ("lake=", "no lake is given"),
    ],
)
def test_values_that_cannot_be_meant(conf: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(conf, override)


def test_unknown_environment_lists_those_there_are(conf: str) -> None:
    with pytest.raises(ConfigError, match="local"):
        load_config("prod", stages=STAGES, conf_dir=conf)


def test_a_reference_takes_the_value_of_another_key(conf: str) -> None:
    Path(conf, "local.yaml").write_text("wash:\n  fraction: 0.25\n  min_words: ${seed}\n")
    config = load(conf, "seed=23")
    assert config.stages["wash"].model_dump()["min_words"] == 23
    Path(conf, "local.yaml").write_text("wash:\n  min_words: ${sed}\n")
    with pytest.raises(ConfigError, match="did you mean `seed`"):
        load(conf)


def test_values_of_the_command_line_keep_their_meaning(conf: str) -> None:
    config = load(conf, "wash.source=*.jsonl", "spark.sql.shuffle.partitions=9")
    assert config.stages["wash"].model_dump()["source"] == "*.jsonl"
    assert config.spark["spark.sql.shuffle.partitions"] == "9"


@pytest.mark.parametrize(
    ("lake", "expected"), [("s3a://bucket/lake", "s3a://bucket/lake"), ("main.corpus", "main.corpus")]
)
def test_a_lake_elsewhere_is_left_as_it_is(conf: str, lake: str, expected: str) -> None:
    assert load(conf, f"lake={lake}", "artifacts=/files").lake == expected


def test_catalog_lake_needs_a_folder_for_files(conf: str) -> None:
    with pytest.raises(ConfigError, match="artifacts=/Volumes"):
        load(conf, "lake=main.corpus")


def test_only_semantic_fields_enter_the_fingerprint() -> None:
    assert WashConfig(workers=2).semantic() == WashConfig(workers=9).semantic()
    assert digest(WashConfig(min_words=3).semantic()) != digest(WashConfig().semantic())


def test_every_shipped_environment_loads() -> None:
    from sparkml.frame.pipeline import config_types

    for env in ("local", "cluster", "databricks"):
        assert load_config(env, stages=config_types()).env == env


def test_every_field_of_a_stage_stands_in_its_yaml_and_is_described() -> None:
    import yaml

    from sparkml.frame.config import find_conf
    from sparkml.frame.pipeline import config_types

    for stage, model in config_types().items():
        text = find_conf().joinpath("base", f"{stage}.yaml").read_text()
        assert set(yaml.safe_load(text) or {}) == set(model.model_fields), stage
        for name, field in model.model_fields.items():
            assert field.description or field.metadata or field.annotation, (stage, name)
