"""Configuration: layers, origins, references, overrides, and errors that help."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import Field

import sparkml.stages
from sparkml.errors import ConfigError
from sparkml.frame.config import ProjectConfig, find_conf, load_config, model_keys
from sparkml.frame.fingerprint import digest
from sparkml.frame.stage import Reads, StageConfig, load_stage, stage_names

WASH = """
    from pydantic import Field
    from sparkml.frame.stage import Makes, Reads, RunReport, Stage, StageConfig, Writes

    class WashConfig(StageConfig):
        source: Reads = "/data/bronze"
        target: Writes = "washed"
        model_id: Makes = ""
        min_words: int = Field(50, ge=1, description="Drop shorter documents")
        fraction: float = 0.1

    STAGE = Stage(WashConfig, lambda job, config: RunReport(), "wash documents")
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A configuration folder of its own, and a stage `wash`: one module among the stages."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "wash.py").write_text(textwrap.dedent(WASH))
    monkeypatch.setattr(sparkml.stages, "__path__", [*sparkml.stages.__path__, str(tmp_path / "stages")])
    folder = tmp_path / "conf"
    for name in ("base", "spark", "pipelines"):
        (folder / name).mkdir(parents=True)
    (folder / "base" / "project.yaml").write_text("lake: lake\nseed: 17\n")
    (folder / "base" / "wash.yaml").write_text("min_words: 40\n")
    (folder / "local.yaml").write_text("wash:\n  fraction: 0.5\n")
    (folder / "spark" / "local.conf").write_text("# comment\nspark.master  local[2]\n")
    (folder / "pipelines" / "default.yaml").write_text("steps: {wash: {}}\n")
    (folder / "pipelines" / "two.yaml").write_text(
        "steps:\n  first: {stage: wash, min_words: 7}\n  second: {stage: wash, target: other}\n"
    )
    yield str(folder)
    sys.modules.pop("sparkml.stages.wash", None)


def load(conf: str, *overrides: str, pipeline: str = "default") -> ProjectConfig:
    return load_config("local", overrides, pipeline=pipeline, conf_dir=conf)


def test_layers_in_order_with_origins(conf: str) -> None:
    config = load(conf, "wash.source=/elsewhere/bronze")
    found = config.pipeline.step("wash").config.model_dump()
    assert found == {
        "source": "/elsewhere/bronze",
        "target": "washed",
        "model_id": "wash",
        "min_words": 40,
        "fraction": 0.5,
    }
    origins = {key: origin for key, _, origin in config.flat()}
    assert origins["wash.min_words"] == "base/wash.yaml"
    assert origins["wash.fraction"] == "local.yaml"
    assert origins["wash.source"] == "command line"
    assert origins["wash.target"] == "default"
    assert origins["spark.master"] == "spark/local.conf"


def test_a_group_of_the_pipeline_file_can_be_emptied() -> None:
    words = ("images.model=/models/lite0", "images.network={}", "images_ingest.source.path=/photos/{a,b}.zip")
    pipeline = load_config("local", words, pipeline="images").pipeline
    found = pipeline.step("images").config.model_dump()
    assert (found["model"], found["network"]) == ("/models/lite0", {})
    assert pipeline.step("images_ingest").config.model_dump()["source"]["path"] == "/photos/{a,b}.zip"


def test_each_step_of_a_stage_has_its_own_values(conf: str) -> None:
    Path(conf, "local.yaml").write_text("wash:\n  fraction: 0.5\nsecond:\n  fraction: 0.9\n")
    config = load(conf, "second.min_words=3", pipeline="two")
    values = {step.name: step.config.model_dump() for step in config.pipeline.steps}
    assert (values["first"]["min_words"], values["first"]["fraction"]) == (7, 0.5)
    assert (values["second"]["min_words"], values["second"]["fraction"]) == (3, 0.9)
    assert (values["first"]["model_id"], values["second"]["model_id"]) == ("first", "second")
    assert {key: origin for key, _, origin in config.flat()}["first.min_words"] == "pipelines/two.yaml"


def test_unknown_key_is_told_with_the_nearest_known(conf: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean `wash\.min_words`") as caught:
        load(conf, "wash.min_word=3")
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match="did you mean `wash`"):
        load(conf, "wsh.min_words=3")
    Path(conf, "local.yaml").write_text("wahs:\n  fraction: 0.5\n")
    with pytest.raises(ConfigError, match="did you mean `wash`"):
        load(conf)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("wash.min_words=many", "valid integer"),
        ("wash.min_words=0", "greater than or equal to 1"),
        ("wash.min_words", "form key=value"),
        ("wash=3", "group of keys"),
        ("seed=-1", "whole number"),
        ("lake=", "no lake is given"),
        ("lake=s3a://user:secret@bucket/lake", "must not carry credentials"),
        ("lake=s33://bucket/lake", "no file system serves"),
        ("artifacts=main.corpus", "must be a folder or a URI"),
        ("wash.model_id=../up", "pattern"),
    ],
)
def test_values_that_are_not_allowed(conf: str, override: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        load(conf, override)
    assert "secret" not in str(caught.value)


def test_settings_of_another_kind_begin_anew(tmp_path: Path) -> None:
    """BERT's widths say nothing to GPT-2, nor the masking of words to a causal language model."""
    words = ["train.task.attend_within_documents=false", "train.task.name=causal_lm"]
    task = load_config("local", words).pipeline.step("train").config.model_dump()["task"]
    assert task == {"name": "causal_lm", "attend_within_documents": False}

    def networks(train: str) -> dict[str, object]:
        file = tmp_path / "mine.yaml"
        file.write_text(f"steps: {{train: {{source: /s, manifests: /m, {train}}}}}\n")
        return dict(load_config("local", [], pipeline=str(file)).pipeline.step("train").config.model_dump())

    assert networks("network: {model_type: gpt2, n_embd: 64}")["network"] == {
        "model_type": "gpt2",
        "n_embd": 64,
    }
    merged = networks("network: {hidden_size: 64}")["network"]
    assert isinstance(merged, dict)
    assert (merged["model_type"], merged["hidden_size"], merged["type_vocab_size"]) == ("bert", 64, 1)
    assert networks("model: /some, network: {}")["network"] == {}
    with pytest.raises(ConfigError, match=r"`train` do not go together[\s\S]*network: \{\}"):
        networks("model: /some")


def test_unknown_environment_lists_those_there_are(conf: str) -> None:
    with pytest.raises(ConfigError, match="local"):
        load_config("prod", conf_dir=conf)


def test_a_reference_takes_the_value_of_another_key(conf: str) -> None:
    Path(conf, "local.yaml").write_text("wash:\n  min_words: ${seed}\n")
    assert load(conf, "seed=23").pipeline.step("wash").config.model_dump()["min_words"] == 23
    Path(conf, "local.yaml").write_text("wash:\n  min_words: ${sed}\n")
    with pytest.raises(ConfigError, match="did you mean `seed`"):
        load(conf)


def test_a_reference_to_a_stage_without_a_step_takes_its_default(conf: str) -> None:
    Path(conf, "base", "other.yaml").write_text("words: 11\n")
    Path(conf, "local.yaml").write_text("wash:\n  min_words: ${other.words}\n")
    assert load(conf).pipeline.step("wash").config.model_dump()["min_words"] == 11


def test_values_of_the_command_line_keep_their_meaning(conf: str) -> None:
    config = load(conf, "wash.source=/in/*.jsonl", "spark.sql.shuffle.partitions=9")
    assert config.pipeline.step("wash").config.model_dump()["source"] == "/in/*.jsonl"
    assert config.spark["spark.sql.shuffle.partitions"] == "9"


@pytest.mark.parametrize(
    ("lake", "expected", "artifacts"),
    [
        ("s3a://bucket/lake/", "s3://bucket/lake", "s3://bucket/lake/_artifacts"),
        ("main.corpus", "main.corpus", "/Volumes/main/corpus/sparkml"),
        ("dbfs:/lake", "/dbfs/lake", "/dbfs/lake/_artifacts"),
    ],
)
def test_each_lake_has_a_place_of_its_own_for_artifacts(
    conf: str, lake: str, expected: str, artifacts: str
) -> None:
    config = load(conf, f"lake={lake}")
    assert (config.lake, config.artifacts) == (expected, artifacts)


def test_secrets_are_not_shown(conf: str) -> None:
    shown = {
        key: value
        for key, value, _ in load(
            conf,
            "spark.hadoop.fs.s3a.secret.key=abc123",
            "spark.hadoop.fs.s3a.access.key=abc123",
            "spark.authenticate.password=abc123",
            "wash.source=jdbc:postgresql://user:abc123@host/db",
        ).flat()
    }
    assert "abc123" not in str(shown)
    assert shown["spark.hadoop.fs.s3a.secret.key"] == "***"


class RuntimeConfig(StageConfig):
    source: Reads = "bronze"
    min_words: int = 50
    workers: int = Field(2, json_schema_extra={"semantic": False})


def test_only_semantic_fields_enter_the_fingerprint() -> None:
    assert RuntimeConfig(workers=2).semantic() == RuntimeConfig(workers=9).semantic()
    assert digest(RuntimeConfig(min_words=3).semantic()) != digest(RuntimeConfig().semantic())


@pytest.mark.parametrize("env", ["local", "cluster", "databricks"])
@pytest.mark.parametrize("pipeline", ["default", "curate", "reviews", "web"])
def test_every_shipped_pipeline_loads_in_every_environment(env: str, pipeline: str) -> None:
    found = load_config(env, pipeline=pipeline)
    assert (found.env, found.pipeline.name) == (env, pipeline)


@pytest.mark.parametrize("stage", stage_names())
def test_every_field_of_a_stage_stands_in_its_yaml_and_is_described(stage: str) -> None:
    model = load_stage(stage).config
    text = find_conf().joinpath("base", f"{stage}.yaml").read_text()
    assert set(yaml.safe_load(text) or {}) == set(model.model_fields)
    for key, meaning in model_keys(model, stage):
        assert meaning, f"{key} has no description"
