"""What a bundle for a phone has more than others: the app's folder, and the package for native apps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from edge.bundle.archive import open_bundle
from edge.bundle.manifest import Manifest
from edge.bundle.target import Target
from edge.phone.app import write_app
from trainer.packaging.twin import twin

__all__ = ["app_of", "checksums", "native_model"]


def native_model(target: Target, manifest: Manifest, model: bytes) -> dict[str, bytes]:
    """``mediapipe.tflite``, for a phone; nothing where there is no exact one (see :func:`twin`)."""
    made = twin(model, manifest) if _is_phone(target) else None
    return {"mediapipe.tflite": made} if made else {}


def checksums(target: Target, members: Mapping[str, bytes]) -> dict[str, bytes]:
    """``SHA256SUMS``, as ``sha256sum --check`` reads it, for who unzips a phone's bundle into an app."""
    if not _is_phone(target):
        return {}
    lines = (f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in sorted(members))
    return {"SHA256SUMS": "".join(lines).encode()}


def app_of(target: Target, bundle: Path) -> Path | None:
    """The folder ``NAME-app`` beside a phone's bundle, written; None for other targets.

    Raises:
        BadInputError: it cannot be written.
    """
    return write_app(open_bundle(bundle), bundle.parent) if _is_phone(target) else None


def _is_phone(target: Target) -> bool:
    return target.interpreter == "litert-web"
