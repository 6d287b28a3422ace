"""What can be said without TensorRT of whether it takes the graphs of one size.

ONNX Runtime computes what is constant, as TensorRT does first; the rest is looked at.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

from ..conftest import of_all_or_slow
from .exporting import export

SUPPORTED = {
    name
    for line in (Path(__file__).parent / "tensorrt_operators.txt").read_text().splitlines()
    if not line.startswith("#")
    for name in line.split()
}
# Their outputs' sizes depend on values, or TensorRT runs them in a way of their own.
DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Loop", "If", "Scan", "Unique", "Compress"}
SHAPES_AT_RUN_TIME = {"Shape", "Size", "ConstantOfShape", "Range", "Expand"}
# TensorRT's limit of TopK.
MOST_RANKED = 3840
# Of Slice, "to the end"; TensorRT cuts such numbers to 32 bits.
TO_THE_END = {2**63 - 1, -(2**63), -(2**63) + 1}


def folded(path: Path, to: Path) -> onnx.ModelProto:
    """Returns a model with constants in place of what follows from constants, and all shapes."""
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(to)
    InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.shape_inference.infer_shapes(onnx.load(to), strict_mode=True, data_prop=True)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def assert_restrictions(node: onnx.NodeProto, known: dict[str, np.ndarray]) -> None:
    """TensorRT's, of single operators."""
    given = attributes(node)
    if node.op_type == "TopK":
        assert given.get("sorted", 1) == 1
        assert int(known[node.input[1]].item()) <= MOST_RANKED
    if node.op_type == "Resize":
        assert given["mode"] in (b"linear", b"nearest")
        assert given["coordinate_transformation_mode"] in (b"half_pixel", b"asymmetric")
        assert not given.get("antialias", 0)
        assert node.input[-1] in known  # sizes or scales
    if node.op_type in ("Reshape", "Tile", "Pad", "Unsqueeze", "Squeeze", "Slice", "CumSum"):
        assert all(name in known for name in node.input[1:] if name), node.name


@pytest.mark.parametrize("method", of_all_or_slow("SparseInst"))
@pytest.mark.parametrize("batch_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_graph_of_one_size_has_nothing_that_tensorrt_lacks(
    method: str, batch_size: int, tmp_path: Path
) -> None:
    opts = ["MODEL.INSTANCE_FCN.NMS_PRE", 50] if method == "InstanceFCN" else None
    export(method, tmp_path / "exported", opts, size=(64, 96), batch_size=batch_size)
    path = tmp_path / "exported" / "model.onnx"
    assert {node.op_type for node in onnx.load(path).graph.node} <= SUPPORTED
    model = folded(path, tmp_path / "folded.onnx")
    names = {node.op_type for node in model.graph.node}
    assert not names & (DATA_DEPENDENT | SHAPES_AT_RUN_TIME)
    assert all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    known = constants(model)
    for node in model.graph.node:
        assert_restrictions(node, known)

    graph = model.graph
    tensors = {one.name: one.type.tensor_type for one in (*graph.input, *graph.value_info)}
    tensors |= {one.name: one.type.tensor_type for one in graph.output}
    computed = {name for node in graph.node for name in node.output if name}
    assert computed <= set(tensors)
    kinds = {tensor.elem_type for tensor in tensors.values()}
    assert kinds <= {TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32}
    assert all(side.dim_value > 0 for one in tensors.values() for side in one.shape.dim)
    # Before version 10, integers had 32 bits.
    for values in known.values():
        if values.dtype == np.int64:
            assert all(abs(v) < 2**31 or v in TO_THE_END for v in values.flatten().tolist())
