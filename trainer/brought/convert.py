"""From a user's file to TensorFlow Lite, and on to ONNX: the converters, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInputError, ScanwrightError

__all__ = ["is_model", "to_int8", "to_onnx", "to_tflite"]

KINDS = (".keras", ".h5", ".hdf5", ".onnx", ".tflite")
LONGEST_S = 1800
_OPSET = 17  # of ONNX; TensorRT 8.6 and newer read it


def is_model(path: Path) -> bool:
    """Whether ``path`` is a model file or a SavedModel, by its name alone."""
    return path.suffix.lower() in KINDS or (path / "saved_model.pb").is_file()


def to_tflite(source: Path) -> bytes:
    """The model in ``source`` as a TensorFlow Lite file: float32, or what a ``.tflite`` holds already.

    Raises:
        BadInputError: there is no such file, it is of no known kind, or its converter is not installed.
        ScanwrightError: the converter does not take the model; the message has its reason.
    """
    kind = source.suffix.lower()
    if not source.exists():
        raise BadInputError(f"{source}: there is no such file or folder")
    if not is_model(source):
        raise BadInputError(
            f"{source}: is neither a RUN nor a model; give a .keras, .h5, .onnx or .tflite file, or the "
            "folder of a SavedModel"
        )
    if kind == ".tflite":
        try:
            return source.read_bytes()
        except OSError as error:
            raise BadInputError(f"{source}: cannot be read ({error.strerror})") from error
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "float.tflite"
        if kind == ".onnx":
            _need("onnx2tf", source, "onnx")
            _run(["onnx2tf", "-i", source.resolve(), "-o", folder, "-b", 1, "-n"], source, folder)
            made = Path(folder) / f"{source.stem}_float32.tflite"
        else:
            _need("tensorflow", source, "trainer")
            _run(["trainer.conversion", "float", source.resolve(), made], source, folder)
        if not made.is_file():
            raise ScanwrightError(f"{source}: the converter left no float model")
        return made.read_bytes()


def to_int8(model: bytes, calibration: NDArray[np.float32], origin: Path) -> bytes:
    """A float file in int8 throughout, quantized as the trainer quantizes its own networks.

    Args:
        model: a float32 file for one image.
        calibration: float32 ``[n, H, W, C]``, as the model takes them.
        origin: what the model was made of, for messages.

    Raises:
        BadInputError: TensorFlow is not installed.
        ScanwrightError: an operator cannot be quantized, or the file is damaged.
    """
    _need("tensorflow", origin, "trainer")
    with tempfile.TemporaryDirectory() as folder:
        source, images, made = (Path(folder) / name for name in ("float.tflite", "images.npy", "int8.tflite"))
        source.write_bytes(model)
        np.save(images, calibration)
        _run(["trainer.conversion", "int8", source, images, made], origin, folder)
        return made.read_bytes()


def to_onnx(model: bytes, origin: Path) -> bytes:
    """An int8 file as ONNX, operator for operator, with its own quantization.

    Args:
        model: the TensorFlow Lite file.
        origin: what it was read from, for messages.

    Raises:
        BadInputError: TensorFlow or tf2onnx is not installed.
        ScanwrightError: an operator has no counterpart.
    """
    _need("tensorflow", origin, "trainer")
    _need("tf2onnx", origin, "onnx")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "int8.tflite", Path(folder) / "model.onnx"
        source.write_bytes(model)
        _run(["tf2onnx.convert", "--tflite", source, "--output", made, "--opset", _OPSET], origin, folder)
        return made.read_bytes()


def _need(module: str, source: Path, extra: str) -> None:
    if find_spec(module) is None:
        raise BadInputError(f"{source}: needs {module}, which comes with: pip install 'scanwright[{extra}]'")


def _run(arguments: Sequence[str | Path | int], source: Path, folder: str) -> None:
    # Without the trainer's own choice of Keras 2: which one, the file says.
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    # tf2onnx walks over sets: with one seed the same model gives the same bytes.
    environment |= {
        "PYTHONHASHSEED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ScanwrightError(f"{source}: its conversion took more than {LONGEST_S // 60} minutes") from error
    if done.returncode:
        raise ScanwrightError(f"{source}: cannot be converted: {_reason(done.stderr or done.stdout)}")


def _reason(text: str) -> str:
    """The last line that says something: of a traceback, the error itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower() and not line.startswith("WARNING")]
    return (errors or lines or ["no reason given"])[-1][:300]
