"""What is read of ONNX files before they are run: names, and files beside them, which may not lie elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparkml.errors import InputError
from sparkml.models.onnx_file import check_onnx, read_onnx

Place = Callable[[onnx.ModelProto], onnx.TensorProto]


def small() -> Any:
    """y = x + w, with w in the graph, in an attribute of a node, and in the branch of an `If`."""
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "logits"))
    inner = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])
    branch = helper.make_graph(
        [helper.make_node("Identity", ["v"], ["z"])],
        "branch",
        [],
        [inner],
        [numpy_helper.from_array(np.ones(2, np.float32), "v")],
    )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "i"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "main", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


PLACES: dict[str, Place] = {
    "graph": lambda model: model.graph.initializer[0],
    "attribute": lambda model: model.graph.node[0].attribute[0].t,
    "branch": lambda model: model.graph.node[1].attribute[0].g.initializer[0],
}


def written(folder: Path, place: str, location: str) -> Path:
    """The file, with one of its tensors elsewhere."""
    model = small()
    tensor = PLACES[place](model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def test_names_are_read(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(small().SerializeToString())
    facts = check_onnx(file)
    assert (facts.inputs, facts.outputs, facts.locations) == (["x"], ["logits"], set())


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_the_same_directory_are_allowed(tmp_path: Path, place: str) -> None:
    file = written(tmp_path, place, "model.onnx.data")
    with pytest.raises(InputError, match=r"missing[\s\S]*no model\.onnx\.data"):
        check_onnx(file)
    (tmp_path / "model.onnx.data").write_bytes(bytes(8))
    assert check_onnx(file).locations == {"model.onnx.data"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "in/../../secret", "", "..\\secret", "*/_ORT_MEM_ADDR_/*", "link/secret"],
)
def test_weights_elsewhere_are_refused(tmp_path: Path, place: str, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="only read weights of its own directory"):
        check_onnx(written(folder, place, location))


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-9], lambda whole: b"", lambda whole: b"PK\x03\x04" + whole]
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(damage(small().SerializeToString()))
    with pytest.raises(InputError, match="not an ONNX file"):
        read_onnx(file)
