"""Models in parts: four ranks in groups, and a kill under Spark."""

import threading
from pathlib import Path

import numpy as np

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.stages.train import run as run_stage
from sparkml.training.alone import read_job
from sparkml.training.run import train
from sparkml.training.settings import TrainingJob
from tests.spark import test_train as stage
from tests.spark.test_train import CONFIG, TINY, kill_a_rank_after, sharded, train_run
from tests.unit.train.conftest import classify, encoder, manifests, training_job
from tests.unit.train.groups import train_on_ranks
from tests.unit.train.test_train_in_parts import TENSOR, check_close, checkpoints_of, start
from tests.unit.train.trainings import run

__all__ = ["classify", "encoder", "manifests", "sharded", "start", "train_run", "training_job"]


def test_four_ranks_in_groups_of_two(training_job, start) -> None:
    given = {"start": start, "spread": TENSOR, "keep_checkpoints": 5}
    alone = training_job("alone", of={"start": start})
    run(alone)
    # Of a step of 16 samples 4 are left for the last of an epoch: some ranks have none.
    job = training_job("four", of=given)
    found = train_on_ranks([job], 4)[0]
    check_close(job, alone)
    assert found["steps"] == 12
    assert sum("00000012" in name for name in checkpoints_of(job)) == 4


def test_a_model_in_parts_goes_on_after_a_kill(train_run, sharded, tmp_path):
    sharded()
    job = train_run(fingerprint="second")
    checkpoints = Path(job.artifacts) / "checkpoints"
    # Of the second checkpoint: the parts of the first one are then there.
    killer = threading.Thread(target=kill_a_rank_after, args=("step-00000040-*", checkpoints))
    killer.start()
    parts = {"parallel": "fsdp", "collective": "torch", "max_steps": 80, "reader": "arrow"}
    parts["network"] = {**TINY, "attention_probs_dropout_prob": 0.0}
    report = run_stage(job, CONFIG.model_copy(update=parts))
    killer.join()
    assert report.metrics["attempts"] == 2
    assert report.metrics["resumed_from_step"] >= 20
    folder = next(checkpoints.glob("*-second"))
    assert list((folder / "checkpoints").glob("step-00000080-0000?-of-00002"))
    given = read_job(str(folder)).model_dump() | {"run_folder": str(tmp_path / "alone"), "spread": {}}
    alone = TrainingJob.model_validate(given)
    train(alone, SingleProcess(), Reporter(None))
    whole = stage.weights(str(tmp_path / "alone" / "result"))
    found = stage.weights(job.registry.require("encoder").path)
    assert found.keys() == whole.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, whole[name], atol=1e-5, rtol=1e-4, err_msg=name)
