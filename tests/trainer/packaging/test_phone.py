"""What a phone's bundle has more: the app's folder, and a twin for MediaPipe around the same network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.archive import open_bundle
from edge.bundle.manifest import Manifest
from edge.errors import BadInputError
from edge.imaging.frame import Frame
from edge.inference.decision import probabilities
from edge.inference.predictor import Predictor
from edge.inference.tflite import TFLiteEngine
from edge.phone.app import POLICY, app_files, write_app
from trainer.demo.build import SHIPPED
from trainer.packaging.tflite_metadata import METADATA_NAME
from trainer.packaging.twin import twin

MEDIAPIPE = os.environ.get("SCANWRIGHT_MEDIAPIPE")
ROOT = Path(__file__).parents[3]


def changed(manifest: Manifest, **fields: object) -> Manifest:
    return Manifest.model_validate_json(json.dumps({**manifest.model_dump(mode="json"), **fields}))


def test_the_twin_gives_the_calibrated_probabilities_of_the_same_int8_network() -> None:
    bundle = open_bundle(SHIPPED)
    made = twin(bundle.member("model.tflite"), bundle.manifest)
    assert made
    predictor, engine = Predictor(bundle), TFLiteEngine(made)
    height, width = bundle.manifest.input.height, bundle.manifest.input.width
    assert (engine.input.shape, engine.input.dtype) == ((1, height, width, 3), "uint8")
    assert [(one.shape, one.dtype) for one in engine.outputs] == [((1, 4), "float32")]
    random = np.random.default_rng(2)
    for _ in range(20):
        gray = random.integers(0, 256, (height, width), np.uint8)
        logits = predictor.predict(Frame(gray, "", "", "")).logits
        (found,) = engine.run(np.repeat(gray[None, ..., None], 3, axis=-1))
        np.testing.assert_allclose(found[0], probabilities(logits, bundle.manifest), atol=1e-6)


def test_a_colour_picture_reaches_the_network_within_a_step_of_the_step_grayscale() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (100_000, 3))
    exact = (colours @ (9798, 19235, 3735) + 16384) >> 15
    assert np.abs(np.rint(colours @ (65, 127, 25) / 217) - exact).max() <= 1


def test_several_labels_get_sigmoids_and_the_temperature(tiny_model, tiny_manifest) -> None:
    decision = {**tiny_manifest().decision.model_dump(mode="json"), "temperature": 2.5}
    manifest = tiny_manifest(task="multi-label", decision=decision)
    predictor = Predictor.from_model(tiny_model, manifest)
    engine = TFLiteEngine(twin(tiny_model, manifest) or b"")
    gray = np.random.default_rng(3).integers(0, 256, (32, 32), np.uint8)
    logits = predictor.predict(Frame(gray, "", "", "")).logits
    (found,) = engine.run(np.repeat(gray[None, ..., None], 3, axis=-1))
    np.testing.assert_allclose(found[0], probabilities(logits, manifest), atol=1e-6)


@pytest.mark.parametrize("scale", [{"mean": [127.5]}, {"std": [127.5], "mean": [127.5]}, {"std": [64.0]}])
def test_there_is_no_twin_where_none_would_be_exact(tiny_model, tiny_manifest, scale) -> None:
    spec = {**tiny_manifest().input.model_dump(mode="json"), **scale}
    assert twin(tiny_model, tiny_manifest(input=spec)) is None


def test_labels_and_metadata_are_where_mediapipe_looks(tiny_model, tiny_manifest) -> None:
    made = twin(tiny_model, tiny_manifest())
    assert made and made == twin(tiny_model, tiny_manifest())
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.read("labels.txt") == b"normal\nlesion\n"
    assert METADATA_NAME.encode() in made and b"M001" in made


def test_the_app_folder_is_whole_small_and_the_same_every_time(tmp_path: Path) -> None:
    bundle = open_bundle(SHIPPED)
    folder = write_app(bundle, tmp_path)
    assert folder.name == f"{bundle.manifest.name}-app"
    contents = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert contents == app_files(bundle)
    cached = {name: data for name, data in contents.items() if not name.startswith("model/")}
    assert sum(map(len, cached.values())) < 12_000_000
    listed = json.loads(contents["sw.js"].split(b"const FILES = ")[1].split(b";\n")[0])
    assert listed == {
        name: hashlib.sha256(data).hexdigest() for name, data in contents.items() if name != "sw.js"
    }
    assert contents["model/model.tflite"] == bundle.member("model.tflite")
    assert write_app(bundle, tmp_path) == folder  # again, in its place


def test_the_policy_allows_no_inline_script_and_no_evaluated_text() -> None:
    assert "unsafe-inline" not in POLICY and "'unsafe-eval'" not in POLICY
    page = (ROOT / "edge/phone/pages/index.html").read_text()
    assert "CONTENT_SECURITY_POLICY" in page and "style=" not in page
    assert "<script>" not in page and " onclick" not in page


def test_something_else_of_the_apps_name_is_left_alone(tmp_path: Path) -> None:
    bundle = open_bundle(SHIPPED)
    (tmp_path / f"{bundle.manifest.name}-app").mkdir()
    with pytest.raises(BadInputError, match="is no phone app"):
        write_app(bundle, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / f"{bundle.manifest.name}-app"]


def test_the_build_is_reproducible(tmp_path: Path) -> None:
    phone = ROOT / "edge/phone"
    if shutil.which("node") is None or not (phone / "node_modules").is_dir():
        pytest.skip("needs Node and its packages, as only a release does: make phone")
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=phone, check=True, timeout=120)
    built = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    static = phone / "static"
    assert built == {
        path.relative_to(static): path.read_bytes() for path in static.rglob("*") if path.is_file()
    }


_CLASSIFY = """
import json, sys
import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision
model, pictures, kind = sys.argv[1:]
options = BaseOptions(model_asset_path=model)
found = []
if kind == "segmentation":
    task = vision.ImageSegmenter.create_from_options(
        vision.ImageSegmenterOptions(base_options=options, output_confidence_masks=True))
    for pixels in np.load(pictures):
        masks = task.segment(Image(ImageFormat.SRGB, pixels)).confidence_masks
        found.append([mask.numpy_view().squeeze().tolist() for mask in masks])
else:
    task = vision.ImageClassifier.create_from_options(vision.ImageClassifierOptions(base_options=options))
    for pixels in np.load(pictures):
        categories = task.classify(Image(ImageFormat.SRGB, pixels)).classifications[0].categories
        found.append({one.category_name: one.score for one in categories})
print(json.dumps(found))
"""


def mediapipe(tmp_path: Path, model: bytes, pictures: np.ndarray, kind: str) -> list:
    """What MediaPipe's Python tasks, in an environment of their own, make of pictures ``[n, H, W, 3]``."""
    if not MEDIAPIPE:
        pytest.skip("needs MediaPipe: SCANWRIGHT_MEDIAPIPE=/path/to/python of an environment that has it")
    (tmp_path / "twin.tflite").write_bytes(model)
    np.save(tmp_path / "pictures.npy", pictures)
    command = [
        MEDIAPIPE,
        "-c",
        _CLASSIFY,
        str(tmp_path / "twin.tflite"),
        str(tmp_path / "pictures.npy"),
        kind,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))


def test_mediapipe_classifies_with_the_twin_as_the_cart_does(tmp_path: Path) -> None:
    bundle = open_bundle(SHIPPED)
    spec = bundle.manifest.input
    gray = np.random.default_rng(6).integers(0, 256, (5, spec.height, spec.width), np.uint8)
    gray = np.asarray([np.kron(one[::12, ::12], np.ones((12, 12), np.uint8)) for one in gray])
    colour = np.repeat(gray[..., None], 3, axis=-1)
    found = mediapipe(
        tmp_path, twin(bundle.member("model.tflite"), bundle.manifest) or b"", colour, "classes"
    )
    predictor = Predictor(bundle)
    for pixels, scores in zip(gray, found, strict=True):
        expected = probabilities(predictor.predict(Frame(pixels, "", "", "")).logits, bundle.manifest)
        by_label = dict(zip(bundle.manifest.labels, map(float, expected), strict=True))
        assert scores == pytest.approx(by_label, abs=1e-3)


def test_mediapipe_segments_with_the_twin_as_the_cart_does(tmp_path: Path, tiny_model, tiny_manifest) -> None:
    # The tiny model's map of each class, taken for a mask.
    outputs = [
        {**one.model_dump(mode="json"), "name": {"cam": "mask"}.get(one.name, one.name)}
        for one in tiny_manifest().outputs
    ]
    manifest = tiny_manifest(outputs=outputs, task="segmentation")
    gray = np.random.default_rng(8).integers(0, 256, (3, 32, 32), np.uint8)
    colour = np.repeat(gray[..., None], 3, axis=-1)
    made = twin(tiny_model, manifest) or b""
    engine = TFLiteEngine(made)
    (mask,) = (engine.run(colour[:1])[0][0],)
    predictor = Predictor.from_model(tiny_model, manifest)
    raw = predictor.predict(Frame(gray[0], "", "", "")).mask
    assert raw is not None
    powers = np.exp(raw - raw.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(mask, powers / powers.sum(axis=-1, keepdims=True), atol=1e-5)
    found = mediapipe(tmp_path, made, colour, "segmentation")
    assert len(found) == 3
    (first, second) = (np.array(one) for one in found[0])
    assert first.shape == (32, 32)  # MediaPipe brings masks to the picture's size
    np.testing.assert_allclose(first + second, 1, atol=1e-3)
