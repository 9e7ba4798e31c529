"""Every network: the sizes it takes, the evidence it gives, and that int8 keeps what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge.errors import BadInputError
from trainer.backend import keras, tfmot
from trainer.compression.pruning import sparsity
from trainer.compression.quantization import describe, to_int8
from trainer.models import BUILDERS, build
from trainer.models.blocks import classifier, convolution, inverted_residual
from trainer.models.export import export
from trainer.packaging.operators import OLDEST_VERSIONS, operators
from trainer.recipe import ModelSpec

KINDS = sorted(BUILDERS)
MAPLESS = {"dnn", "textbook"}
CLASSES = 3
# The smallest gray images, colour for some, and what five halvings leave a map of.
SHAPES = dict.fromkeys(KINDS, (28, 28, 1)) | {
    "efficientnet-lite0": (128, 128, 1),
    "textbook": (64, 64, 3),
    "unet": (64, 64, 3),
}
# Of 256, mean over pictures. Untrained networks of fifty layers gather noise that training teaches to bear.
ERROR_STEPS = {"efficientnet-lite0": 24, "mobilenet": 24}


def network(kind: str, shape: tuple[int, int, int]) -> Any:
    keras.utils.set_random_seed(5)
    return build(ModelSpec(kind=kind, width=0.35), shape, CLASSES)


def pictures(count: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Waves and noise, whose brightness and grain differ from picture to picture."""
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    made = []
    for _ in range(count):
        frequency, phase, level = random.uniform(2, 20), random.uniform(0, 6), random.uniform(60, 190)
        wave = 60 * np.sin(frequency * (rows + random.uniform(-1, 1) * columns) + phase)
        noise = random.normal(0, random.uniform(2, 30), shape)
        made.append(np.clip(level + wave[..., np.newaxis] + noise, 0, 255).astype(np.uint8))
    return np.stack(made)


def settle(model: Any, images: NDArray[np.uint8]) -> None:
    """Give the normalizations the statistics of ``images``, as training would: without, signals fade."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images / np.float32(128) - 1, training=True)


@pytest.fixture(scope="module", params=KINDS)
def converted(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any, NDArray[np.uint8], bytes]]:
    kind: str = request.param
    model = network(kind, SHAPES[kind])
    images = pictures(16, SHAPES[kind])
    settle(model, images)
    yield kind, model, images, to_int8(model, images)


def run(model_file: bytes, images: NDArray[np.uint8]) -> dict[str, NDArray[np.int8]]:
    interpreter = Interpreter(model_content=model_file, num_threads=1)
    runner = interpreter.get_signature_runner()
    answers = [runner(image=(image[np.newaxis].astype(np.int16) - 128).astype(np.int8)) for image in images]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


@pytest.mark.parametrize("shape", [(28, 28, 1), (96, 72, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_network_takes_every_size(kind: str, shape: tuple[int, int, int]) -> None:
    model = network(kind, shape)
    layers = {layer.name: layer for layer in model.layers}
    assert layers["logits"].output_shape == (None, CLASSES)
    assert len(layers["embedding"].output_shape) == 2
    assert ("features" in layers) == (kind not in MAPLESS)
    if kind == "unet":
        assert [tuple(part) for part in model.output_shape] == [(None, CLASSES), (None, *shape[:2], CLASSES)]
    else:
        assert model.output_shape == (None, CLASSES)


# The others take their widths by the same rule, but take long to build.
@pytest.mark.parametrize("kind", ["cnn", "densenet", "dnn", "textbook", "unet"])
def test_width_makes_a_network_larger(kind: str) -> None:
    narrow, wide = (build(ModelSpec(kind=kind, width=width), (28, 28, 1), 2) for width in (0.35, 0.7))
    assert narrow.count_params() < wide.count_params()


def test_int8_input_is_the_pixel_less_128(converted: tuple[str, Any, NDArray[np.uint8], bytes]) -> None:
    spec, _ = describe(converted[3])
    assert (spec.dtype, spec.scale, spec.zero_point) == ("int8", 1 / 128, 0)


def test_int8_logits_follow_the_float_ones(converted: tuple[str, Any, NDArray[np.uint8], bytes]) -> None:
    kind, model, images, model_file = converted
    outputs = {output.name: output for output in describe(model_file)[1]}
    wanted = model(images / np.float32(128) - 1)
    answers = run(model_file, images)
    for name, values in zip(
        ("logits", "mask"), wanted if isinstance(wanted, list) else [wanted], strict=False
    ):
        steps = np.asarray(values) / outputs[name].scale + outputs[name].zero_point
        assert np.ptp(answers[name], axis=0).max() > 40, "the pictures give the same answer"
        assert np.abs(answers[name] - steps).mean() < ERROR_STEPS.get(kind, 6)
        assert np.corrcoef(answers[name].ravel(), steps.ravel())[0, 1] > 0.9


def test_both_interpreters_have_the_operators(converted: tuple[str, Any, NDArray[np.uint8], bytes]) -> None:
    for operator in operators(converted[3], "test"):
        assert operator.version <= OLDEST_VERSIONS[operator.name], operator


def test_evidence_is_what_the_network_has(converted: tuple[str, Any, NDArray[np.uint8], bytes]) -> None:
    kind, _, images, model_file = converted
    shapes = {output.name: output.shape for output in describe(model_file)[1]}
    extra = {"cam"} if kind not in MAPLESS else set()
    extra |= {"mask"} if kind == "unet" else set()
    assert set(shapes) == {"logits", "embedding"} | extra
    if kind == "unet":
        assert shapes["mask"] == (1, *images.shape[1:3], CLASSES)


def test_map_averages_to_the_logits(converted: tuple[str, Any, NDArray[np.uint8], bytes]) -> None:
    kind, model, images, _ = converted
    if kind in MAPLESS:
        return
    serve, owner = export(model)
    answer = serve(image=np.float32(images[:1] / 128 - 1))
    assert owner.weights
    bias = model.get_layer("logits").bias
    np.testing.assert_allclose(np.mean(answer["cam"], axis=(1, 2)) + bias, answer["logits"], atol=1e-3)


@pytest.mark.parametrize("kind", ["cnn", "dnn", "textbook", "unet"])
def test_pruning_may_remove_most_weights_but_not_the_heads(kind: str) -> None:
    model = network(kind, (28, 28, 1))
    for layer in model.layers:
        weights = layer.get_weights()
        if weights and layer.name not in ("logits", "mask"):
            layer.set_weights([np.zeros_like(weights[0]), *weights[1:]])
    assert sparsity(model) == 1.0
    for layer in model.layers:
        weights = layer.get_weights()
        layer.set_weights([np.full_like(array, layer.name not in ("logits", "mask")) for array in weights])
    assert sparsity(model) == 0.0


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"efficientnet-lite0", "mobilenet"}))
def test_quantization_aware_training_takes_it(kind: str) -> None:
    model = network(kind, (28, 28, 1))
    wrapped = tfmot.quantization.keras.quantize_model(model)
    assert len(wrapped.outputs) == len(model.outputs)


def test_quantization_aware_training_takes_inverted_residuals() -> None:
    # What EfficientNet-Lite0 and MobileNet repeat, once: wrapping all of their layers takes half a minute.
    image = keras.Input((28, 28, 1), name="image")
    x = convolution(image, 8, kernel=3, stride=2, name="stem")
    for expansion, stride in ((1, 1), (6, 2)):
        name = f"expand{expansion}"
        x = inverted_residual(x, 8, expansion=expansion, kernel=5, stride=stride, name=name)
    model = keras.Model(image, classifier(convolution(x, 16, name="features"), 0.2, CLASSES))
    assert tfmot.quantization.keras.quantize_model(model).output_shape == (None, CLASSES)


def test_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInputError, match=r"model\.kind: unknown network 'resnet'; known: cnn, .*unet"):
        build(ModelSpec(kind="resnet"), (28, 28, 1), 2)


def test_network_without_published_weights_refuses_them() -> None:
    with pytest.raises(BadInputError, match=r"model\.pretrained: the network 'cnn' has no published weights"):
        build(ModelSpec(pretrained="imagenet"), (28, 28, 1), 2)


def test_segmentation_refuses_sides_it_cannot_restore() -> None:
    with pytest.raises(BadInputError, match="even sides of at least 14 pixels, not 29 x 28"):
        build(ModelSpec(kind="unet"), (29, 28, 1), 2)
