"""Converts with TensorFlow, in a process that has its own choice of Keras.

``python -m trainer.conversion float MODEL OUT`` writes a Keras file (Keras 2 or 3) or a SavedModel as a
float32 TensorFlow Lite file for one image; ``... int8 MODEL CALIBRATION OUT`` quantizes such a file with the
images of an ``.npy``, as the model takes them, through the converter's own calibrator and quantizer.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__: list[str] = []


def to_float(source: Path) -> bytes:
    """One batch-1 graph of the model's inference."""
    owner = tf.Module()
    if source.is_dir():
        loaded = tf.saved_model.load(str(source))
        signatures = loaded.signatures
        if not signatures:
            raise SystemExit("the SavedModel has no signature; export it with model.export(...)")
        signature = signatures.get("serving_default") or next(iter(signatures.values()))
        _, named = signature.structured_input_signature
        if len(named) != 1:
            raise SystemExit(f"the SavedModel takes {len(named)} inputs; give one that takes an image")
        ((name, spec),) = named.items()
        owner.kept = loaded

        def serve(image: Any) -> Any:
            return signature(**{name: image})

        shape = spec.shape
    else:
        model, owner.kept = _keras(source)
        if len(model.inputs) != 1:
            raise SystemExit(f"the model takes {len(model.inputs)} inputs; give one that takes an image")
        shape = model.inputs[0].shape

        def serve(image: Any) -> Any:
            return model(image, training=False)

    sides = list(shape)[1:]
    if len(sides) != 3 or None in sides:
        raise SystemExit(f"the model takes {shape}; give it an input of a fixed height, width and channels")
    image = tf.TensorSpec((1, *sides), tf.float32, name="image")
    function = tf.function(serve).get_concrete_function(image)
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], owner).convert())


def _keras(source: Path) -> tuple[Any, list[Any]]:
    """The model, by the Keras that wrote it, and its variables. Stored code (Lambda) is not run."""
    if _version(source).startswith("2"):
        import tf_keras

        model = tf_keras.models.load_model(source, compile=False)
        return model, list(model.variables)
    import keras

    model = keras.models.load_model(source, compile=False)
    return model, [variable.value for variable in model.variables]


def _version(source: Path) -> str:
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    import h5py

    with h5py.File(source) as file:
        said = file.attrs.get("keras_version", "2")
        return said.decode() if isinstance(said, bytes) else str(said)


def to_int8(model: bytes, calibration: NDArray[np.float32]) -> bytes:
    """The two steps that the converter takes for a full int8 model, input and outputs included."""
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize import calibrator

    def images() -> Iterator[list[NDArray[np.float32]]]:
        yield from ([image[np.newaxis]] for image in calibration)

    ranged = calibrator.Calibrator(calibrator.add_intermediate_tensors(model)).calibrate(images)
    return bytes(
        mlir_quantize(ranged, fully_quantize=True, input_data_type=tf.int8, output_data_type=tf.int8)
    )


if __name__ == "__main__":
    task, *paths = sys.argv[1], *map(Path, sys.argv[2:])
    made = to_float(paths[0]) if task == "float" else to_int8(paths[0].read_bytes(), np.load(paths[1]))
    paths[-1].write_bytes(made)
