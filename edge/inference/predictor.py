"""Predictor: from a Frame to a Prediction, on the path that every device, test and evaluation takes."""

from __future__ import annotations

import math
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np

from edge.bundle.archive import Bundle
from edge.bundle.errors import BundleError, GoldenError
from edge.bundle.golden import Golden
from edge.bundle.manifest import InputSpec, Manifest, OutputSpec
from edge.imaging import quality
from edge.imaging.frame import Frame, Pixels
from edge.imaging.steps import apply_steps
from edge.inference.engine import Engine, EngineError, Interpreter, Tensor, TensorSpec
from edge.inference.onnx import LOGITS_STEPS, OnnxEngine, check_agreement
from edge.inference.ood import OodModel, layout
from edge.inference.prediction import Floats, Prediction
from edge.inference.tflite import TFLiteEngine

__all__ = ["Predictor", "replay"]


class Predictor:
    """Runs one bundle's model. Not for use from two threads at once.

    ``manifest``, ``engine``, ``ood`` (None where the bundle has no out-of-distribution gate) are public, and
    ``not_accelerated``: why the bundle's ``model.onnx`` is not used, None where it is or there is none.

    Args:
        bundle: the opened bundle.
        threads: CPU threads for one inference.
        interpreter: which package runs the model. ``auto`` runs a ``model.onnx`` where this device has a GPU
            for it, ``onnxruntime`` on the CPU too; both go back to the int8 model where that is not possible
            or its answers differ.
        cache: folder for what a GPU's compiler makes of a ``model.onnx``.

    Raises:
        BundleError: the model is not what the manifest describes.
        EngineError: no interpreter is installed, or it refuses the model.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        interpreter: Interpreter = "auto",
        cache: Path | None = None,
    ) -> None:
        int8 = "auto" if interpreter == "onnxruntime" else interpreter
        engine: Engine = TFLiteEngine(bundle.member("model.tflite"), threads, int8)
        origin = str(bundle.path)
        difference = _difference(bundle.manifest, _described(bundle.manifest, engine, origin))
        if difference:
            raise BundleError(f"{origin}: model.tflite is not what the manifest describes: {difference}")
        ood = None
        if bundle.manifest.decision.ood:
            ood = OodModel.from_npz(bundle.member("ood.npz"), f"{origin}: ood.npz")
            said = bundle.manifest.decision.ood
            if not math.isclose(ood.limit, said.limit, rel_tol=1e-6) or ood.layout_side != said.layout:
                raise BundleError(f"{origin}: ood.npz and the manifest have different limits")
        self.not_accelerated = None
        if interpreter == "onnxruntime" or (interpreter == "auto" and "model.onnx" in bundle.names):
            try:
                engine = _accelerated(bundle, engine, threads, interpreter, cache)
            except EngineError as error:
                self.not_accelerated = str(error)
        self._set_up(bundle.manifest, engine, ood)

    @classmethod
    def from_model(
        cls,
        model: bytes,
        manifest: Manifest,
        ood: bytes | None = None,
        threads: int = 1,
        interpreter: Interpreter = "auto",
    ) -> Predictor:
        """A Predictor for a model that is in no bundle yet, as the trainer's three variants are.

        Dtypes, scales and zero points are taken from the model; size, steps, mean, std and the outputs' names
        and indices from the manifest. The result's ``manifest`` has both.

        Args:
            model: the flatbuffer's bytes.
            manifest: what the bundle will say, with any target.
            ood: bytes of ``ood.npz``, where there is one.
            threads: CPU threads for one inference.
            interpreter: which package runs the model.

        Raises:
            BundleError: the model's shapes are not the manifest's.
            EngineError: no interpreter is installed, or it refuses the model.
        """
        engine = TFLiteEngine(model, threads, interpreter)
        predictor = cls.__new__(cls)
        predictor.not_accelerated = None
        predictor._set_up(
            _described(manifest, engine, "model"), engine, OodModel.from_npz(ood) if ood else None
        )
        return predictor

    def _set_up(self, manifest: Manifest, engine: Engine, ood: OodModel | None) -> None:
        self.manifest = manifest
        self.engine = engine
        self.ood = ood
        self._shape = engine.input.shape
        self._table = _quantization_table(manifest.input)
        self._is_pixel_minus_128 = self._table.dtype == np.int8 and bool(
            np.array_equal(self._table, np.broadcast_to(np.arange(-128, 128), self._table.shape))
        )

    def prepare(self, pixels: Pixels) -> Tensor:
        """The input tensor of an image: the manifest's steps, then quantization.

        Args:
            pixels: uint8 ``[H, W]`` or ``[H, W, 3]``.

        Returns:
            ``[1, height, width, channels]`` of the input's dtype.
        """
        return self.quantize(apply_steps(pixels, self.manifest.steps))

    def quantize(self, model_pixels: Pixels) -> Tensor:
        """The input tensor of an image that the steps have been applied to (see :class:`InputSpec`)."""
        if self._is_pixel_minus_128:
            # In two's complement, taking 128 from a byte is flipping its highest bit.
            flipped: Tensor = model_pixels ^ np.uint8(0x80)
            return flipped.view(np.int8).reshape(self._shape)
        if len(self._table) == 1:
            return np.asarray(self._table[0][model_pixels].reshape(self._shape))
        channels = [table[model_pixels[..., c]] for c, table in enumerate(self._table)]
        return np.stack(channels, axis=-1).reshape(self._shape)

    def predict(self, frame: Frame) -> Prediction:
        """What the model says of one frame, with its image measures and the milliseconds of each stage.

        Raises:
            EngineError: the interpreter failed.
        """
        start = perf_counter()
        model_pixels = apply_steps(frame.pixels, self.manifest.steps)
        tensor = self.quantize(model_pixels)
        prepared = perf_counter()
        measures = quality.measure(frame.pixels, model_pixels)
        measured = perf_counter()
        raw = self.engine.run(tensor)
        inferred = perf_counter()
        outputs = {spec.name: _dequantize(raw[spec.index], spec) for spec in self.manifest.outputs}
        gate = self.manifest.decision.ood
        return Prediction(
            logits=outputs["logits"],
            cam=outputs.get("cam"),
            embedding=outputs.get("embedding"),
            mask=outputs.get("mask"),
            layout=layout(model_pixels, gate.layout) if gate and gate.layout else None,
            quality=measures,
            elapsed_ms={
                "prepare": (prepared - start) * 1e3,
                "quality": (measured - prepared) * 1e3,
                "infer": (inferred - measured) * 1e3,
            },
        )


def replay(predictor: Predictor, golden: Golden) -> int:
    """Run the golden vectors and return the largest difference from the expected logits, in steps.

    Raises:
        BundleError: the vectors do not fit the model, or differ by more than their tolerance.
        EngineError: the interpreter failed.
    """
    engine = predictor.engine
    logits = next(spec for spec in predictor.manifest.outputs if spec.name == "logits")
    inputs, expected = golden.inputs, golden.outputs
    if (inputs.shape[1:], inputs.dtype.name) != (engine.input.shape[1:], engine.input.dtype) or (
        (expected.shape[1:], expected.dtype.name) != (logits.shape[1:], logits.dtype)
    ):
        raise BundleError("golden.npz: the vectors do not have the model's shapes and dtypes")
    outputs = np.concatenate([engine.run(vector[np.newaxis])[logits.index] for vector in inputs])
    difference = golden.difference(outputs)
    # Another arithmetic has a tolerance of its own, which was checked beside the int8 model.
    tolerance = max(golden.tolerance, LOGITS_STEPS) if isinstance(engine, OnnxEngine) else golden.tolerance
    if difference > tolerance:
        raise GoldenError(
            f"golden.npz: {engine.name} ({engine.kernel}) differs by {difference} steps from the expected "
            f"outputs ({golden.kernel}); {tolerance} are allowed"
        )
    return difference


def _accelerated(
    bundle: Bundle, int8: Engine, threads: int, interpreter: Interpreter, cache: Path | None
) -> Engine:
    if "model.onnx" not in bundle.names:
        raise EngineError("the bundle has no model.onnx; package it for a board that runs it")
    providers: Literal["any", "gpu"] = "gpu" if interpreter == "auto" else "any"
    engine = OnnxEngine(bundle.member("model.onnx"), int8, threads, cache, providers)
    golden = Golden.from_npz(bundle.member("golden.npz"), f"{bundle.path}: golden.npz")
    logits = next(spec.index for spec in bundle.manifest.outputs if spec.name == "logits")
    check_agreement(engine, int8, golden.inputs, logits)
    return engine


def _quantization_table(spec: InputSpec) -> Tensor:
    """Tensor value of every pixel value: ``[1 or channels, 256]`` of the input's dtype."""
    mean, std = np.array(spec.mean)[:, np.newaxis], np.array(spec.std)[:, np.newaxis]
    values = (np.arange(256)[np.newaxis] - mean) / std
    if spec.dtype == "float32":
        return np.asarray(values, np.float32)
    kind = np.iinfo(spec.dtype)
    steps = np.rint(values / spec.scale) + spec.zero_point
    return np.asarray(np.clip(steps, kind.min, kind.max), spec.dtype)


def _dequantize(raw: Tensor, spec: OutputSpec) -> Floats:
    values: Floats = raw[0].astype(np.float32)
    if spec.dtype != "float32":
        values = (values - np.float32(spec.zero_point)) * np.float32(spec.scale)
    return values


def _described(manifest: Manifest, engine: Engine, origin: str) -> Manifest:
    """The manifest with the dtypes and quantization that the model itself names."""
    size = (1, manifest.input.height, manifest.input.width, manifest.input.channels)
    if engine.input.shape != size:
        raise BundleError(f"{origin}: the model takes {engine.input.shape}, the manifest says {size}")
    outputs = []
    for spec in manifest.outputs:
        found = engine.outputs[spec.index].shape if spec.index < len(engine.outputs) else None
        if found != spec.shape:
            raise BundleError(f"{origin}: output '{spec.name}' of the model is {found}, not {spec.shape}")
        outputs.append(spec.model_copy(update=_quantization(engine.outputs[spec.index])))
    described = manifest.input.model_copy(update=_quantization(engine.input))
    return manifest.model_copy(update={"input": described, "outputs": tuple(outputs)})


def _quantization(tensor: TensorSpec) -> dict[str, str | float | int]:
    return {"dtype": tensor.dtype, "scale": tensor.scale, "zero_point": tensor.zero_point}


def _difference(said: Manifest, found: Manifest) -> str | None:
    pairs: list[tuple[str, InputSpec | OutputSpec, InputSpec | OutputSpec]]
    pairs = [("input", said.input, found.input)]
    pairs += [(s.name, s, f) for s, f in zip(said.outputs, found.outputs, strict=True)]
    for name, a, b in pairs:
        same_scale = math.isclose(a.scale, b.scale, rel_tol=1e-6)
        if (a.dtype, a.zero_point) != (b.dtype, b.zero_point) or not same_scale:
            return (
                f"{name} is {b.dtype} (scale {b.scale:.9g}, zero point {b.zero_point}), not {a.dtype} "
                f"(scale {a.scale:.9g}, zero point {a.zero_point})"
            )
    return None
