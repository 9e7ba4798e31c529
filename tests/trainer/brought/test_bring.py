"""Models from elsewhere become bundles, or are refused with the remedy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from edge.bundle.archive import open_bundle
from edge.cli import main
from edge.imaging.frame import Frame
from edge.inference.decision import decide
from edge.inference.predictor import Predictor
from trainer.brought.check import check_form, run
from trainer.brought.convert import to_tflite
from trainer.brought.graph import bring_into_form
from trainer.packaging.cli import package as command

SCALED = ("--scale", "1/128", "--mean", "1")
TORCH = os.environ.get("SCANWRIGHT_TORCH")
PYTORCH_CNN = """
import sys
import numpy as np
import torch
from torch import nn

images, labels, exported = sys.argv[1:]
torch.manual_seed(0)
x, y = torch.from_numpy(np.load(images)), torch.from_numpy(np.load(labels))
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
    nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 2),
)
optimizer = torch.optim.Adam(model.parameters(), 0.02)
for _ in range(60):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
torch.onnx.export(model.eval(), (x[:1],), exported, external_data=False)
"""


def arguments(model: Path, data: Path, *more: str, labels: str = "dark,bright") -> list[str]:
    said = [str(model), "--target", "raspberry-pi-5", "--out", str(data.parent / "out"), "--data", str(data)]
    return [*said, "--labels", labels, *more]


def refusal(capsys, given: list[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["package", *given])
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in said, said
    return end.value.code, lines[0]


def test_an_int8_file_becomes_a_bundle_without_tensorflow(foreign, data) -> None:
    result = CliRunner().invoke(command, arguments(foreign / "int8.tflite", data, *SCALED))
    assert result.exit_code == 0, result.output
    bundle = open_bundle(data.parent / "out" / "int8-0.1.0-raspberry-pi-5.swb")
    manifest = bundle.manifest
    assert manifest.labels == ("dark", "bright") and manifest.provenance.recipe is None
    assert manifest.provenance.source.format == "tflite"
    assert manifest.metrics["int8"].auroc.value > 0.95 and "float" not in manifest.metrics
    assert (manifest.decision.ood.layout, manifest.decision.thresholds.keys()) == (6, {"dark", "bright"})
    card = bundle.member("MODEL_CARD.md").decode()
    assert "**Trained elsewhere**" in card and "Heat map: **off**" in card
    report = (data.parent / "out" / "int8-run" / "report.html").read_text()
    assert "brought in int8, so nothing here tells what quantization cost" in report
    predictor = Predictor(bundle)
    bright = cv2.imread(str(data / "bright" / "3.png"), cv2.IMREAD_GRAYSCALE)
    said = decide(predictor.predict(Frame(bright, "", "", "test")), manifest, predictor.ood)
    assert said.label == "bright"


def test_labels_in_another_order_are_noticed(foreign, data, capsys) -> None:
    code, line = refusal(capsys, arguments(foreign / "int8.tflite", data, *SCALED, labels="bright,dark"))
    assert code == 1
    assert "nothing shows that it tells the labels apart: held-out AUROC 0.0" in line
    assert "--labels in the order of its outputs" in line


@pytest.mark.parametrize(
    ("model", "labels", "more", "said"),
    [
        ("float.tflite", "dark,bright", (), "--scale: say how pixels"),
        ("float.tflite", "dark,bright", ("--scale", "x"), "--scale: 'x' must be a number"),
        ("int8.tflite", "dark,bright,gray", (), "--labels: 3 are given, but"),
        ("int8.tflite", "dark,gray", (), "is none of the labels dark, gray"),
        ("absent.keras", "dark,bright", (), "there is no such file"),
        ("make.py", "dark,bright", (), "neither a RUN nor a model"),
    ],
)
def test_what_does_not_do_is_said_with_the_remedy(foreign, data, capsys, model, labels, more, said) -> None:
    (data.parent / "make.py").write_text("x")
    path = foreign / model if (foreign / model).exists() else data.parent / model
    code, line = refusal(capsys, arguments(path, data, *more, labels=labels))
    assert code == 2 and said in line


def test_without_data_nothing_shows_that_int8_is_as_good(foreign, tmp_path, capsys) -> None:
    given = [str(foreign / "int8.tflite"), "--target", "phone", "--out", str(tmp_path), "--labels", "a,b"]
    code, line = refusal(capsys, given)
    assert code == 2 and "give labelled images with --data" in line
    code, line = refusal(capsys, given[:-2])
    assert code == 2 and "to bring a model that was trained elsewhere, give --data" in line


def test_an_operator_that_no_cart_has_is_named(foreign, data, capsys) -> None:
    import flatbuffers

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs((foreign / "float.tflite").read_bytes(), 0))
    for code in tree.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.MEAN:
            code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"FlexErf"
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    model = data.parent / "flex.tflite"
    model.write_bytes(bytes(builder.Output()))
    code, line = refusal(capsys, arguments(model, data, *SCALED))
    assert code == 1 and "does not have the custom operator FlexErf" in line


def test_bad_images_and_copies_are_counted_and_told(foreign, data) -> None:
    (data / "dark" / "31.png").write_bytes((data / "dark" / "31.png").read_bytes()[:200])
    deep = cv2.imread(str(data / "dark" / "5.png"), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 257
    cv2.imwrite(str(data / "dark" / "5.png"), deep)
    for split in ("train", "val"):
        shutil.copytree(data, data.parent / "split" / split)
    result = CliRunner().invoke(command, arguments(foreign / "int8.tflite", data.parent / "split", *SCALED))
    assert result.exit_code == 0, result.output
    assert "files cannot be read and are left out; first: " in result.output
    assert "119 images stand in more than one part" in result.output
    run_folder = data.parent / "out" / "int8-run"
    found = json.loads((run_folder / "metrics.json").read_text())["data"]["duplicates_across_splits"]
    assert found["count"] == 119
    assert "<b>119 images stand in more than one part</b>" in (run_folder / "report.html").read_text()


def test_a_run_takes_no_options_of_a_model(tmp_path, capsys) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    code, line = refusal(
        capsys, [str(tmp_path), "--target", "phone", "--out", str(tmp_path), "--labels", "a,b"]
    )
    assert code == 2 and "--labels is for a model that was trained elsewhere" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["three.h5", "two.keras", "two.h5", "saved", "single.keras"])
def test_every_form_of_keras_is_the_same_network(foreign, images, name) -> None:
    reference = run((foreign / "float.tflite").read_bytes(), images)[0]
    given = to_tflite(foreign / name)
    brought = bring_into_form(given, name)
    check_form(given, brought, images, name)
    assert brought.outputs == ("logits", "embedding", "cam")
    logits = run(brought.model, images)[0]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, reference, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["three.keras", "tiny.onnx"])
def test_a_float_model_is_quantized_and_keeps_map_and_gate(foreign, data, name) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnx2tf", reason="needs the onnx extra")
    result = CliRunner().invoke(command, arguments(foreign / name, data, *SCALED))
    assert result.exit_code == 0, result.output
    stem = name.split(".")[0]
    manifest = open_bundle(data.parent / "out" / f"{stem}-0.1.0-raspberry-pi-5.swb").manifest
    assert {output.name for output in manifest.outputs} == {"logits", "embedding", "cam"}
    assert (manifest.input.dtype, manifest.input.zero_point) == ("int8", 0)
    assert set(manifest.metrics) == {"float", "int8"}
    assert abs(manifest.metrics["float"].auroc.value - manifest.metrics["int8"].auroc.value) < 0.005
    report = (data.parent / "out" / f"{stem}-run" / "report.html").read_text()
    assert "Heat map and feature check were recovered" in report


@pytest.mark.slow
def test_a_network_that_pytorch_trained_and_exported_passes_the_gate(data) -> None:
    pytest.importorskip("onnx2tf", reason="needs the onnx extra")
    if not TORCH:
        pytest.skip(
            "needs PyTorch: SCANWRIGHT_TORCH=/path/to/python of an environment with torch, onnxscript"
        )
    exported = data.parent / "torch.onnx"
    files = [
        (path, number) for number, label in enumerate(("dark", "bright")) for path in (data / label).iterdir()
    ]
    pixels = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path, _ in files])
    np.save(data.parent / "x.npy", (pixels[:, None] / 128 - 1).astype(np.float32))
    np.save(data.parent / "y.npy", np.array([number for _, number in files]))
    command_line = [TORCH, "-c", PYTORCH_CNN, data.parent / "x.npy", data.parent / "y.npy", exported]
    done = subprocess.run(
        command_line, capture_output=True, text=True, timeout=300, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = CliRunner().invoke(command, arguments(exported, data, *SCALED))
    assert result.exit_code == 0, result.output
    manifest = open_bundle(data.parent / "out" / "torch-0.1.0-raspberry-pi-5.swb").manifest
    assert (manifest.input.dtype, manifest.input.scale, manifest.input.zero_point) == ("int8", 1 / 128, 0)
    assert manifest.provenance.source and manifest.provenance.source.format == "onnx"
    figures = manifest.metrics
    assert figures["int8"].auroc.value > 0.95
    assert abs(figures["float"].auroc.value - figures["int8"].auroc.value) < 0.005
