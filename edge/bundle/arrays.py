"""Arrays as bytes and back: the ``.npz`` members of a bundle, read without trust."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.errors import BundleError

__all__ = ["pack", "unpack"]

_LARGEST = 64 << 20


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as an uncompressed ``.npz``; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes, origin: str) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` that :func:`pack` wrote; no pickles, no compression, at most 64 MiB.

    Raises:
        BundleError: it is no such file; the message starts with ``origin``.
    """
    if len(data) > _LARGEST:
        raise BundleError(f"{origin}: larger than {_LARGEST >> 20} MiB")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise BundleError(f"{origin}: compressed arrays are not accepted")
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            return {name: np.array(loaded[name]) for name in loaded.files}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        SyntaxError,
        NotImplementedError,
        zipfile.BadZipFile,
    ) as error:
        raise BundleError(f"{origin}: not a readable .npz file of plain arrays") from error
