from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle.archive import open_bundle, write_bundle
from edge.cli import main
from edge.errors import BadInputError
from edge.imaging.fingerprint import encode_hashes, pixel_hash
from edge.inference.engine import EngineError
from trainer.data.dataset import load_dataset
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.masks import MaskCounts

KEYS = {
    *("n", "unreadable", "overlap", "auroc", "accuracy", "balanced_accuracy", "f1", "ece", "abstained"),
    *("confusion", "per_class", "model_bytes", "bundle_bytes", "bundle_sha256"),
}


@pytest.fixture
def bundle(tmp_path, tiny_bundle):
    return open_bundle(tiny_bundle(tmp_path / "tiny.swb"))


@pytest.fixture
def data(tmp_path, picture) -> Path:
    """Class folders below test/ and train/: 6 normal and 4 lesions each, all easy."""
    root = tmp_path / "data"
    for start, split in ((100, "train"), (200, "test")):
        for label, count in (("normal", 6), ("lesion", 4)):
            (root / split / label).mkdir(parents=True)
            for seed in range(start, start + count):
                cv2.imwrite(str(root / split / label / f"{seed}.png"), picture(label, seed, 64))
    return root


def scored(bundle, data: Path, split: str | None = None) -> dict:
    dataset = load_dataset(data, bundle.manifest.labels)
    return evaluate(bundle, dataset, split or dataset.default_split)


def test_the_figures_are_those_of_the_design(bundle, data) -> None:
    result = scored(bundle, data)
    assert set(result) == KEYS
    assert (result["n"], result["unreadable"], result["abstained"], result["overlap"]) == (10, 0, 0, None)
    assert result["auroc"] == result["accuracy"] == result["f1"] == result["balanced_accuracy"] == 1
    # Label order is the model's (normal, lesion), not the alphabet's.
    assert result["confusion"] == [[6, 0], [0, 4]]
    assert list(result["per_class"]) == ["normal", "lesion"]
    assert set(result["per_class"]["lesion"]) == {
        *("n", "auroc", "sensitivity", "specificity", "precision", "f1")
    }
    assert result["model_bytes"] == len(bundle.member("model.tflite"))
    assert (result["bundle_bytes"], result["bundle_sha256"]) == (bundle.size, bundle.sha256)
    assert scored(bundle, data, "all")["n"] == 20


def test_what_a_gpu_runs_is_scored_or_refused_but_never_something_else(
    tmp_path, bundle, tiny_manifest, tiny_members, data
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the onnx extra")
    dataset = load_dataset(data, bundle.manifest.labels)
    with pytest.raises(EngineError, match=r"has no model\.onnx"):
        evaluate(bundle, dataset, "test", onnx=True)
    kept = Path(__file__).parents[2] / "data/tiny-qdq.onnx"
    path = write_bundle(
        tmp_path / "gpu.swb", tiny_manifest(), {**tiny_members(), "model.onnx": kept.read_bytes()}
    )
    result = evaluate(open_bundle(path), dataset, "test", onnx=True)
    assert set(result) == KEYS and result["accuracy"] == 1


def test_rows_of_the_confusion_are_the_truth(bundle, data, picture) -> None:
    cv2.imwrite(str(data / "test" / "lesion" / "wrong.png"), picture("normal", 300, 64))
    assert scored(bundle, data)["confusion"] == [[6, 0], [1, 4]]


def test_gated_images_are_scored_and_counted_as_abstained(bundle, data, picture) -> None:
    for seed in range(3):
        cv2.imwrite(str(data / "test" / "normal" / f"foreign{seed}.png"), picture("foreign", seed, 64))
    result = scored(bundle, data)
    assert (result["n"], result["abstained"]) == (13, 3)
    assert sum(map(sum, result["confusion"])) == 13


def test_thresholds_change_no_figure(tmp_path, tiny_bundle, tiny_manifest, data) -> None:
    decision = tiny_manifest().model_dump(mode="json")["decision"]
    decision["thresholds"] = {"lesion": {"value": 1.0}}
    moved = open_bundle(tiny_bundle(tmp_path / "moved.swb", decision=decision))
    assert scored(moved, data)["confusion"] == [[6, 0], [0, 4]]


def test_unreadable_images_are_counted_in_their_split_only(bundle, data) -> None:
    (data / "test" / "normal" / "text.png").write_text("no picture")
    (data / "test" / "lesion" / "empty.png").write_bytes(b"")
    (data / "train" / "normal" / "text.png").write_text("no picture")
    good = (data / "test" / "normal" / "200.png").read_bytes()
    (data / "test" / "normal" / "short.png").write_bytes(good[: len(good) // 3])
    result = scored(bundle, data)
    assert (result["n"], result["unreadable"]) == (10, 3)


def test_training_images_are_recognized_and_warned_of(
    tmp_path, tiny_bundle, tiny_manifest, data, capsys
) -> None:
    known = [
        pixel_hash(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in (data / "train").rglob("*.png")
    ]
    provenance = {"created": "2026-01-01", "training_data": encode_hashes(known).model_dump(mode="json")}
    path = tiny_bundle(tmp_path / "known.swb", provenance=provenance)
    assert scored(open_bundle(path), data)["overlap"] == 0
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(path), "--data", str(data), "--split", "train", "--json", "-"])
    assert end.value.code == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["overlap"] == 10
    assert "10 of 10 images are among those the model was trained on" in streams.err


def test_one_class_leaves_figures_undefined_not_wrong(bundle, data) -> None:
    for path in (data / "test" / "lesion").iterdir():
        path.unlink()
    (data / "test" / "lesion").rmdir()
    result = scored(bundle, data)
    assert result["auroc"] is None and result["per_class"]["lesion"]["sensitivity"] is None
    assert result["accuracy"] == 1


def test_a_folder_that_is_no_label_is_named(bundle, data) -> None:
    (data / "test" / "lesion").rename(data / "test" / "tumour")
    with pytest.raises(BadInputError, match="tumour"):
        scored(bundle, data)


def test_medmnist_files_are_scored(bundle, tmp_path, picture) -> None:
    images = np.stack([picture(kind, seed, 28) for seed in range(5) for kind in ("normal", "lesion")])
    truth = np.tile([[0], [1]], (5, 1))
    np.savez(tmp_path / "medmnist.npz", test_images=images, test_labels=truth)
    result = scored(bundle, tmp_path / "medmnist.npz")
    assert result["n"] == 10 and result["confusion"] == [[5, 0], [0, 5]]


def test_data_of_another_kind_is_refused(bundle, tmp_path, picture) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "masked" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "masked" / folder / "a.png"), picture("blank") // 90)
    with pytest.raises(BadInputError, match="is segmentation data, the bundle's model is single-label"):
        scored(bundle, tmp_path / "masked")


def test_the_command_prints_tables_and_writes_json(tmp_path, bundle, data, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(bundle.path), "--data", str(data), "--json", str(tmp_path / "figures.json")])
    assert end.value.code == 0
    assert set(json.loads((tmp_path / "figures.json").read_text())) == KEYS
    out = capsys.readouterr().out
    assert "split test: 10 images" in out and "Confusion" in out and "lesion" in out


def test_bad_arguments_get_one_line_and_exit_2(tmp_path, bundle, data, capsys) -> None:
    for arguments in (
        [str(tmp_path / "absent.swb"), "--data", str(data)],
        [str(bundle.path), "--data", str(tmp_path / "absent")],
        [str(bundle.path), "--data", str(data), "--split", "dev"],
        [str(bundle.path), "--data", str(data), "--json", str(tmp_path / "no" / "folder.json")],
    ):
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *arguments])
        assert end.value.code == 2
        assert capsys.readouterr().err.count("error: ") == 1


def test_masks_are_compared_where_the_model_sees_them(tiny_manifest) -> None:
    steps = [{"op": "grayscale"}, {"op": "crop", "left": 500}, {"op": "resize", "height": 32, "width": 32}]
    counts = MaskCounts(tiny_manifest(steps=steps))
    truth = np.zeros((64, 128), np.uint8)
    truth[:, 96:] = 1  # after the crop, the right half
    predicted = np.zeros((32, 32, 2), np.float32)
    predicted[:16, :, 1] = 1  # the upper half
    counts.add(predicted, truth)
    found = counts.summary()
    assert found["confusion"] == [[256, 256], [256, 256]]
    assert found["dice"] == pytest.approx(0.5) and found["iou"] == pytest.approx(1 / 3)
    assert found["per_class"]["lesion"] == {"dice": found["dice"], "iou": found["iou"]}
    with pytest.raises(BadInputError, match="class 2"):
        counts.add(predicted, truth * 2)
