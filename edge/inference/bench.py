"""How fast a bundle is on this machine: the interpreter alone, the pipeline, and everything."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from edge.bundle.archive import Bundle, open_bundle
from edge.bundle.golden import Golden
from edge.errors import ScanwrightError
from edge.imaging.frame import Frame, Pixels
from edge.imaging.overlay import heat_map
from edge.inference.decision import Outcome, decide
from edge.inference.engine import EngineError, Tensor
from edge.inference.onnx import OnnxEngine, check_agreement
from edge.inference.predictor import Predictor
from edge.inference.tflite import TFLiteEngine

__all__ = ["bench", "first_finding"]

FULL_HEIGHT, FULL_WIDTH = 480, 640
_WARM_UP = 20
_LEAST_ROUNDS, _MOST_ROUNDS = 30, 500
_SECONDS = 5.0
_COLD_STARTS = 3
_COLD_START_LIMIT_S = 120
_COLD_START = "import sys; from edge.inference.bench import first_finding; print(first_finding(sys.argv[1]))"


def bench(bundle: Bundle, threads: int = 1) -> dict[str, Any]:
    """Time a bundle; all medians are of one run in which the three paths take turns.

    Args:
        bundle: the opened bundle.
        threads: CPU threads for one inference.

    Returns:
        ``interpreter_ms`` set, invoke, get. ``pipeline_ms`` a Frame of the model's own size, in memory, to a
        Prediction. ``full_ms`` a 640 x 480 Frame with resize, gates and heat map. ``pipeline_ratio`` and
        ``full_ratio`` over the interpreter. ``cold_start_s`` a new process to its first finding, and
        ``rss_mb`` the most memory it had (MiB). ``threads`` and ``kernel``. Of a bundle with a
        ``model.onnx`` also ``onnx``: its ``kernel``, ``interpreter_ms``, ``ratio`` over the int8 model in the
        same run and ``logits_steps`` between them, or why it is ``refused``.

    Raises:
        BundleError, EngineError: the model cannot be run.
        ScanwrightError: a new process found nothing.
    """
    predictor = _int8(bundle, threads)
    spec = bundle.manifest.input
    own = _frame(_pixels(spec.height, spec.width, spec.channels))
    large = _frame(_pixels(FULL_HEIGHT, FULL_WIDTH, spec.channels))
    tensor = predictor.prepare(own.pixels)
    interpreter_ms, pipeline_ms, full_ms = _medians(
        lambda: predictor.engine.run(tensor),
        lambda: predictor.predict(own),
        lambda: _everything(predictor, large),
    )
    cold_start_s, rss_mb = _cold_start(bundle.path)
    onnx = {"onnx": _onnx(bundle, threads, tensor)} if "model.onnx" in bundle.names else {}
    return {
        "interpreter_ms": round(interpreter_ms, 4),
        "pipeline_ms": round(pipeline_ms, 4),
        "full_ms": round(full_ms, 4),
        "pipeline_ratio": round(pipeline_ms / interpreter_ms, 3),
        "full_ratio": round(full_ms / interpreter_ms, 3),
        "cold_start_s": round(cold_start_s, 3),
        "rss_mb": round(rss_mb, 1),
        "threads": threads,
        "kernel": f"{predictor.engine.name}, {predictor.engine.kernel}",
        **onnx,
    }


def _onnx(bundle: Bundle, threads: int, tensor: Tensor) -> dict[str, Any]:
    """The bundle's ``model.onnx`` by the best provider that is here, beside its int8 model."""
    int8 = TFLiteEngine(bundle.member("model.tflite"), threads)
    logits = next(spec.index for spec in bundle.manifest.outputs if spec.name == "logits")
    try:
        engine = OnnxEngine(bundle.member("model.onnx"), int8, threads)
        steps = check_agreement(engine, int8, Golden.from_npz(bundle.member("golden.npz")).inputs, logits)
    except EngineError as error:
        return {"refused": str(error)}
    onnx_ms, int8_ms = _medians(lambda: engine.run(tensor), lambda: int8.run(tensor))
    return {
        "kernel": f"{engine.name}, {engine.kernel}",
        "interpreter_ms": round(onnx_ms, 4),
        "ratio": round(onnx_ms / int8_ms, 3),
        "logits_steps": steps,
    }


def first_finding(path: str) -> float:
    """Open a bundle and decide on one frame; the most memory this process had, in MiB."""
    predictor = _int8(open_bundle(Path(path)), 1)
    _everything(predictor, _frame(_pixels(FULL_HEIGHT, FULL_WIDTH, predictor.manifest.input.channels)))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    # Not getrusage: its maximum outlives exec, so a child would report its parent's.
    return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0]) / 1024


def _int8(bundle: Bundle, threads: int) -> Predictor:
    """Of the int8 model, whatever else the bundle has: TensorRT would take minutes to start."""
    ood = bundle.member("ood.npz") if bundle.manifest.decision.ood else None
    return Predictor.from_model(bundle.member("model.tflite"), bundle.manifest, ood, threads)


def _everything(predictor: Predictor, frame: Frame) -> Outcome:
    prediction = predictor.predict(frame)
    outcome = decide(prediction, predictor.manifest, predictor.ood)
    if prediction.cam is not None:
        channel = int(prediction.logits.argmax())
        heat_map(np.ascontiguousarray(prediction.cam[..., channel]), *frame.pixels.shape[:2])
    return outcome


def _medians(*paths: Callable[[], object]) -> list[float]:
    """Median milliseconds of each path, run in turns so that a busy moment falls on all of them."""
    for _ in range(_WARM_UP):
        for path in paths:
            path()
    times: list[list[float]] = [[] for _ in paths]
    end = perf_counter() + _SECONDS
    while len(times[0]) < _LEAST_ROUNDS or (len(times[0]) < _MOST_ROUNDS and perf_counter() < end):
        for path, found in zip(paths, times, strict=True):
            start = perf_counter()
            path()
            found.append((perf_counter() - start) * 1e3)
    return [median(found) for found in times]


def _cold_start(path: Path) -> tuple[float, float]:
    """Median seconds, and MiB, of new processes to their first finding."""
    seconds, sizes = [], []
    for _ in range(_COLD_STARTS):
        start = perf_counter()
        command = [sys.executable, "-c", _COLD_START, str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COLD_START_LIMIT_S, check=False
        )
        seconds.append(perf_counter() - start)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ScanwrightError(f"{path}: a new process came to no finding: {last}")
        sizes.append(float(done.stdout))
    return median(seconds), median(sizes)


def _pixels(height: int, width: int, channels: int) -> Pixels:
    """A picture of smooth structure with noise, as a sensor gives it."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    smooth = 110 + 60 * np.sin(rows * 6 / height) * np.cos(columns * 9 / width)
    shape = (height, width) if channels == 1 else (height, width, channels)
    noise = random.normal(0, 12, shape)
    values = (smooth if channels == 1 else smooth[..., np.newaxis]) + noise
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _frame(pixels: Pixels) -> Frame:
    return Frame(pixels, identity="bench", study="bench", source="bench")
