from __future__ import annotations

import numpy as np
import pytest

from edge.bundle.archive import open_bundle, write_bundle
from edge.bundle.errors import BundleError
from edge.bundle.golden import Golden
from edge.imaging.frame import Frame
from edge.inference import tflite
from edge.inference.engine import EngineError
from edge.inference.predictor import Predictor, replay
from edge.inference.tflite import TFLiteEngine


@pytest.fixture
def predictor(tmp_path, tiny_bundle) -> Predictor:
    return Predictor(open_bundle(tiny_bundle(tmp_path / "tiny.swb")))


def frame(pixels) -> Frame:
    return Frame(pixels, "identity", "study", "test")


def test_a_bright_spot_raises_its_logit_and_lights_up_where_it_is(predictor) -> None:
    pixels = np.full((320, 320), 60, np.uint8)
    pixels[180:280, 40:140] = 220
    spot, nothing = predictor.predict(frame(pixels)), predictor.predict(frame(np.full_like(pixels, 60)))
    assert spot.logits[1] - spot.logits[0] > 1 > 0 > nothing.logits[1] - nothing.logits[0]
    row, column = np.unravel_index(spot.cam[..., 1].argmax(), spot.cam.shape[:2])
    assert 4 <= row <= 6 and 1 <= column <= 3
    assert (spot.logits.shape, spot.cam.shape, spot.embedding.shape) == ((2,), (8, 8, 2), (4,))
    assert spot.logits.dtype == np.float32 and spot.mask is None
    assert set(spot.quality) == {"side", "brightness", "contrast", "sharpness", "colour"}
    assert all(value >= 0 for value in spot.elapsed_ms.values())


def test_the_usual_input_is_the_pixel_minus_128(predictor) -> None:
    pixels = np.arange(1024, dtype=np.uint32).reshape(32, 32).astype(np.uint8)
    tensor = predictor.prepare(pixels)
    assert tensor.shape == (1, 32, 32, 1) and tensor.dtype == np.int8
    assert np.array_equal(tensor[0, :, :, 0], pixels.astype(int) - 128)


@pytest.mark.parametrize(
    ("changes", "channels"),
    [
        ({"dtype": "float32", "mean": [120.0], "std": [50.0]}, 1),
        ({"dtype": "int8", "scale": 0.02, "zero_point": -5, "mean": [120.0], "std": [50.0]}, 1),
        ({"dtype": "uint8", "scale": 1 / 255, "zero_point": 0, "mean": [0.0], "std": [255.0]}, 1),
        ({"dtype": "int8", "scale": 0.02, "mean": [124.0, 116.0, 104.0], "std": [58.0, 57.0, 57.0]}, 3),
    ],
)
def test_quantization_is_what_the_manifest_defines(predictor, tiny_manifest, changes, channels) -> None:
    rest = {"height": 32, "width": 32, "channels": channels}
    colour = "grayscale" if channels == 1 else "rgb"
    steps = [{"op": colour}, {"op": "resize", "height": 32, "width": 32}]
    manifest = tiny_manifest(input={**rest, **changes}, steps=steps)
    predictor._set_up(manifest, predictor.engine, None)
    predictor._shape = (1, 32, 32, channels)
    shape = (32, 32) if channels == 1 else (32, 32, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    tensor = predictor.prepare(pixels)
    spec = manifest.input
    expected = (pixels.astype(float) - np.array(spec.mean)) / np.array(spec.std)
    if spec.dtype != "float32":
        kind = np.iinfo(spec.dtype)
        expected = np.clip(np.round(expected / spec.scale) + spec.zero_point, kind.min, kind.max)
    assert tensor.dtype == spec.dtype
    np.testing.assert_allclose(tensor.reshape(shape), expected, rtol=1e-6)


def test_a_manifest_that_describes_another_model_is_refused(tmp_path, tiny_bundle, tiny_manifest) -> None:
    outputs = tiny_manifest().model_dump(mode="json")["outputs"]
    outputs[0]["scale"] *= 1.5
    with pytest.raises(BundleError, match="logits is int8"):
        Predictor(open_bundle(tiny_bundle(tmp_path / "scale.swb", outputs=outputs)))
    outputs[0]["index"] = 0
    with pytest.raises(BundleError, match=r"output 'logits' of the model is \(1, 8, 8, 2\)"):
        Predictor(open_bundle(tiny_bundle(tmp_path / "index.swb", outputs=outputs)))


def test_limits_of_gate_and_manifest_must_agree(tmp_path, tiny_bundle, tiny_manifest) -> None:
    decision = tiny_manifest().model_dump(mode="json")["decision"]
    decision["ood"]["limit"] *= 2
    with pytest.raises(BundleError, match="different limits"):
        Predictor(open_bundle(tiny_bundle(tmp_path / "tiny.swb", decision=decision)))


def test_what_is_no_model_is_refused_in_one_line(tmp_path, tiny_manifest, tiny_members) -> None:
    path = write_bundle(
        tmp_path / "tiny.swb", tiny_manifest(), {**tiny_members(), "model.tflite": b"not a model" * 9}
    )
    with pytest.raises(EngineError, match="refuses the model") as refusal:
        Predictor(open_bundle(path))
    assert "\n" not in str(refusal.value)


def test_a_bare_model_needs_no_quantization_in_the_manifest(tiny_model, tiny_manifest, picture) -> None:
    outputs = tiny_manifest().model_dump(mode="json")["outputs"]
    bare = [{key: output[key] for key in ("name", "index", "shape")} for output in outputs]
    predictor = Predictor.from_model(tiny_model, tiny_manifest(outputs=bare))
    assert predictor.manifest.outputs == tiny_manifest().outputs
    assert predictor.predict(frame(picture("lesion"))).logits[1] > 0


def test_golden_vectors_are_replayed(tmp_path, tiny_bundle) -> None:
    bundle = open_bundle(tiny_bundle(tmp_path / "tiny.swb"))
    golden = Golden.from_npz(bundle.member("golden.npz"))
    assert replay(Predictor(bundle), golden) <= golden.tolerance
    wrong = Golden(golden.inputs, -golden.outputs, golden.kernel, golden.tolerance)
    with pytest.raises(BundleError, match="differs by"):
        replay(Predictor(bundle), wrong)
    with pytest.raises(BundleError, match="shapes"):
        replay(Predictor(bundle), Golden(golden.inputs[:, :8], golden.outputs, golden.kernel, 1))


def test_a_missing_interpreter_is_named(tiny_model, monkeypatch) -> None:
    monkeypatch.setitem(tflite._MODULES, "tflite-runtime", "no_such_package.interpreter")
    with pytest.raises(EngineError, match="tflite-runtime is not installed"):
        TFLiteEngine(tiny_model, interpreter="tflite-runtime")


def test_a_wrong_tensor_is_an_engine_error(tiny_model) -> None:
    with pytest.raises(EngineError, match="failed"):
        TFLiteEngine(tiny_model).run(np.zeros((1, 32, 32, 1), np.float32))
