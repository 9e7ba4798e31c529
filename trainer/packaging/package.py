"""From a RUN to a bundle for one target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from edge.bundle.archive import bundle_file_name, open_bundle, write_bundle
from edge.bundle.errors import BundleError
from edge.bundle.golden import Golden
from edge.bundle.manifest import Interval, Manifest, Runtime
from edge.bundle.target import Target
from edge.bundle.target import target as find_target
from edge.errors import BadInputError, ScanwrightError
from edge.inference.predictor import Predictor, replay
from edge.schema import parse, read
from trainer.brought.convert import to_onnx
from trainer.evaluation.layers import LayerError
from trainer.evaluation.paired import Drop, Drops
from trainer.packaging.card import model_card
from trainer.packaging.gate import check_drops
from trainer.packaging.operators import check_target, least_version, operators
from trainer.packaging.phone import app_of, checksums, native_model
from trainer.packaging.qdq import symmetric
from trainer.packaging.sbom import bill_of_materials
from trainer.packaging.vectors import golden

__all__ = ["package"]


class _Variant(BaseModel):
    n: int = 0
    auroc: Interval | None = None
    file_bytes: int


class _Data(BaseModel):
    counts: dict[str, dict[str, int]] = {}


class _Metrics(BaseModel):
    """What packaging needs of ``metrics.json``."""

    variants: dict[str, _Variant]
    drops: dict[str, Drops] = {}
    layers: tuple[LayerError, ...] = ()
    data: _Data = _Data()


def package(
    run: Path, target_name: str, out: Path, name: str | None = None, version: str | None = None
) -> Path:
    """Make ``NAME-VERSION-TARGET.swb`` in ``out``, for a phone also ``NAME-app``; same RUN, same bytes.

    The bundle is opened again and its golden vectors are replayed before this returns.

    Args:
        run: the folder that ``scanwright train`` left.
        target_name: a board of ``firmware_configs``.
        out: folder, made where missing.
        name: of the bundle, else the run's.
        version: ``MAJOR.MINOR.PATCH``, else the run's.

    Raises:
        BadInputError: no such target, no RUN, or a name or version of the wrong form.
        ScanwrightError: int8 is worse than float by more than :mod:`trainer.packaging.gate` allows, the
            target lacks an operator, or the model's outputs do not vary.
    """
    target = find_target(target_name)
    draft = read(_member(run, "manifest.json"), Manifest)
    metrics = read(_member(run, "metrics.json"), _Metrics)
    model = _member(run, "int8.tflite").read_bytes()
    _check_quantization(run, metrics, len(model), draft.provenance.source is not None)
    used = operators(model, str(run / "int8.tflite"))
    check_target(used, target, str(run / "int8.tflite"))
    changes = {
        "name": name or draft.name,
        "version": version or draft.version,
        "target": target.name,
        "runtime": Runtime(operators=used, min_version=least_version(used, draft.provenance.tools)),
        "members": {},
    }
    manifest = parse(draft.model_copy(update=changes).model_dump_json(), Manifest, "bundle")
    members = {
        "model.tflite": model,
        "labels.txt": "".join(f"{label}\n" for label in manifest.labels).encode(),
    }
    if manifest.decision.ood:
        members["ood.npz"] = _member(run, "ood.npz").read_bytes()
    members["golden.npz"] = _golden(run, model, manifest).to_npz()
    members |= _onnx(run, target, model) | native_model(target, manifest, model)
    members["MODEL_CARD.md"] = model_card(manifest, target, metrics.data.counts).encode()
    members |= checksums(target, members)
    members["sbom.cdx.json"] = bill_of_materials(manifest, members)
    path = _write(out / bundle_file_name(manifest), manifest, members)
    app_of(target, path)
    return path


def _write(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> Path:
    try:
        write_bundle(path, manifest, members)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        bundle = open_bundle(path)
        replay(Predictor(bundle), Golden.from_npz(bundle.member("golden.npz")))
        if "model.onnx" in bundle.names and (why := Predictor(bundle, 1, "onnxruntime").not_accelerated):
            raise ScanwrightError(f"{path}: model.onnx: {why}")
    except ScanwrightError:
        path.unlink()
        raise
    return path


def _onnx(run: Path, target: Target, model: bytes) -> dict[str, bytes]:
    """``model.onnx`` where the target has a use for it: the int8 model with TensorRT's quantization."""
    if "model.onnx" not in target.extra_members:
        return {}
    source = run / "int8.tflite"
    try:
        return {"model.onnx": symmetric(to_onnx(model, source))}
    except ScanwrightError as error:
        if isinstance(error, BadInputError):
            raise
        raise ScanwrightError(f"{source}: no model.onnx for {target.name}: {error}") from error


def _golden(run: Path, model: bytes, manifest: Manifest) -> Golden:
    try:
        return golden(Predictor.from_model(model, manifest), model)
    except BundleError as error:
        raise ScanwrightError(f"{run / 'int8.tflite'}: {error}") from error


def _member(run: Path, name: str) -> Path:
    if not run.is_dir():
        model = (
            " (to bring a model that was trained elsewhere, give --data and --labels)" if run.exists() else ""
        )
        raise BadInputError(
            f"{run}: is not a RUN, the folder that 'scanwright train --out RUN' leaves{model}"
        )
    if not (run / name).is_file():
        raise BadInputError(f"{run}: has no {name}; it is not a RUN, or the training did not finish")
    return run / name


def _check_quantization(run: Path, metrics: _Metrics, model_bytes: int, brought: bool) -> None:
    """Refuse an int8 model that is not the one measured, or worse than the float one.

    A model that was ``brought`` in int8 has no float one beside it; that it tells the labels apart was shown
    when it was.
    """
    for variant in ("int8",) if brought else ("float", "int8"):
        if variant not in metrics.variants:
            raise BadInputError(f"{run / 'metrics.json'}: has no results of the {variant} model")
    if metrics.variants["int8"].file_bytes != model_bytes:
        raise BadInputError(f"{run / 'int8.tflite'}: is not the file that metrics.json was measured on")
    if "float" not in metrics.variants:
        return
    drops = metrics.drops.get("int8") or _plain_drop(metrics)
    check_drops(str(run), drops, pruned=metrics.drops.get("pruned"), layers=metrics.layers)


def _plain_drop(metrics: _Metrics) -> Drops:
    """What a run that did not compare image by image says: nothing shows that its drop is chance."""
    before, after = metrics.variants["float"].auroc, metrics.variants["int8"].auroc
    overall = None
    if before is not None and after is not None:
        lost = before.value - after.value
        overall = Drop(before=before.value, after=after.value, low=lost, high=lost, certainty=1.0)
    return Drops(metric="auroc", n=metrics.variants["int8"].n, overall=overall)
