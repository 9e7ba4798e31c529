"""Write tiny.onnx: a small network as torch.onnx.export writes it, the same file every time.

Channels first, symmetric padding, GlobalAveragePool, Flatten and Gemm with the weight transposed: the nodes
and names that PyTorch's exporter gives a convolution, batch normalization folded, ReLU, AdaptiveAvgPool2d(1)
and Linear. Its hand-set weights tell bright pictures from dark ones. Run with onnx installed:
python tests/data/make_tiny_onnx.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

AVERAGE = np.full((5, 5), 1 / 25)
ACROSS = np.outer(np.ones(5) / 5, [-1, -0.5, 0, 0.5, 1])
CONSTANTS = {
    "features.0.weight": np.stack([AVERAGE, -AVERAGE, ACROSS, ACROSS.T])[:, np.newaxis],
    "features.0.bias": np.ones(4),
    "classifier.weight": np.array([[-6, 0.2, 0, 0], [6, -0.2, 0.1, 0.1]]),
    "classifier.bias": np.array([5.4, -5.6]),
}
CONVOLUTION = {
    "kernel_shape": [5, 5],
    "strides": [4, 4],
    "pads": [2, 2, 2, 2],
    "dilations": [1, 1],
    "group": 1,
}
NODES = [
    helper.make_node(
        "Conv", ["input", "features.0.weight", "features.0.bias"], ["/c"], "/features/0/Conv", **CONVOLUTION
    ),
    helper.make_node("Relu", ["/c"], ["/r"], "/features/1/Relu"),
    helper.make_node("GlobalAveragePool", ["/r"], ["/p"], "/pool/GlobalAveragePool"),
    helper.make_node("Flatten", ["/p"], ["/f"], "/Flatten", axis=1),
    helper.make_node(
        "Gemm", ["/f", "classifier.weight", "classifier.bias"], ["output"], "/classifier/Gemm", transB=1
    ),
]
graph = helper.make_graph(
    NODES,
    "main_graph",
    [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 32, 32])],
    [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])],
    [numpy_helper.from_array(values.astype(np.float32), name) for name, values in CONSTANTS.items()],
)
model = helper.make_model(
    graph, producer_name="pytorch", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
)
onnx.checker.check_model(model)
(Path(__file__).parent / "foreign" / "tiny.onnx").write_bytes(model.SerializeToString(deterministic=True))
