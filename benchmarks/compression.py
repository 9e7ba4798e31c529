"""What each way of compressing a network comes to, on held-out images through the interpreter; as JSON.

One float network is trained as the recipe says. From it come:

- ``plain``: what TFLiteConverter's post-training int8 gives, as its guide shows it: representative images,
  int8 in and out, nothing else;
- ``int8``: scanwright's post-training int8, unpruned;
- ``quantization_aware``: int8 after quantization-aware training;
- ``pruned``: int8 with half of the weights pruned, which compresses the transfer only;
- ``channels``: int8 with ``--channels`` of the channels;
- ``channels_pruned``: both.

``ratio`` is the interpreter's time over that of ``int8``; the models take turns, so that other work on the
machine is in all of them alike. ``smaller`` is the float Keras file over the model's file, ``smaller_sent``
over the same compressed, as a bundle holds it. ``points`` are hundredths lost against the float network.
Needs the trainer extra. Run from the project's folder:
python benchmarks/compression.py [--data DATA] [--recipe NAME] [--kind mobilenet] [--channels 0.5]
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console

from edge.inference.tflite import TFLiteEngine
from trainer.backend import tf
from trainer.calibration import calibration_images
from trainer.compression.plan import Compressor
from trainer.compression.quantization import to_int8
from trainer.evaluation.metrics import summarize
from trainer.learning import Lesson, learn
from trainer.preparation import Part, Prepared, from_data, from_phantoms, prepare
from trainer.progress import Reporter
from trainer.recipe import load_recipe

ROUNDS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="as 'scanwright train' takes it; phantoms without it")
    parser.add_argument("--recipe", default="classifier")
    parser.add_argument("--kind", help="network in place of the recipe's")
    parser.add_argument("--width", type=float, default=1.0, help="of that network")
    parser.add_argument("--channels", type=float, default=0.5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    reporter = Reporter(Console(stderr=True))
    recipe = load_recipe(options.recipe)
    if options.kind:
        model = recipe.model.model_copy(update={"kind": options.kind, "width": options.width})
        recipe = recipe.model_copy(update={"model": model})
    dataset = from_data(options.data, recipe) if options.data else from_phantoms(recipe, options.seed)
    generated = options.data is None
    prepared = prepare(recipe, dataset, options.seed, reporter, epochs=options.epochs, generated=generated)
    print(json.dumps(measure(prepared, options.channels, options.seed, reporter), indent=2))


def measure(prepared: Prepared, channels: float, seed: int, reporter: Reporter) -> dict[str, Any]:
    lesson = Lesson(prepared, seed, reporter)
    model, _ = learn(lesson)
    plain = prepared.recipe.compression.model_copy(
        update={"channels": 1.0, "sparsity": 0.0, "method": "post-training"}
    )
    half = {"sparsity": 0.5, "pruning_epochs": prepared.recipe.compression.pruning_epochs or 4}
    images, _ = calibration_images(lesson.train, plain.calibration_images, seed)
    compressor = Compressor(model, lesson)
    files = {"plain": as_the_guide_shows(model, images)}
    for name, changes in {
        "int8": {},
        "quantization_aware": {"method": "quantization-aware"},
        "pruned": half,
        "channels": {"channels": channels},
        "channels_pruned": {"channels": channels, **half},
    }.items():
        network, _ = compressor.compress(plain.model_copy(update=changes))
        files[name] = to_int8(network, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.keras"
        model.save(path)
        keras_bytes = path.stat().st_size
    exact = figures(float_logits(model, prepared.held_out), prepared)
    engines = {name: TFLiteEngine(file) for name, file in files.items()}
    times = interpreter_times(engines)
    rows = {}
    for name, file in files.items():
        own = figures(int8_logits(engines[name], prepared.held_out, len(prepared.labels)), prepared)
        rows[name] = {
            **own,
            "auroc_points": points(exact["auroc"], own["auroc"]),
            "accuracy_points": points(exact["accuracy"], own["accuracy"]),
            "bytes": len(file),
            "sent_bytes": len(gzip.compress(file, 9, mtime=0)),
            "smaller": round(keras_bytes / len(file), 2),
            "smaller_sent": round(keras_bytes / len(gzip.compress(file, 9, mtime=0)), 2),
            "interpreter_ms": round(times[name], 4),
            "ratio": round(times[name] / times["int8"], 3),
        }
    return {
        "data": "phantoms" if prepared.generated else prepared.name,
        "network": prepared.recipe.model.kind,
        "parameters": model.count_params(),
        "input": prepared.input_shape,
        "held_out": len(prepared.held_out.pixels),
        "channels": channels,
        "keras_bytes": keras_bytes,
        "float": exact,
        "int8_models": rows,
    }


def as_the_guide_shows(model: Any, images: Any) -> bytes:
    """The converter used plainly: on the Keras network, with the same calibration images."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [image[np.newaxis].astype(np.float32) / 128 - 1] for image in images
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def float_logits(model: Any, part: Part) -> Any:
    return np.asarray(model.predict(part.pixels.astype(np.float32) / 128 - 1, verbose=0))


def int8_logits(engine: TFLiteEngine, part: Part, classes: int) -> Any:
    """Logits ``[n, K]``; the output of that shape is the one, the embedding being wider and the map 4-D."""
    place = next(i for i, spec in enumerate(engine.outputs) if spec.shape == (1, classes))
    spec = engine.outputs[place]
    scaled = (part.pixels.astype(np.float32) / 128 - 1) / engine.input.scale + engine.input.zero_point
    tensors = np.clip(np.round(scaled), -128, 127).astype(np.int8)
    answers = [engine.run(tensor[np.newaxis])[place][0].astype(float) for tensor in tensors]
    return (np.stack(answers) - spec.zero_point) * spec.scale


def figures(logits: Any, prepared: Prepared) -> dict[str, float]:
    if prepared.recipe.task == "single-label":
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    else:
        scores = 1 / (1 + np.exp(-logits))
    found = summarize(
        scores, prepared.held_out.truth, prepared.labels, prepared.recipe.task, prepared.recipe.negative_label
    )
    return {key: round(found[key], 4) for key in ("auroc", "accuracy")}


def points(before: float, after: float) -> float:
    return round(100 * (before - after), 2)


def interpreter_times(engines: dict[str, TFLiteEngine]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            tensor = np.zeros(engine.input.shape, np.int8)
            engine.run(tensor)  # warms the caches that the others have taken
            start = perf_counter()
            engine.run(tensor)
            times[name].append(1000 * (perf_counter() - start))
    return {name: median(taken) for name, taken in times.items()}


if __name__ == "__main__":
    main()
