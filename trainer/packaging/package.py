"""From a RUN to a bundle for one target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from edge.bundle.archive import bundle_file_name, open_bundle, write_bundle
from edge.bundle.errors import BundleError
from edge.bundle.golden import Golden
from edge.bundle.manifest import Interval, Manifest, Runtime
from edge.bundle.target import target as find_target
from edge.errors import BadInputError, ScanwrightError
from edge.inference.predictor import Predictor, replay
from edge.schema import parse, read
from trainer.packaging.card import model_card
from trainer.packaging.operators import check_target, least_version, operators
from trainer.packaging.sbom import bill_of_materials
from trainer.packaging.vectors import golden

__all__ = ["AUROC_TOLERANCE", "package"]

AUROC_TOLERANCE = 0.005
"""By how much the held-out AUROC of the int8 model may be below the float model's."""


class _Variant(BaseModel):
    auroc: Interval | None = None
    file_bytes: int


class _Data(BaseModel):
    counts: dict[str, dict[str, int]] = {}


class _Metrics(BaseModel):
    """What packaging needs of ``metrics.json``."""

    variants: dict[str, _Variant]
    data: _Data = _Data()


def package(
    run: Path, target_name: str, out: Path, name: str | None = None, version: str | None = None
) -> Path:
    """Make ``NAME-VERSION-TARGET.swb`` in ``out``; the same RUN gives the same bytes.

    The bundle is opened again and its golden vectors are replayed before this returns.

    Args:
        run: the folder that ``scanwright train`` left.
        target_name: a board of ``firmware_configs``.
        out: folder, made where missing.
        name: of the bundle, else the run's.
        version: ``MAJOR.MINOR.PATCH``, else the run's.

    Raises:
        BadInputError: no such target, no RUN, or a name or version of the wrong form.
        ScanwrightError: int8 is worse than float by more than :data:`AUROC_TOLERANCE`, the target lacks an
            operator, or the model's outputs do not vary.
    """
    target = find_target(target_name)
    draft = read(_member(run, "manifest.json"), Manifest)
    metrics = read(_member(run, "metrics.json"), _Metrics)
    model = _member(run, "int8.tflite").read_bytes()
    _check_quantization(run, metrics, len(model))
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
    members["MODEL_CARD.md"] = model_card(manifest, target, metrics.data.counts).encode()
    members["sbom.cdx.json"] = bill_of_materials(manifest, members)
    return _write(out / bundle_file_name(manifest), manifest, members)


def _write(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> Path:
    try:
        write_bundle(path, manifest, members)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        bundle = open_bundle(path)
        replay(Predictor(bundle), Golden.from_npz(bundle.member("golden.npz")))
    except ScanwrightError:
        path.unlink()
        raise
    return path


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


def _check_quantization(run: Path, metrics: _Metrics, model_bytes: int) -> None:
    """Refuse an int8 model that is not the one measured, or worse than the float one."""
    for variant in ("float", "int8"):
        if variant not in metrics.variants:
            raise BadInputError(f"{run / 'metrics.json'}: has no results of the {variant} model")
    if metrics.variants["int8"].file_bytes != model_bytes:
        raise BadInputError(f"{run / 'int8.tflite'}: is not the file that metrics.json was measured on")
    before, after = metrics.variants["float"].auroc, metrics.variants["int8"].auroc
    if before is None or after is None:
        raise ScanwrightError(
            f"{run}: refused, the held-out AUROC is undefined, so nothing shows that int8 is as good as "
            "float; train again with held-out images of every class"
        )
    if before.value - after.value > AUROC_TOLERANCE:
        raise ScanwrightError(
            f"{run}: refused, quantization costs too much: held-out AUROC {before.value:.4f} as float, "
            f"{after.value:.4f} as int8; at most {AUROC_TOLERANCE} less is allowed. Prune less, or give more "
            "calibration images"
        )
