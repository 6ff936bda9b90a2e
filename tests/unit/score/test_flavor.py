"""Models in MLflow's form: saved, loaded and called without Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.types import DataType

import sparkml
from sparkml.errors import InputError
from sparkml.frame.artifacts import new_artifact
from sparkml.inference.flavor import copy_package
from sparkml.inference.scorer import load_scorer
from sparkml.models.adapt.folder import BASE_FILE
from sparkml.models.folder import WEIGHTS_FILE
from sparkml.tasks.pairs import Pairs
from sparkml.tasks.tag import Tag
from tests.media import png
from tests.tiny import DECIDED, copy_of, tiny_classifier, tiny_encoder, tiny_image_classifier

TEXTS = ["win a prize", None, "lunch tomorrow", ""]
COLUMNS = ["prediction", "score", "scores", "spans", "embedding", "output", "error"]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow puts the code of every model that it loads before all else, and leaves it there."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flavor")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return tiny_classifier(folder / "mood", ("bad", "good"), config=DECIDED)


@pytest.fixture(scope="module")
def saved(folder: Path, model: Path) -> Path:
    sparkml.save_mlflow_model(str(model), str(folder / "saved"))
    return folder / "saved"


def test_a_saved_model_answers_as_the_scorer(saved: Path, model: Path) -> None:
    frame = pd.DataFrame({"text": TEXTS}, index=[7, 3, 5, 1])
    found = mlflow.pyfunc.load_model(str(saved)).predict(frame)
    expected = load_scorer(model).answer(TEXTS)
    assert list(found.columns) == COLUMNS
    assert found.index.tolist() == [7, 3, 5, 1]
    assert found["prediction"].tolist() == [one.prediction or "" for one in expected]
    assert found["error"].tolist() == [one.error or "" for one in expected]
    scores = [np.nan if one.score is None else one.score for one in expected]
    assert found["score"].tolist() == pytest.approx(scores, abs=1e-5, nan_ok=True)
    assert found["scores"].tolist()[0] == pytest.approx(dict(expected[0].scores or ()), abs=1e-5)
    assert found.loc[3].to_dict() == {
        "prediction": "", "score": pytest.approx(np.nan, nan_ok=True), "scores": {}, "spans": [],
        "embedding": None, "output": "", "error": "text_missing null",
    }  # fmt: skip


def test_a_missing_text_may_be_the_nan_of_pandas(saved: Path) -> None:
    found = mlflow.pyfunc.load_model(str(saved)).predict(pd.DataFrame({"text": ["a", np.nan]}))
    assert found["error"].tolist() == ["", "text_missing null"]


def test_nothing_of_it_is_pickled_and_its_example_can_be_answered(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffixes = {file.suffix for file in saved.rglob("*") if file.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".joblib", ".cloudpickle", ".pt", ".bin", ".pyc"}
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    loaded = mlflow.pyfunc.load_model(str(saved))
    flavors = loaded.metadata.flavors
    assert flavors["python_function"]["loader_module"] == "sparkml.inference.pyfunc"
    assert flavors["sparkml"]["task"] == "classify"
    assert loaded.predict(loaded.input_example)["error"].tolist() == [""]


def test_its_requirements_are_what_answering_imports(saved: Path) -> None:
    lines = (saved / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = {line.partition("==")[0].lower() for line in lines}
    assert {
        "torch",
        "transformers",
        "tokenizers",
        "safetensors",
        "pyarrow",
        "pandas",
        "mlflow-skinny",
    } <= names
    assert not names & {"pyspark", "delta-spark", "horovod", "petastorm", "mlflow", "sparkml"}
    assert all("==" in line and "+" not in line for line in lines)


@pytest.mark.parametrize(
    ("task", "inputs", "values"),
    [
        (
            Pairs,
            {"text": DataType.string, "text_b": DataType.string},
            {"text": ["a", "b"], "text_b": ["a", None]},
        ),
        (Tag, {"tokens": None}, {"tokens": [["win", "money"], None]}),
    ],
)
def test_the_signature_follows_from_the_task(tmp_path: Path, task, inputs, values) -> None:
    labels = ("O", "B-X", "I-X") if task is Tag else ("different", "same")
    model = tiny_classifier(tmp_path / "model", labels, task=task, config=DECIDED)
    sparkml.save_mlflow_model(str(model), str(tmp_path / "saved"))
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == list(inputs)
    assert all(
        kind is None or signature.inputs.input_dict()[name].type == kind for name, kind in inputs.items()
    )
    assert signature.outputs.input_names() == COLUMNS
    found = loaded.predict(pd.DataFrame(values))
    assert [bool(error) for error in found["error"]] == [False, True]
    assert loaded.predict(loaded.input_example)["error"].tolist() == [""]


def test_a_model_of_images_takes_bytes(tmp_path: Path) -> None:
    sparkml.save_mlflow_model(str(tiny_image_classifier(tmp_path / "model")), str(tmp_path / "saved"))
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    found = loaded.predict(pd.DataFrame({"media": [png((220, 40, 40), 1), b"no image", None]}))
    assert [bool(error) for error in found["error"]] == [False, True, True]
    assert loaded.predict(loaded.input_example)["error"].tolist() == [""]


def test_a_logged_model_is_loaded_by_its_uri(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    try:
        with mlflow.start_run():
            info = sparkml.log_mlflow_model(str(model), "mood", threads=2)
        loaded = mlflow.pyfunc.load_model(info.model_uri)
    finally:
        mlflow.set_tracking_uri(before)
    assert loaded.predict(pd.DataFrame({"text": ["win"]}))["prediction"].tolist()[0] in ("bad", "good")
    assert loaded.metadata.flavors["python_function"]["config"] == {
        "engine": "auto",
        "threads": 2,
        "device": "auto",
    }


ELSEWHERE = """
import json, sys
sys.path.append({packages!r})
import mlflow, pandas
found = mlflow.pyfunc.load_model({saved!r}).predict(pandas.DataFrame({{"text": ["win a prize"]}}))
import sparkml
print(json.dumps([found["prediction"][0], found["score"][0], sparkml.__file__]))
"""


def test_it_loads_where_the_project_is_not_installed(saved: Path, model: Path, tmp_path: Path) -> None:
    # -S: no .pth file, so no editable installation of the project.
    script = ELSEWHERE.format(packages=sysconfig.get_path("purelib"), saved=str(saved))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    prediction, score, file = json.loads(done.stdout.splitlines()[-1])
    (expected,) = load_scorer(model).answer(["win a prize"])
    assert (prediction, score) == (expected.prediction, pytest.approx(expected.score, abs=1e-5))
    assert Path(file).is_relative_to(saved)


def test_the_code_is_taken_out_of_a_zip_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as file:
        for name in ("sparkml/__init__.py", "sparkml/a/b.py", "sparkml/a/__pycache__/b.pyc", "sparkml/c.pyc"):
            file.writestr(name, name)
    copy_package(zipfile.Path(tmp_path / "code.zip", "sparkml/"), tmp_path / "sparkml")
    found = {
        file.relative_to(tmp_path).as_posix(): file.read_text()
        for file in tmp_path.rglob("*.py*")
        if file.is_file()
    }
    assert found == {name: name for name in ("sparkml/__init__.py", "sparkml/a/b.py")}


def test_what_cannot_answer_alone_is_not_saved(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match="something to start from"):
        sparkml.save_mlflow_model(str(tiny_encoder(tmp_path / "start")), str(tmp_path / "saved"))
    adapted = copy_of(model, tmp_path / "adapted")
    (adapted / BASE_FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="adaptation of another model"):
        sparkml.save_mlflow_model(str(adapted), str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_a_damaged_model_is_not_loaded(tmp_path: Path) -> None:
    with new_artifact(str(tmp_path / "model")) as staging:
        tiny_classifier(staging)
    sparkml.save_mlflow_model(str(tmp_path / "model"), str(tmp_path / "saved"))
    weights = next((tmp_path / "saved").rglob(WEIGHTS_FILE))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="not as it was written"):
        mlflow.pyfunc.load_model(str(tmp_path / "saved"))
