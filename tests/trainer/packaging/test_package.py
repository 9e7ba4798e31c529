from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.bundle.archive import open_bundle
from edge.bundle.golden import Golden
from edge.bundle.target import target, target_names
from edge.cli import main
from edge.errors import BadInputError, ScanwrightError
from edge.inference.predictor import Predictor, replay
from trainer.brought.convert import to_onnx
from trainer.packaging.cli import package as command
from trainer.packaging.package import package


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "level": 0.95}


@pytest.fixture(scope="session")
def converted(tiny_model) -> bytes:
    """The tiny model as tf2onnx converts it, which takes seconds."""
    return to_onnx(tiny_model, Path("tiny.tflite"))


@pytest.fixture
def run(tmp_path, tiny_model, tiny_manifest, tiny_members, monkeypatch, request) -> Path:
    """A RUN as training leaves it, with the tiny model."""
    module = importlib.import_module("trainer.packaging.package")
    monkeypatch.setattr(module, "to_onnx", lambda model, origin: request.getfixturevalue("converted"))
    folder = tmp_path / "run"
    folder.mkdir()
    figures = {
        "split": "test",
        "n": 40,
        "accuracy": interval(0.9),
        "ece": 0.03,
        "per_class": {"lesion": {"n": 20, "sensitivity": interval(0.95), "precision": 0.9}},
    }
    variants = {
        "float": {**figures, "auroc": interval(0.95), "model_bytes": 9000},
        "int8": {**figures, "auroc": interval(0.948), "model_bytes": len(tiny_model)},
    }
    draft = tiny_manifest(
        target="unassigned", version="0.1.0", metrics=variants, runtime={"operators": [], "min_version": ""}
    )
    (folder / "manifest.json").write_text(draft.model_dump_json())
    measured = {
        name: {**own, "file": f"{name}.tflite", "file_bytes": own["model_bytes"]}
        for name, own in variants.items()
    }
    data = {"counts": {"train": {"normal": 100, "lesion": 90}}}
    (folder / "metrics.json").write_text(
        json.dumps({"schema_version": 1, "variants": measured, "data": data, "split": "test"})
    )
    (folder / "int8.tflite").write_bytes(tiny_model)
    (folder / "ood.npz").write_bytes(tiny_members()["ood.npz"])
    return folder


def change_metrics(run: Path, variant: str, **changes) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["variants"][variant].update(changes)
    (run / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize("name", target_names())
def test_a_run_becomes_a_bundle_that_runs_for_every_target(run, tmp_path, name) -> None:
    path = package(run, name, tmp_path / "out")
    assert path == tmp_path / "out" / f"tiny-0.1.0-{name}.swb"
    bundle = open_bundle(path)
    manifest = bundle.manifest
    assert (manifest.target, manifest.runtime.min_version) == (name, "2.14.0")
    assert {(o.name, o.version) for o in manifest.runtime.operators} == {
        ("CONV_2D", 3),
        ("FULLY_CONNECTED", 4),
        ("MEAN", 2),
    }
    assert bundle.member("labels.txt") == b"normal\nlesion\n"
    golden = Golden.from_npz(bundle.member("golden.npz"))
    assert replay(Predictor(bundle), golden) == 0
    assert golden.kernel.startswith("ai-edge-litert")


def test_same_run_gives_the_same_bytes(run, tmp_path) -> None:
    first = package(run, "raspberry-pi-4", tmp_path / "a")
    second = package(Path(shutil.copytree(run, tmp_path / "copy")), "raspberry-pi-4", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_name_and_version_can_be_given_and_are_checked(run, tmp_path) -> None:
    path = package(run, "phone", tmp_path, name="chest", version="2.0.1")
    assert path.name == "chest-2.0.1-phone.swb"
    with pytest.raises(BadInputError, match="version"):
        package(run, "phone", tmp_path, version="two")
    with pytest.raises(BadInputError, match="name: use lower case"):
        package(run, "phone", tmp_path, name="../Chest")


def test_int8_that_is_worse_than_float_is_refused_with_both_figures(run, tmp_path) -> None:
    change_metrics(run, "int8", auroc=interval(0.9449))
    with pytest.raises(ScanwrightError, match=r"0\.9500 as float, 0\.9449 as int8") as refusal:
        package(run, "raspberry-pi-5", tmp_path / "out")
    assert refusal.value.exit_code == 1
    assert not (tmp_path / "out").exists()
    change_metrics(run, "int8", auroc=interval(0.9451))
    package(run, "raspberry-pi-5", tmp_path / "out")


def test_what_the_training_found_decides_and_is_named(run, tmp_path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    lost = {"before": 0.95, "after": 0.94, "low": -0.01, "high": 0.03, "certainty": 0.8}
    metrics["drops"] = {"int8": {"metric": "auroc", "n": 40, "overall": lost}}
    metrics["layers"] = [{"layer": "stem", "operator": "CONV_2D", "added": 0.31, "error": 0.31}]
    (run / "metrics.json").write_text(json.dumps(metrics))
    package(run, "raspberry-pi-5", tmp_path / "chance")
    lost["certainty"] = 0.99
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ScanwrightError, match=r"most in: stem \(CONV_2D, error 31% of its signal\)"):
        package(run, "raspberry-pi-5", tmp_path / "out")


def test_nothing_measured_is_nothing_shown(run, tmp_path) -> None:
    change_metrics(run, "int8", auroc=None)
    with pytest.raises(ScanwrightError, match="undefined"):
        package(run, "raspberry-pi-5", tmp_path)


def test_a_model_that_was_not_the_one_measured_is_refused(run, tmp_path) -> None:
    change_metrics(run, "int8", file_bytes=1)
    with pytest.raises(BadInputError, match=r"int8\.tflite: is not the file"):
        package(run, "raspberry-pi-5", tmp_path)


def test_what_is_no_run_is_named(run, tmp_path, capsys) -> None:
    with pytest.raises(BadInputError, match="is not a RUN"):
        package(run / "int8.tflite", "phone", tmp_path)
    with pytest.raises(BadInputError, match=r"unknown target 'toaster'; known targets: .*raspberry-pi-5"):
        package(run, "toaster", tmp_path)
    (run / "ood.npz").unlink()
    with pytest.raises(BadInputError, match=r"has no ood\.npz"):
        package(run, "phone", tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["package", str(tmp_path / "absent"), "--target", "phone", "--out", str(tmp_path)])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_operator_that_the_target_lacks_is_named(run, tmp_path, monkeypatch) -> None:
    old = target("raspberry-pi-4").model_copy(update={"max_operator_versions": {"CONV_2D": 2}})
    monkeypatch.setattr("trainer.packaging.package.find_target", lambda name: old)
    with pytest.raises(ScanwrightError, match="CONV_2D up to version 2, the model needs version 3"):
        package(run, "raspberry-pi-4", tmp_path)


def test_the_card_says_what_a_person_should_know(run, tmp_path) -> None:
    card = open_bundle(package(run, "jetson-orin-nano", tmp_path)).member("MODEL_CARD.md").decode()
    for text in (
        "Not a medical device",
        "Finds bright spots in test pictures.",
        "| train | 100 | 90 |",
        "| float | test | 40 | 0.950 (0.930 to 0.970) |",
        "| int8 | test | 40 | 0.948 (0.928 to 0.968) |",
        "| lesion | 0.5 | 0.2 to 0.8 |",
        "Mahalanobis distance above",
        "NVIDIA Jetson Orin Nano",
        "- none: no run on a board yet",
        "24 steps of 255",
        "modality (DICOM 0008,0060) | US |",
    ):
        assert text in card, text


def test_a_model_without_a_gate_says_so(run, tmp_path, tiny_manifest) -> None:
    draft = json.loads((run / "manifest.json").read_text())
    draft["decision"]["ood"] = None
    (run / "manifest.json").write_text(json.dumps(draft))
    bundle = open_bundle(package(run, "phone", tmp_path))
    assert "ood.npz" not in bundle.names
    assert "**off**" in bundle.member("MODEL_CARD.md").decode()


def test_a_model_without_a_map_says_so(run, tmp_path) -> None:
    with_map = open_bundle(package(run, "phone", tmp_path / "with")).member("MODEL_CARD.md").decode()
    draft = json.loads((run / "manifest.json").read_text())
    draft["outputs"] = [output for output in draft["outputs"] if output["name"] != "cam"]
    (run / "manifest.json").write_text(json.dumps(draft))
    card = open_bundle(package(run, "phone", tmp_path / "without")).member("MODEL_CARD.md").decode()
    assert "Heat map: **off**" in card
    assert "Heat map" not in with_map


def test_the_bill_of_materials_lists_model_members_and_tools(run, tmp_path) -> None:
    draft = json.loads((run / "manifest.json").read_text())
    draft["provenance"]["tools"] = {"tensorflow": "2.21.0"}
    (run / "manifest.json").write_text(json.dumps(draft))
    bundle = open_bundle(package(run, "phone", tmp_path))
    bill = json.loads(bundle.member("sbom.cdx.json"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    model = bill["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"][0]["content"] == bundle.manifest.members["model.tflite"]
    listed = {c["name"]: c["hashes"][0]["content"] for c in model["components"]}
    assert listed == {k: v for k, v in bundle.manifest.members.items() if k != "sbom.cdx.json"}
    assert [(c["name"], c["version"]) for c in bill["components"]] == [("tensorflow", "2.21.0")]


def test_the_bill_of_materials_fits_the_published_schema(run, tmp_path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    check = JsonStrictValidator(SchemaVersion.V1_5)
    draft = json.loads((run / "manifest.json").read_text())
    draft["provenance"]["training_data"] = {"count": 1, "hashes": "AAAAAAAA"}
    draft["provenance"]["source"] = {"format": "onnx", "sha256": "0" * 64, "notes": ["Softmax taken off."]}
    for number in range(2):
        bundle = open_bundle(package(run, "raspberry-pi-5", tmp_path / str(number)))
        text = bundle.member("sbom.cdx.json").decode()
        assert check.validate_str(text) is None
        assert ("pedigree" in text) == bool(number)
        (run / "manifest.json").write_text(json.dumps(draft))
    assert check.validate_str(text.replace('"machine-learning-model"', '"magic"', 1)) is not None


def test_the_command_says_what_it_wrote_and_how_to_run_it(run, tmp_path) -> None:
    result = CliRunner().invoke(command, [str(run), "--target", "raspberry-pi-5", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    path = tmp_path / "tiny-0.1.0-raspberry-pi-5.swb"
    assert f"{path}  {path.stat().st_size:,} bytes" in result.output
    assert "scanwright agent run --config" in result.output


def test_a_jetsons_bundle_has_the_same_weights_for_its_gpu(run, tmp_path) -> None:
    bundle = open_bundle(package(run, "jetson-orin-nano", tmp_path / "a"))
    kept = Path(__file__).parents[2] / "data" / "tiny-qdq.onnx"
    assert bundle.member("model.onnx") == kept.read_bytes(), "write it anew if the packaging changed"
    predictor = Predictor(bundle, interpreter="onnxruntime")
    assert predictor.not_accelerated is None
    assert [spec.name for spec in predictor.manifest.outputs] == ["logits", "cam", "embedding"]


def test_a_gpu_model_that_answers_otherwise_is_not_packaged(run, tmp_path, monkeypatch) -> None:
    module = importlib.import_module("trainer.packaging.package")
    kept = (Path(__file__).parents[2] / "data" / "tiny-qdq.onnx").read_bytes()
    monkeypatch.setattr(module, "to_onnx", lambda model, origin: b"")
    monkeypatch.setattr(module, "symmetric", lambda model: kept.replace(b"\x7f" * 25, b"\x81" * 25))
    with pytest.raises(ScanwrightError, match=r"model\.onnx: onnxruntime .* differs from the int8 model"):
        package(run, "jetson-orin-nano", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_converter_is_named_with_its_extra(tiny_model, monkeypatch) -> None:
    import trainer.brought.convert as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "tf2onnx" else True)
    with pytest.raises(BadInputError, match=r"run: needs tf2onnx, .*scanwright\[onnx\]"):
        to_onnx(tiny_model, Path("run"))
