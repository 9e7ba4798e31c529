"""Structured pruning: whole channels are removed from a network, which makes it smaller and faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Task
from edge.errors import BadInputError
from trainer.augmentation import scaled
from trainer.backend import keras, tf

__all__ = ["importance", "narrow"]

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

MULTIPLE = 8
"""Channels stay a multiple of this: the int8 kernels of XNNPACK compute so many at a time."""

IMAGES, BATCH = 512, 8
HEADS = ("logits", "mask")
LAYERS = keras.layers
PASSING = (
    LAYERS.Activation,
    LAYERS.AveragePooling2D,
    LAYERS.BatchNormalization,
    LAYERS.DepthwiseConv2D,
    LAYERS.Dropout,
    LAYERS.GlobalAveragePooling2D,
    LAYERS.GlobalMaxPooling2D,
    LAYERS.LeakyReLU,
    LAYERS.MaxPooling2D,
    LAYERS.ReLU,
    LAYERS.UpSampling2D,
    LAYERS.ZeroPadding2D,
)
"""Layers whose output has the channels of their input, one for one."""


def narrow(model: Any, keep: float, scores: Sequence[Floats]) -> Any:
    """A copy of ``model`` with the share ``keep`` of its channels, in every layer; itself it is not changed.

    Channels that additions and depthwise convolutions tie together stay or go together. Each set of tied
    layers keeps its most important channels, a multiple of 8 and at least 8. The input, the logits and the
    mask keep theirs.

    Args:
        model: a network of :mod:`trainer.models`, of one input, each layer used once.
        keep: over 0, up to 1.
        scores: of :func:`importance` of the same network.

    Raises:
        BadInputError: a layer is of a kind that channels cannot be followed through.
    """
    channels = _Channels(model)
    kept = channels.chosen(keep, scores)
    sizes = {
        name: int(kept[out].sum())
        for name, out in channels.out.items()
        if isinstance(model.get_layer(name), LAYERS.Conv2D | LAYERS.Dense)
    }

    def resized(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in sizes:
            config["units" if isinstance(layer, LAYERS.Dense) else "filters"] = sizes[layer.name]
        return type(layer).from_config(config)

    narrowed = keras.models.clone_model(model, clone_function=resized)
    for layer in model.layers:
        weights = layer.get_weights()
        if not weights:
            continue
        inside, out = kept[channels.into[layer.name]], kept[channels.out[layer.name]]
        if isinstance(layer, LAYERS.DepthwiseConv2D):
            weights = [weights[0][:, :, inside], *(bias[out] for bias in weights[1:])]
        elif isinstance(layer, LAYERS.Conv2D | LAYERS.Dense):
            weights = [weights[0][..., inside, :][..., out], *(bias[out] for bias in weights[1:])]
        else:
            weights = [array[out] for array in weights]
        narrowed.get_layer(layer.name).set_weights(weights)
    return narrowed


def importance(model: Any, pixels: NDArray[np.uint8], task: Task, seed: int) -> list[Floats]:
    """How much the answers would change without each channel: one array for each set of tied channels.

    The first-order Taylor expansion of a gate on the channel (Molchanov et al. 2019), squared and averaged
    over batches, with labels drawn from the network's own answers: the Fisher information (Theis et al.
    2018), hence the divergence from the unpruned network's answers, which the fine-tuning then lessens too.

    Args:
        model: as :func:`narrow` takes it.
        pixels: training images uint8 ``[n, H, W, C]``; at most 512 of them, evenly taken, are used.
        task: how the image's logits become probabilities; masks are classes of pixels in every task.
        seed: of the labels drawn.
    """
    channels = _Channels(model)
    gates = [
        layer
        for layer in model.layers
        if isinstance(layer, LAYERS.BatchNormalization)
        or (isinstance(layer, LAYERS.Conv2D | LAYERS.Dense) and layer.use_bias and layer.name not in HEADS)
    ]
    variables = [v for layer in gates for v in layer.weights if "moving_" not in v.name]
    places = np.concatenate([channels.out[layer.name] for layer in gates]) if gates else np.empty(0, np.int64)

    def terms(images: Any, number: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            answers = model(images, training=False)
            several = list(answers) if isinstance(answers, list | tuple) else [answers]
            loss = tf.add_n([_surprise(one, task, tf.stack([seed, number])) for one in several])
        slopes = dict(zip((v.ref() for v in variables), tape.gradient(loss, variables), strict=True))
        return tf.concat(
            [
                tf.add_n([tf.reduce_sum(tf.reshape(v * slopes[v.ref()], (-1, v.shape[-1])), 0) for v in own])
                for own in ([v for v in layer.weights if "moving_" not in v.name] for layer in gates)
            ],
            axis=0,
        )

    compiled = tf.function(terms, reduce_retracing=True)
    total = np.zeros(channels.count)
    for number, images in enumerate(_batches(pixels)):
        found = np.zeros(channels.count)
        np.add.at(found, places, np.asarray(compiled(scaled(images), tf.constant(number))))
        total += found**2
    return [total[own] for own in channels.sets]


def _surprise(logits: Any, task: Task, seed: Any) -> Any:
    """Minus the log likelihood, summed, of labels drawn from what ``logits`` say."""
    if task != "single-label" and len(logits.shape) == 2:
        drawn = tf.cast(tf.random.stateless_uniform(tf.shape(logits), seed) < tf.sigmoid(logits), tf.float32)
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(drawn, logits))
    flat = tf.reshape(logits, (-1, logits.shape[-1]))
    labels = tf.random.stateless_categorical(tf.stop_gradient(flat), 1, seed)[:, 0]
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, flat))


def _batches(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    chosen = pixels[:: max(1, -(-len(pixels) // IMAGES))]
    for start in range(0, len(chosen), BATCH):
        yield chosen[start : start + BATCH]


class _Channels:
    """Which channels of a network's layers are the same, or tied.

    ``into`` and ``out`` give, for each layer by name, a number for each channel of its input and output; tied
    channels have the same number. ``sets`` are arrays of the numbers that compete with each other.
    """

    def __init__(self, model: Any) -> None:
        self.tied: list[int] = []
        self.into: dict[str, Ids] = {}
        self.out: dict[str, Ids] = {}
        fixed: list[Ids] = []
        makers: dict[str, Ids] = {}
        for layer in model.layers:
            parents = [self.out[parent] for parent in _parents(layer)]
            out = self._follow(layer, parents)
            self.into[layer.name] = parents[0] if len(parents) == 1 else out
            self.out[layer.name] = out
            if isinstance(layer, LAYERS.InputLayer) or layer.name in HEADS:
                fixed.append(out)
            elif isinstance(layer, LAYERS.Conv2D | LAYERS.Dense):
                makers[layer.name] = out
        roots = np.array([self._root(number) for number in range(len(self.tied))])
        _, numbers = np.unique(roots, return_inverse=True)
        self.count = int(numbers.max()) + 1
        self.into = {name: numbers[ids] for name, ids in self.into.items()}
        self.out = {name: numbers[ids] for name, ids in self.out.items()}
        held = set(numbers[np.concatenate(fixed)].tolist())
        made_by: dict[int, list[str]] = {}
        for name, ids in makers.items():
            for number in numbers[ids].tolist():
                made_by.setdefault(number, []).append(name)
        sets: dict[tuple[str, ...], list[int]] = {}
        for number, names in sorted(made_by.items()):
            if number not in held:
                sets.setdefault(tuple(names), []).append(number)
        self.sets = [np.array(own, np.int64) for own in sets.values()]

    def chosen(self, keep: float, scores: Sequence[Floats]) -> NDArray[np.bool_]:
        """Whether each channel number stays."""
        kept = np.ones(self.count, bool)
        for own, score in zip(self.sets, scores, strict=True):
            stay = max(MULTIPLE, round(keep * len(own) / MULTIPLE) * MULTIPLE)
            kept[own[np.argsort(-score, kind="stable")[stay:]]] = False
        return kept

    def _follow(self, layer: Any, parents: list[Ids]) -> Ids:
        if isinstance(layer, LAYERS.InputLayer):
            return self._new(layer.output.shape[-1])
        if isinstance(layer, LAYERS.DepthwiseConv2D) and layer.depth_multiplier != 1:
            raise _unknown(layer)
        if isinstance(layer, PASSING):
            return parents[0]
        if isinstance(layer, LAYERS.Conv2D) and layer.groups == 1:
            return self._new(layer.filters)
        if isinstance(layer, LAYERS.Dense) and len(layer.input.shape) == 2:
            return self._new(layer.units)
        if isinstance(layer, LAYERS.Add):
            for other in parents[1:]:
                self._tie(parents[0], other)
            return parents[0]
        if isinstance(layer, LAYERS.Concatenate) and layer.axis in (-1, len(layer.output.shape) - 1):
            return np.concatenate(parents)
        if isinstance(layer, LAYERS.Flatten):
            return np.tile(parents[0], layer.output.shape[-1] // len(parents[0]))
        raise _unknown(layer)

    def _new(self, count: int) -> Ids:
        first = len(self.tied)
        self.tied.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _tie(self, one: Iterable[int], other: Iterable[int]) -> None:
        for a, b in zip(one, other, strict=True):
            self.tied[self._root(int(b))] = self._root(int(a))

    def _root(self, number: int) -> int:
        while self.tied[number] != number:
            self.tied[number] = self.tied[self.tied[number]]
            number = self.tied[number]
        return number


def _parents(layer: Any) -> list[str]:
    if isinstance(layer, LAYERS.InputLayer):
        return []
    nodes = layer.inbound_nodes
    if len(nodes) != 1:
        raise BadInputError(
            f"compression.channels: layer '{layer.name}' is used {len(nodes)} times; its channels cannot be "
            "removed"
        )
    before = nodes[0].inbound_layers
    return [parent.name for parent in (before if isinstance(before, list) else [before])]


def _unknown(layer: Any) -> BadInputError:
    return BadInputError(
        f"compression.channels: channels cannot be followed through layer '{layer.name}' "
        f"({type(layer).__name__}); leave compression.channels at 1 for this network"
    )
