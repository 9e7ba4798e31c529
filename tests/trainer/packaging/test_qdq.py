from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ScanwrightError
from trainer.packaging.qdq import symmetric, symmetric_scale

onnx = pytest.importorskip("onnx", reason="needs the onnx extra")

DATA = Path(__file__).parents[2] / "data"


@given(st.floats(1e-6, 1e3), st.integers(-128, 127))
def test_the_symmetric_scale_covers_the_range_and_no_more(scale, zero_point) -> None:
    found = float(symmetric_scale(np.float32(scale), np.int8(zero_point)))
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    assert -128 * found <= low * (1 - 1e-6) and 127 * found >= high * (1 - 1e-6)
    assert found <= max(-low / 128, high / 127) * (1 + 1e-6)


def test_every_zero_point_is_zero_and_the_weights_are_the_same_integers() -> None:
    graph = onnx.load_from_string((DATA / "tiny-qdq.onnx").read_bytes()).graph
    values = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 6
    assert not any(values[node.input[2]].any() for node in pairs)
    assert not any(values[node.input[0]].dtype == np.int32 for node in pairs if node.input[0] in values)
    weights = [values[node.input[0]] for node in pairs if node.input[0] in values]
    assert {weight.dtype for weight in weights} == {np.dtype(np.int8)}
    model = (DATA / "tiny.tflite").read_bytes()
    assert all(weight.tobytes() in model or weight.T.tobytes() in model for weight in weights)
    scales = [values[node.input[1]] for node in pairs if node.input[0] in values]
    assert all(scale.shape == (2,) or scale.shape == (4,) for scale in scales), "one a channel"


def test_both_ends_are_float() -> None:
    graph = onnx.load_from_string((DATA / "tiny-qdq.onnx").read_bytes()).graph
    ends = [*graph.input, *graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert [end.name for end in ends] == ["image", "output_0", "output_1", "output_2"]


def test_a_model_of_another_type_is_refused() -> None:
    model = onnx.load_from_string((DATA / "tiny-qdq.onnx").read_bytes())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    with pytest.raises(ScanwrightError, match="input is not int8"):
        symmetric(model.SerializeToString())
