"""Time the pipeline around a network of MobileNet's size; prints what ``scanwright bench --json -`` prints.

The bundle, MobileNetV2-0.5 at 224 x 224 x 1 in int8 with random weights, is made once into build/ (that needs
the trainer extra) and kept. Run from the project's folder: python benchmarks/pipeline.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edge.bundle.archive import open_bundle, write_bundle
from edge.bundle.golden import Golden
from edge.bundle.manifest import InputSpec, Manifest
from edge.inference import ood
from edge.inference.bench import bench
from edge.inference.predictor import Predictor
from edge.inference.tflite import TFLiteEngine
from trainer.packaging.operators import OLDEST, operators
from trainer.packaging.vectors import LEAST_TOLERANCE, pictures

BUNDLE = Path("build") / "benchmark-mobilenet.swb"
SIDE, WIDTH = 224, 0.5


def network() -> bytes:
    """MobileNetV2 (Sandler et al. 2018) with logits, activation map and embedding, quantized to int8."""
    from trainer.backend import keras, tf

    spec = InputSpec(height=SIDE, width=SIDE, channels=1)
    images = np.stack(pictures(spec))[..., np.newaxis].astype(np.float32) / 128 - 1
    images[0, 0, :2, 0] = -1, 127 / 128  # the whole range, so that the input is exactly pixel - 128
    keras.utils.set_random_seed(0)
    body = keras.applications.MobileNetV2((SIDE, SIDE, 1), alpha=WIDTH, include_top=False, weights=None)
    head = keras.layers.Dense(4)
    pooled = keras.layers.GlobalAveragePooling2D()(body.output)
    model = keras.Model(body.input, [head(pooled), pooled, body.output])
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    # One pass sets every mean and variance, without which random weights give the same output for any image.
    model(images, training=True)

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 1), tf.float32, name="image")])
    def serve(image):
        logits, embedding, features = model(image, training=False)
        cam = tf.nn.conv2d(features, head.kernel[tf.newaxis, tf.newaxis], 1, "VALID")
        return {"logits": logits, "embedding": embedding, "cam": cam}

    def calibration():
        yield from ([image[np.newaxis]] for image in images)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def manifest(model: bytes) -> Manifest:
    """A manifest with every gate on, so that the bench pays for them."""
    names = {(1, 4): "logits", (1, 1280): "embedding", (1, 7, 7, 4): "cam"}
    outputs = TFLiteEngine(model).outputs
    labels = ["normal", "first", "second", "third"]
    draft = {
        "name": "benchmark-mobilenet",
        "version": "1.0.0",
        "intended_use": {"statement": "Timing only: its weights are random."},
        "task": "single-label",
        "labels": labels,
        "input": {"height": SIDE, "width": SIDE, "channels": 1},
        "steps": [{"op": "grayscale"}, {"op": "resize", "height": SIDE, "width": SIDE}],
        "outputs": [
            {
                "name": names[o.shape],
                "index": i,
                "shape": o.shape,
                "scale": o.scale,
                "zero_point": o.zero_point,
            }
            for i, o in enumerate(outputs)
        ],
        "decision": {
            "negative_label": "normal",
            "thresholds": {label: {"value": 0.5} for label in labels[1:]},
            "ood": {"limit": 1.0, "rejection": 0.02},
        },
        "quality": {},
        "runtime": {
            "operators": [o.model_dump() for o in operators(model, "benchmark")],
            "min_version": OLDEST,
        },
        "target": "raspberry-pi-5",
        "provenance": {"created": "2026-01-01T00:00:00+00:00"},
    }
    return Manifest.model_validate_json(json.dumps(draft))


def build() -> None:
    model = network()
    draft = manifest(model)
    predictor = Predictor.from_model(model, draft)
    embeddings = np.random.default_rng(0).normal(size=(2000, 1280))
    gate = ood.fit(embeddings, 100 * embeddings[:10], 0.0)  # as costly as any, and open
    logits = next(o.index for o in draft.outputs if o.name == "logits")
    inputs = np.concatenate([predictor.quantize(picture) for picture in pictures(draft.input)])
    outputs = np.concatenate([predictor.engine.run(one[np.newaxis])[logits] for one in inputs])
    data = draft.model_dump(mode="json")
    data["decision"]["ood"]["limit"] = gate.limit
    members = {
        "model.tflite": model,
        "labels.txt": "\n".join(draft.labels).encode(),
        "golden.npz": Golden(inputs, outputs, predictor.engine.kernel, LEAST_TOLERANCE).to_npz(),
        "ood.npz": gate.to_npz(),
        "MODEL_CARD.md": b"# Timing only\n",
        "sbom.cdx.json": b"{}\n",
    }
    write_bundle(BUNDLE, Manifest.model_validate_json(json.dumps(data)), members)


if __name__ == "__main__":
    if not BUNDLE.exists():
        build()
    print(json.dumps(bench(open_bundle(BUNDLE)), indent=2))
