"""Proves on images that a model brought into form still answers as the one that was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge.errors import ScanwrightError
from trainer.brought.graph import Brought

__all__ = ["check_conversion", "check_form"]

TOLERANCE = 1e-3
"""Largest difference allowed between answers that should be equal, as a share of their spread over images."""


def check_form(given: bytes, brought: Brought, images: NDArray[np.float32], origin: str) -> float:
    """Compare a float graph before and after it was brought into form.

    Args:
        given: the file as it was given or converted, float32.
        brought: what was made of it.
        images: ``[n, H, W, C]``, as the model takes them.
        origin: for messages.

    Returns:
        The largest difference of probabilities or logits, absolute.

    Raises:
        ScanwrightError: the answers differ, the map's mean is not the logits less a constant, or every image
            gets the same answer.
    """
    before = run(given, images)[0]
    after = dict(zip(brought.outputs, run(brought.model, images), strict=True))
    logits = after["logits"]
    if not np.ptp(logits, axis=0).any():
        raise ScanwrightError(
            f"{origin}: gives every image the same answer; are --scale and --steps those it learned with?"
        )
    single = before.shape[1] == 1
    answers = _answers(logits[:, 1:] - logits[:, :1] if single else logits, brought.ending)
    if brought.ending == "logits" and before.min() >= 0 and np.allclose(before.sum(axis=1), 1, atol=1e-4):
        raise ScanwrightError(
            f"{origin}: gives probabilities by no softmax that can be taken off; export it with logits"
        )
    worst = float(np.abs(answers - before).max())
    if worst > TOLERANCE * max(1.0, float(np.ptp(before))):
        raise ScanwrightError(f"{origin}: answers differently once its end is taken off (by {worst:.2g})")
    if "cam" in after:
        rest = logits - after["cam"].mean(axis=(1, 2))
        if np.ptp(rest, axis=0).max() > TOLERANCE * max(1.0, float(np.ptp(logits))):
            raise ScanwrightError(f"{origin}: the recovered heat map does not add up to the logits")
    return worst


def check_conversion(source: Path, converted: bytes, images: NDArray[np.float32]) -> float:
    """Compare an ONNX file, by ONNX Runtime, with what it was converted to.

    Returns:
        The largest difference, absolute.

    Raises:
        ScanwrightError: it is more than :data:`TOLERANCE` of the answers' spread.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(source.read_bytes(), providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    channels_first = taken.shape[1] == images.shape[3]
    ordered = images.transpose(0, 3, 1, 2) if channels_first else images
    expected = np.concatenate([session.run(None, {taken.name: image[np.newaxis]})[0] for image in ordered])
    found = run(converted, images)[0]
    worst = float(np.abs(found - expected.reshape(found.shape)).max())
    if worst > TOLERANCE * max(1.0, float(np.ptp(expected))):
        raise ScanwrightError(
            f"{source}: the converted network answers differently from the ONNX file (by {worst:.2g})"
        )
    return worst


def run(model: bytes, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Every output of a float file, in order, for images ``[n, ...]`` one by one."""
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    image, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()
    turned = image["shape"][1] == images.shape[3] and image["shape"][3] != images.shape[3]
    found: list[list[NDArray[np.float32]]] = [[] for _ in outputs]
    for one in images:
        taken = one.transpose(2, 0, 1) if turned else one
        interpreter.set_tensor(image["index"], taken[np.newaxis])
        interpreter.invoke()
        for values, output in zip(found, outputs, strict=True):
            values.append(interpreter.get_tensor(output["index"]))
    return [np.concatenate(values) for values in found]


def _answers(logits: NDArray[np.float32], ending: str) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    if ending == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-exact)))
    if ending == "logits":
        return exact
    logarithms = exact - np.logaddexp.reduce(exact, axis=1, keepdims=True)
    return np.asarray(logarithms if ending == "log-softmax" else np.exp(logarithms))
