"""How fast the phone app is in this machine's Chromium; prints JSON.

For the shipped bundle of 96 x 96 and for a MobileNetV2 of width 1 with 224 x 224 and random weights:
``first_result_s`` from opening the app that the phone keeps to the result of a picture, the browser warm;
``frame_ms`` the interpreter's median in the browser, ``desktop_ms`` the same network's on the desktop in the
same run, ``ratio`` of the two; ``all_ms`` from picture to decision in the browser. ``load`` is the machine's
load average meanwhile: above its processors' number the milliseconds say little, and the ratio more.
Needs the trainer extra. Run from the project's folder: python benchmarks/phone.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from phone_app import Phone, Server
from playwright.sync_api import sync_playwright

from edge.bundle.archive import Bundle, open_bundle
from edge.bundle.arrays import pack
from edge.bundle.manifest import InputSpec, Manifest
from edge.imaging.frame import Frame
from edge.inference.predictor import Predictor
from edge.inference.tflite import TFLiteEngine
from edge.phone.app import app_files, write_app
from trainer.demo.build import SHIPPED

ROUNDS = 60

_TIMES = """async ([rounds, side]) => {
  const names = ['manifest.json', 'model.tflite', 'golden.npz', 'ood.npz'];
  const files = await Promise.all(names.map(async (name) => {
    const answer = await fetch('model/' + name);
    return [name, answer.ok ? new Uint8Array(await answer.arrayBuffer()) : null];
  }));
  const members = Object.fromEntries(files.filter(([, bytes]) => bytes));
  const worker = new Worker('worker.js');
  const ask = (message) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.answer));
    worker.postMessage(message);
  });
  const script = 'litert/litert_wasm_compat_internal.js';
  await ask({ id: 0, kind: 'load', script, members });
  const data = Uint8Array.from({ length: side * side }, (_, i) => (i * 31) % 256);
  const [frames, all] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    const image = { height: side, width: side, channels: 1, data };
    const { elapsed_ms } = await ask({ id: 1, kind: 'judge', image });
    all.push(performance.now() - begun);
    frames.push(elapsed_ms.infer);
  }
  return [frames, all];
}"""


def measure(bundle: Bundle, folder: Path) -> dict[str, float]:
    """The figures of one bundle."""
    side = bundle.manifest.input.height
    server = Server(write_app(bundle, folder))
    with sync_playwright() as engine:
        phone = Phone(engine, folder / "profile")
        phone.visit(server.url)
        phone.kept_offline()
        picture = folder / "picture.png"
        cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8))
        firsts = []
        for _ in range(5):
            phone.page.goto("about:blank")
            begun = time.perf_counter()
            phone.visit(server.url)
            phone.give(picture)
            firsts.append(time.perf_counter() - begun)
            phone.page.click("#delete")
            phone.page.click("#yes")
            phone.wait("ready")
        frames, everything = phone.page.evaluate(_TIMES, [ROUNDS, side])
        phone.close()
    server.stop()
    desktop = desktop_ms(bundle)
    frame = median(frames[10:])
    return {
        "first_result_s": round(median(firsts), 3),
        "frame_ms": round(frame, 3),
        "desktop_ms": round(desktop, 3),
        "ratio": round(frame / desktop, 2),
        "all_ms": round(median(everything[10:]), 3),
    }


def desktop_ms(bundle: Bundle) -> float:
    predictor = Predictor.from_model(bundle.member("model.tflite"), bundle.manifest)
    spec = bundle.manifest.input
    frame = Frame(np.random.default_rng(1).integers(0, 256, (spec.height, spec.width), np.uint8), "", "", "")
    return median([predictor.predict(frame).elapsed_ms["infer"] for _ in range(ROUNDS)][10:])


def mobilenet(shipped: Bundle) -> Bundle:
    """A bundle of a MobileNetV2 that has learned nothing."""
    from trainer.compression.quantization import to_int8
    from trainer.models import build
    from trainer.packaging.vectors import pictures
    from trainer.recipe import ModelSpec

    spec = InputSpec(height=224, width=224, channels=1)
    calibration = np.stack(pictures(spec))[..., np.newaxis]
    model = to_int8(build(ModelSpec(kind="mobilenet"), (224, 224, 1), 3), calibration)
    names = {2: "embedding", 4: "cam"}
    outputs = [
        {
            "name": "logits" if one.shape == (1, 3) else names[len(one.shape)],
            "index": index,
            "shape": one.shape,
        }
        for index, one in enumerate(TFLiteEngine(model).outputs)
    ]
    said = shipped.manifest.model_dump(mode="json") | {
        "name": "mobilenet",
        "labels": ["a", "b", "c"],
        "input": spec.model_dump(mode="json"),
        "steps": [{"op": "grayscale"}, {"op": "resize", "height": 224, "width": 224}],
        "outputs": outputs,
        "decision": {"thresholds": {}, "negative_label": "a"},
        "metrics": {},
    }
    predictor = Predictor.from_model(model, Manifest.model_validate_json(json.dumps(said)))
    inputs = np.concatenate([predictor.quantize(picture) for picture in pictures(spec)])
    index = next(one.index for one in predictor.manifest.outputs if one.name == "logits")
    given = np.concatenate([predictor.engine.run(one[np.newaxis])[index] for one in inputs])
    # Not a Golden, which refuses a network that has learned nothing.
    vectors = {"inputs": inputs, "outputs": given, "kernel": np.array(""), "tolerance": np.array(4)}
    members = {
        "model.tflite": model,
        "manifest.json": predictor.manifest.model_dump_json().encode(),
        "golden.npz": pack(vectors),
    }
    return Bundle(shipped.path, predictor.manifest, shipped.sha256, 0, members)


def main() -> None:
    shipped = open_bundle(SHIPPED)
    cached = sum(len(data) for name, data in app_files(shipped).items() if not name.startswith("model/"))
    found = {"app_bytes": cached}
    for bundle in (shipped, mobilenet(shipped)):
        with tempfile.TemporaryDirectory() as folder:
            found[bundle.manifest.name] = measure(bundle, Path(folder))
    print(json.dumps({**found, "load": os.getloadavg()[0]}, indent=1))


if __name__ == "__main__":
    main()
