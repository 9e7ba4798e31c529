"""From two class folders to a run: what every later step relies on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("tensorflow")

from edge.bundle.manifest import Manifest
from edge.errors import BadInputError
from edge.inference.predictor import Predictor
from trainer.cli import train as command
from trainer.compression.pruning import sparsity
from trainer.pipeline import train
from trainer.preparation import from_data, prepare
from trainer.progress import Reporter
from trainer.recipe import load_recipe
from trainer.run import write_run

pytestmark = pytest.mark.slow
QUIET = Reporter(Console(quiet=True))
NASTY = "<script>alert(1)</script>&"


def write_images(folder: Path, each: int = 40) -> None:
    """Two classes of 64 x 64 pictures, gray noise with and without a bright spot."""
    random = np.random.default_rng(0)
    for label in ("normal", "spot"):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            noise = cv2.GaussianBlur(random.normal(0, 60, (64, 64)), (0, 0), 2)
            picture = np.clip(110 + noise, 0, 255).astype(np.uint8)
            if label == "spot":
                x, y = (int(at) for at in random.integers(14, 50, 2))
                cv2.circle(picture, (x, y), 7, 230, -1)
            cv2.imwrite(str(folder / label / f"{number:03}.png"), picture)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("training")
    write_images(base / "data")
    (base / "data" / "spot" / f"{NASTY.replace('/', '')}.png").write_text("no image")
    recipe = load_recipe("classifier")
    prepared = prepare(recipe, from_data(base / "data", recipe), 3, QUIET, epochs=10)
    result = train(prepared, 3, QUIET)
    (base / "run").mkdir()
    write_run(base / "run", result.files)
    return base / "run"


@pytest.fixture(scope="module")
def manifest(run: Path) -> Manifest:
    return Manifest.model_validate_json((run / "manifest.json").read_bytes())


def test_the_smallest_case_is_learned(run: Path) -> None:
    variants = json.loads((run / "metrics.json").read_text())["variants"]
    assert set(variants) == {"float", "pruned", "int8"}
    assert variants["int8"]["auroc"]["value"] > 0.9
    assert variants["int8"]["file_bytes"] == (run / "int8.tflite").stat().st_size < 300_000
    assert variants["pruned"]["gzip_bytes"] < 0.75 * variants["float"]["gzip_bytes"]


def test_int8_input_is_exactly_the_pixel_less_128(run: Path, manifest: Manifest) -> None:
    assert (manifest.input.dtype, manifest.input.scale, manifest.input.zero_point) == ("int8", 1 / 128, 0)
    predictor = Predictor.from_model((run / "int8.tflite").read_bytes(), manifest)
    pixels = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
    assert np.array_equal(predictor.prepare(pixels)[0, :, :, 0], pixels.astype(int) - 128)


def test_outputs_are_found_by_name_and_the_map_adds_up_to_the_logits(run: Path, manifest: Manifest) -> None:
    from edge.imaging.frame import Frame
    from trainer.backend import keras
    from trainer.compression.quantization import describe

    model = (run / "float.tflite").read_bytes()
    spec, outputs = describe(model)
    described = manifest.model_copy(update={"input": spec, "outputs": outputs})
    assert {output.name for output in manifest.outputs} == {"logits", "cam", "embedding"}
    network = keras.models.load_model(run / "float.keras", compile=False)
    pixels = cv2.imread(str(run.parent / "data" / "spot" / "000.png"), cv2.IMREAD_GRAYSCALE)
    found = Predictor.from_model(model, described).predict(Frame(pixels, "i", "s", "test"))
    expected = np.asarray(network(pixels[None, :, :, None].astype(np.float32) / 128 - 1, training=False))[0]
    assert np.allclose(found.logits, expected, atol=1e-3)
    assert found.cam is not None and found.embedding is not None
    bias = np.asarray(network.get_layer("logits").bias)
    assert np.allclose(found.cam.mean(axis=(0, 1)) + bias, expected, atol=1e-3)
    int8 = Predictor.from_model((run / "int8.tflite").read_bytes(), manifest)
    assert np.abs(int8.predict(Frame(pixels, "i", "s", "test")).logits - expected).max() < 1.5


def test_zeros_of_pruning_are_in_the_int8_file(run: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["sparsity"] == pytest.approx(0.5, abs=0.01)
    interpreter = Interpreter(model_content=(run / "int8.tflite").read_bytes())
    interpreter.allocate_tensors()
    kernels = [
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8
        and len(detail["shape"]) == 4
        and detail["shape"][0] >= 16
        and detail["shape"][3] >= 16
    ]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)
    assert zeros >= 0.49


def test_pruning_leaves_the_float_network_as_it_was(run: Path) -> None:
    from trainer.backend import keras

    assert sparsity(keras.models.load_model(run / "float.keras", compile=False)) < 0.01


def test_decisions_are_fitted_and_within_their_limits(manifest: Manifest) -> None:
    assert manifest.target == "unassigned" and manifest.version == "0.1.0"
    assert set(manifest.decision.thresholds) == {"spot"} and manifest.decision.negative_label == "normal"
    assert manifest.decision.ood is not None and manifest.decision.ood.limit > 0
    assert manifest.quality.brightness.min < 110 < manifest.quality.brightness.max
    assert manifest.provenance.training_data is not None
    assert manifest.provenance.training_data.count == 80 - 12
    assert manifest.provenance.calibration is not None and manifest.provenance.seed == 3


def test_report_needs_nothing_and_fetches_nothing(run: Path) -> None:
    html = (run / "report.html").read_text()
    assert "Not a medical device" in html and "makes nothing faster" in html
    assert not re.search(r"https?:|[\"'(]//|@import|<script|<link|<iframe", html, re.IGNORECASE)
    assert set(re.findall(r'src="([^,"]*)', html)) == {"data:image/png;base64"}
    assert "&lt;script&gt;" in html
    assert html.count("<svg") == 4 and html.count("#0708") == 0


def test_same_data_and_seed_give_the_same_results(run: Path, tmp_path: Path) -> None:
    recipe = load_recipe("classifier")
    compression = recipe.compression.model_copy(update={"sparsity": 0.0})
    recipe = recipe.model_copy(update={"compression": compression})
    write_images(tmp_path / "data", each=12)
    tables = []
    for _ in range(2):
        prepared = prepare(recipe, from_data(tmp_path / "data", recipe), 5, QUIET, epochs=2)
        result = train(prepared, 5, QUIET)
        assert set(result.variants) == {"float", "int8"}
        tables.append([result.variants[name].probabilities for name in result.variants])
    for first, second in zip(*tables, strict=True):
        assert np.allclose(first, second, atol=1e-4)


def test_bad_input_is_refused_before_tensorflow_is_needed(tmp_path: Path) -> None:
    (tmp_path / "data" / "only").mkdir(parents=True)
    (tmp_path / "data" / "only" / "a.png").write_bytes(b"")
    result = CliRunner().invoke(
        command, ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")], standalone_mode=False
    )
    assert isinstance(result.exception, BadInputError)
