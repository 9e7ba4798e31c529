"""The same bundle in both interpreters: ai-edge-litert here, tflite-runtime in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.archive import open_bundle
from edge.bundle.golden import Golden
from edge.imaging.frame import Frame
from edge.inference.decision import decide
from edge.inference.predictor import Predictor
from edge.inference.tflite import TFLiteEngine
from trainer.packaging.operators import NEWEST_VERSIONS, OLDEST, OLDEST_VERSIONS
from trainer.recipe import recipe_names

ROOT = Path(__file__).parents[2]
OLDER = ROOT / ".venv-tflite-runtime" / "bin" / "python"
INPUTS = 60

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime needs Python 3.11 at most"),
    pytest.mark.skipif(
        not OLDER.exists(),
        reason="no environment for tflite-runtime: make .venv-tflite-runtime/.requirements",
    ),
]

# Runs in the older environment: what the newer one gets from Predictor, for the same pictures.
THERE = """
import json, sys
from pathlib import Path
import numpy as np
from edge.bundle.archive import open_bundle
from edge.bundle.golden import Golden
from edge.imaging.frame import Frame
from edge.inference.decision import decide
from edge.inference.predictor import Predictor, replay
bundle = open_bundle(Path(sys.argv[1]))
predictor = Predictor(bundle, interpreter="tflite-runtime")
outputs = {spec.name: [] for spec in bundle.manifest.outputs}
decisions = []
for pixels in np.load(sys.argv[2]):
    raw = predictor.engine.run(predictor.prepare(pixels))
    for spec in bundle.manifest.outputs:
        outputs[spec.name].append(raw[spec.index])
    frame = Frame(pixels, "identity", "study", "test")
    decisions.append(decide(predictor.predict(frame), bundle.manifest, predictor.ood).decision)
np.savez(sys.argv[3], **{name: np.concatenate(found) for name, found in outputs.items()})
golden = Golden.from_npz(bundle.member("golden.npz"))
print(json.dumps({
    "name": predictor.engine.name,
    "kernel": predictor.engine.kernel,
    "numpy": np.__version__,
    "replayed": replay(predictor, golden),
    "decisions": decisions,
    "foreign": [name for name in ("tensorflow", "trainer", "ai_edge_litert") if name in sys.modules],
}))
"""


def run_older(code: str, *arguments: Path) -> dict:
    done = subprocess.run(
        [str(OLDER), "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_both_interpreters_agree_within_the_tolerance(
    tmp_path, tiny_model, tiny_bundle, picture, record_property
) -> None:
    path = tiny_bundle(tmp_path / "tiny.swb")
    kinds = ("normal", "lesion", "foreign", "blank")
    pictures = np.stack([picture(kinds[seed % 4], seed, side=48) for seed in range(INPUTS)])
    np.save(tmp_path / "pictures.npy", pictures)
    there = run_older(THERE, path, tmp_path / "pictures.npy", tmp_path / "outputs.npz")
    assert there["name"] == "tflite-runtime 2.14.0"
    assert there["numpy"].startswith("1.")
    assert there["foreign"] == []

    bundle = open_bundle(path)
    tolerance = Golden.from_npz(bundle.member("golden.npz")).tolerance
    here = Predictor(bundle, interpreter="ai-edge-litert")
    raw = [here.engine.run(here.prepare(pixels)) for pixels in pictures]
    same_kernels = TFLiteEngine(tiny_model, interpreter="ai-edge-litert", delegates=False)
    builtin = [same_kernels.run(here.prepare(pixels)) for pixels in pictures]
    largest = {}
    with np.load(tmp_path / "outputs.npz") as outputs:
        for spec in bundle.manifest.outputs:
            mine = np.concatenate([tensors[spec.index] for tensors in raw]).astype(int)
            assert np.ptp(mine) > 20, f"{spec.name} hardly varies"
            theirs = outputs[spec.name].astype(int)
            assert np.array_equal(theirs, np.concatenate([tensors[spec.index] for tensors in builtin]))
            largest[spec.name] = int(np.abs(mine - theirs).max())
    record_property("largest_difference_in_steps", largest)
    assert max(largest.values()) <= tolerance
    assert there["replayed"] <= tolerance
    decisions = [
        decide(here.predict(Frame(p, "i", "s", "test")), bundle.manifest, here.ood).decision for p in pictures
    ]
    assert set(decisions) == {"positive", "negative", "no_result"}
    assert decisions == there["decisions"]


def test_the_table_of_the_oldest_versions_is_what_the_older_interpreter_takes(tmp_path, tiny_model) -> None:
    """Each operator of the table at its newest version is found there, and at the next one is not."""
    models = {
        f"{name}-{version}": model_with(tiny_model, name, version)
        for name in NEWEST_VERSIONS
        for version in (OLDEST_VERSIONS.get(name, 0), OLDEST_VERSIONS.get(name, 0) + 1)
        if version
    }
    for stem, model in models.items():
        (tmp_path / f"{stem}.tflite").write_bytes(model)
    found = run_older(
        """
import json, sys
from pathlib import Path
from tflite_runtime.interpreter import Interpreter
found = {}
for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    try:
        Interpreter(model_content=path.read_bytes())
        found[path.stem] = True
    except (ValueError, RuntimeError) as error:
        found[path.stem] = not any(words in str(error) for words in ("Didn't find op", "out of range"))
print(json.dumps(found))
""",
        tmp_path,
    )
    assert OLDEST == "2.14.0" and set(OLDEST_VERSIONS) <= set(NEWEST_VERSIONS)
    for stem, has in found.items():
        name, version = stem.rsplit("-", 1)
        assert has == (int(version) <= OLDEST_VERSIONS.get(name, 0)), stem


def test_the_table_of_the_newer_versions_is_what_the_newer_interpreter_takes(tiny_model) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for name, newest in NEWEST_VERSIONS.items():
        for version in (newest, newest + 1):
            try:
                Interpreter(model_content=model_with(tiny_model, name, version))
                has = True
            except (ValueError, RuntimeError) as error:
                has = "Didn't find op" not in str(error)
            assert has == (version == newest), f"{name} v{version}"


def model_with(model: bytes, operator: str, version: int) -> bytes:
    """The model with its first operator code changed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    code, number = tree.operatorCodes[0], getattr(schema.BuiltinOperator, operator)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    builder = flatbuffers.Builder(4096)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.slow
def test_every_recipes_model_gives_the_same_in_the_older_interpreter(tmp_path, tiny_run) -> None:
    models = {name: tiny_run(name)["int8.tflite"] for name in recipe_names()}
    for name, model in models.items():
        (tmp_path / f"{name}.tflite").write_bytes(model)
    run_older(
        """
import json, sys
from pathlib import Path
import numpy as np
from tflite_runtime.interpreter import Interpreter
for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    interpreter = Interpreter(model_content=path.read_bytes())
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    interpreter.set_tensor(image["index"], np.resize(np.arange(-128, 128, dtype=np.int8), image["shape"]))
    interpreter.invoke()
    outputs = [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
    np.savez(path.with_suffix(".npz"), *outputs)
print(json.dumps({}))
""",
        tmp_path,
    )
    for name, model in models.items():
        engine = TFLiteEngine(model, interpreter="ai-edge-litert", delegates=False)
        here = engine.run(np.resize(np.arange(-128, 128, dtype=np.int8), engine.input.shape))
        with np.load(tmp_path / f"{name}.npz") as there:
            assert len(there.files) == len(here), name
            for mine, theirs in zip(here, there.values(), strict=True):
                assert np.array_equal(mine, theirs), name


def test_the_newer_one_is_preferred(tiny_model) -> None:
    assert TFLiteEngine(tiny_model).name.startswith("ai-edge-litert")
