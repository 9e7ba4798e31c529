from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.archive import open_bundle, write_bundle
from edge.bundle.golden import Golden
from edge.inference import onnx as module
from edge.inference.bench import bench
from edge.inference.engine import EngineError
from edge.inference.onnx import OnnxEngine, check_agreement
from edge.inference.predictor import Predictor, replay
from edge.inference.tflite import TFLiteEngine

runtime = pytest.importorskip("onnxruntime", reason="needs the onnx extra")

TINY_ONNX = Path(__file__).parents[2] / "data" / "tiny-qdq.onnx"
"""What ``scanwright package`` makes of tiny.tflite for a Jetson; test_package keeps it current."""


@pytest.fixture
def bundle(tmp_path, tiny_manifest, tiny_members):
    members = {**tiny_members(), "model.onnx": TINY_ONNX.read_bytes()}
    return open_bundle(write_bundle(tmp_path / "tiny.swb", tiny_manifest(), members))


def broken(change) -> bytes:
    """The tiny ONNX file with its weights changed."""
    onnx = pytest.importorskip("onnx", reason="needs the onnx extra")
    model = onnx.load_from_string(TINY_ONNX.read_bytes())
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.int8 and values.size > 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array(change(values), tensor.name))
    return model.SerializeToString()


def test_it_takes_and_gives_the_tensors_of_the_int8_model(bundle, picture) -> None:
    here = Predictor(bundle, interpreter="onnxruntime")
    assert here.not_accelerated is None
    assert here.engine.kernel.startswith("cpu-") and here.engine.name.startswith("onnxruntime ")
    int8 = Predictor(bundle, interpreter="ai-edge-litert")
    assert (here.engine.input, here.engine.outputs) == (int8.engine.input, int8.engine.outputs)
    for kind in ("normal", "lesion"):
        tensor = int8.prepare(picture(kind))
        for found, expected, spec in zip(
            here.engine.run(tensor), int8.engine.run(tensor), int8.engine.outputs, strict=True
        ):
            assert (found.dtype, found.shape) == (expected.dtype, spec.shape)
            assert np.abs(found.astype(int) - expected).max() <= 8
    golden = Golden.from_npz(bundle.member("golden.npz"))
    assert replay(here, golden) <= module.LOGITS_STEPS


def test_without_a_gpu_the_int8_model_runs_and_it_is_said_why(bundle) -> None:
    predictor = Predictor(bundle)
    assert "litert" in predictor.engine.name
    assert "neither TensorRT nor CUDA" in predictor.not_accelerated


def test_without_the_package_the_int8_model_runs(bundle, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    predictor = Predictor(bundle, interpreter="onnxruntime")
    assert "litert" in predictor.engine.name
    assert "not installed" in predictor.not_accelerated


def test_a_bundle_without_it_says_so_only_to_who_asks_for_it(tmp_path, tiny_bundle) -> None:
    plain = open_bundle(tiny_bundle(tmp_path / "plain.swb"))
    assert Predictor(plain).not_accelerated is None
    assert "has no model.onnx" in Predictor(plain, interpreter="onnxruntime").not_accelerated


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda values: -values, "differs from the int8 model by"),
        (lambda values: np.zeros_like(values), "differs from the int8 model by"),
    ],
)
def test_a_model_that_answers_otherwise_is_not_used(
    tmp_path, tiny_manifest, tiny_members, change, why
) -> None:
    members = {**tiny_members(), "model.onnx": broken(change)}
    bundle = open_bundle(write_bundle(tmp_path / "tiny.swb", tiny_manifest(), members))
    predictor = Predictor(bundle, interpreter="onnxruntime")
    assert "litert" in predictor.engine.name and why in predictor.not_accelerated


def test_other_outputs_are_compared_too(bundle, tiny_model) -> None:
    class Shifted(TFLiteEngine):
        def run(self, tensor):
            outputs = super().run(tensor)
            outputs[0] = np.clip(outputs[0].astype(int) + 20, -128, 127).astype(np.int8)
            return outputs

    inputs = Golden.from_npz(bundle.member("golden.npz")).inputs
    with pytest.raises(EngineError, match="steps of output 0 on average"):
        check_agreement(Shifted(tiny_model), TFLiteEngine(tiny_model), inputs, 1)
    assert check_agreement(TFLiteEngine(tiny_model), TFLiteEngine(tiny_model), inputs, 1) == 0


def test_one_logit_of_one_vector_is_enough_to_refuse(bundle, tiny_model) -> None:
    class Wrong(TFLiteEngine):
        seen = 0

        def run(self, tensor):
            outputs = super().run(tensor)
            if not self.seen:
                outputs[1][0, 0] = -outputs[1][0, 0]
            self.seen += 1
            return outputs

    inputs = Golden.from_npz(bundle.member("golden.npz")).inputs
    with pytest.raises(EngineError, match="steps of a logit"):
        check_agreement(Wrong(tiny_model), TFLiteEngine(tiny_model), inputs, 1)


def test_what_is_no_model_is_refused_in_one_line(tiny_model) -> None:
    with pytest.raises(EngineError, match="refuses the model") as refusal:
        OnnxEngine(b"no model", TFLiteEngine(tiny_model))
    assert "\n" not in str(refusal.value)


def test_the_providers_are_asked_for_in_order_with_a_cache_of_model_and_device(
    tmp_path, tiny_model, monkeypatch
) -> None:
    asked = []

    class Session:
        def __init__(self, model, options, providers):
            asked.extend(providers)
            self._real = real(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return [asked[0][0]]

        def __getattr__(self, name):
            return getattr(self._real, name)

    real = runtime.InferenceSession
    names = ["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider", "Other"]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: names)
    monkeypatch.setattr(runtime, "InferenceSession", Session)
    model = TINY_ONNX.read_bytes()
    engine = OnnxEngine(model, TFLiteEngine(tiny_model), cache=tmp_path / "engines", providers="gpu")
    assert engine.kernel.startswith("tensorrt-")
    assert [name for name, _ in asked] == [names[2], names[1], names[0]]
    (folder,) = (tmp_path / "engines").iterdir()
    assert asked[0][1]["trt_engine_cache_path"] == str(folder) and asked[1][1] == {}
    monkeypatch.setattr(module, "_DEVICE", (__file__,))
    OnnxEngine(model, TFLiteEngine(tiny_model), cache=tmp_path / "engines", providers="gpu")
    assert len(list((tmp_path / "engines").iterdir())) == 2, "another device builds its own"


def test_the_bench_compares_both(bundle, monkeypatch) -> None:
    from edge.inference import bench as timing

    monkeypatch.setattr(timing, "_SECONDS", 0.1)
    monkeypatch.setattr(timing, "_COLD_STARTS", 1)
    found = bench(bundle)["onnx"]
    assert found["kernel"].startswith("onnxruntime") and found["ratio"] > 0
    assert found["logits_steps"] <= module.LOGITS_STEPS
