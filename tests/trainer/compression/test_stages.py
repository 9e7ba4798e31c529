"""All stages at once leave a network that is smaller, still sparse, and whole in int8."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("tensorflow")

from trainer.backend import tf, tfmot
from trainer.compression.plan import Compressor
from trainer.compression.pruning import sparsity
from trainer.compression.qat import quantization_aware
from trainer.compression.quantization import describe, to_int8
from trainer.learning import Lesson
from trainer.preparation import from_data, prepare
from trainer.progress import Reporter
from trainer.recipe import Compression, load_recipe

pytestmark = pytest.mark.slow
SETTINGS = Compression(
    channels=0.5,
    channel_epochs=1,
    sparsity=0.6,
    pruning_epochs=1,
    method="quantization-aware",
    quantization_epochs=1,
)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    random = np.random.default_rng(0)
    parts = {}
    for split, count in (("train", 40), ("val", 16)):
        labels = np.arange(count) % 2
        noise = random.normal(70, 30, (count, 28, 28)) + 90 * labels[:, None, None]
        parts[f"{split}_images"] = np.clip(noise, 0, 255).astype(np.uint8)
        parts[f"{split}_labels"] = labels[:, None]
    np.savez(path, **parts)
    reporter = Reporter(Console(file=io.StringIO()))
    recipe = load_recipe("classifier")
    return Lesson(prepare(recipe, from_data(Path(path), recipe), 0, reporter, epochs=1), 0, reporter)


@pytest.fixture(scope="module")
def compressor(lesson: Lesson) -> Compressor:
    return Compressor(lesson.network(lesson.prepared.recipe.model), lesson)


def test_stages_follow_each_other_and_the_trained_network_stays(compressor: Compressor) -> None:
    before = compressor.model.get_weights()
    network, epochs = compressor.compress(SETTINGS)
    assert [epoch.stage for epoch in epochs] == ["channels", "pruning", "quantization"]
    assert all(np.array_equal(a, b) for a, b in zip(before, compressor.model.get_weights(), strict=True))
    assert network.count_params() < 0.35 * compressor.model.count_params()
    assert sparsity(network) == pytest.approx(0.6, abs=0.01)
    spec, outputs = describe(to_int8(network, compressor.lesson.train.pixels))
    assert (spec.dtype, spec.scale, spec.zero_point) == ("int8", 1 / 128, 0)
    assert {output.name for output in outputs} == {"logits", "embedding", "cam"}
    assert all(output.dtype == "int8" for output in outputs)


def test_what_was_made_is_not_trained_again(compressor: Compressor) -> None:
    compressor.compress(SETTINGS)
    assert compressor.epochs_to_go(SETTINGS) == 0
    assert compressor.epochs_to_go(SETTINGS.model_copy(update={"sparsity": 0.5})) == 2
    plain = SETTINGS.model_copy(update={"channels": 1.0, "sparsity": 0.0, "method": "post-training"})
    assert compressor.compress(plain) == (compressor.model, [])


def test_quantization_aware_training_learns_and_sees_the_exact_input(
    compressor: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    students: list[Any] = []
    apply = tfmot.quantization.keras.quantize_apply

    def remembered(*arguments: Any) -> Any:
        students.append(apply(*arguments))
        return students[-1]

    monkeypatch.setattr(tfmot.quantization.keras, "quantize_apply", remembered)
    lesson = compressor.lesson
    plan = lesson.plan("test", teacher=compressor.model)
    learned, _ = quantization_aware(compressor.model, lesson, plan, SETTINGS)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(learned.get_weights(), compressor.model.get_weights(), strict=True)
    )
    pixels = tf.reshape(tf.range(256, dtype=tf.float32), (1, 16, 16, 1)) / 128.0 - 1.0
    quantize = next(layer for layer in students[0].layers if layer.name.startswith("quantize_layer"))
    np.testing.assert_allclose(quantize(pixels, training=True), pixels, atol=1e-6)
