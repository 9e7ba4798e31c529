"""What learning masks adds to learning labels: targets, loss and figures of a network's mask output."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.augmentation import move_masks, scaled
from trainer.backend import tf
from trainer.data.masks import LEAST_SHARE
from trainer.recipe import Augmentation

__all__ = ["dice", "mask_losses", "mask_targets", "split_outputs", "tuning_outputs"]


def mask_targets(masks: Any, classes: int, spec: Augmentation, seed: Any) -> tuple[Any, Any]:
    """Targets of a batch that :func:`trainer.augmentation.augment` changes with the same arguments.

    Args:
        masks: class indices, uint8 ``[n, H, W]``, before the change.
        classes: their number, K.
        spec, seed: of the images' augmentation.

    Returns:
        Presence float32 ``[n, K]``, as :func:`trainer.data.masks.presence` has it, and each pixel's class
        float32 ``[n, H, W, K]``, of the moved masks.
    """
    moved = tf.one_hot(move_masks(masks, spec, seed), classes)
    shown = tf.reduce_mean(moved[..., 1:], axis=(1, 2)) >= LEAST_SHARE
    background = ~tf.reduce_any(shown, axis=1, keepdims=True)
    return tf.cast(tf.concat([background, shown], axis=1), tf.float32), moved


def mask_losses(logits: Any, targets: Any) -> Any:
    """Cross-entropy of the pixels plus one minus the soft Dice overlap of the classes but the background.

    The sum of both as in nnU-Net (Isensee et al. 2021); the overlap with squares below the line as in V-Net
    (Milletari et al. 2016), so that it is best where prediction and target agree, soft targets of a teacher
    included. It is taken over the whole batch: a class that one image lacks would weigh as much as others.

    Args:
        logits: float ``[n, H, W, K]``.
        targets: probabilities ``[n, H, W, K]``.

    Returns:
        A scalar.
    """
    entropy = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
    said, known = tf.nn.softmax(logits)[..., 1:], targets[..., 1:]
    both = tf.reduce_sum(said * known, axis=(0, 1, 2))
    squares = tf.reduce_sum(said**2, axis=(0, 1, 2)) + tf.reduce_sum(known**2, axis=(0, 1, 2))
    return entropy + 1.0 - tf.reduce_mean((2.0 * both + 1.0) / (squares + 1.0))


def dice(logits: Any, targets: Any) -> Any:
    """Dice overlap at the most probable class, over the whole batch; the mean over the classes but the
    background that are there, 1 where there is nothing to find and nothing found.
    """
    classes = logits.shape[-1]
    said = tf.one_hot(tf.argmax(logits, axis=-1), classes)[..., 1:]
    known = tf.one_hot(tf.argmax(targets, axis=-1), classes)[..., 1:]
    both = tf.reduce_sum(said * known, axis=(0, 1, 2))
    either = tf.reduce_sum(said, axis=(0, 1, 2)) + tf.reduce_sum(known, axis=(0, 1, 2))
    there = tf.cast(either > 0.0, tf.float32)
    return tf.math.divide_no_nan(
        tf.reduce_sum(there * 2.0 * both / tf.maximum(either, 1.0)), tf.reduce_sum(there)
    ) + tf.cast(tf.reduce_sum(there) == 0.0, tf.float32)


def split_outputs(outputs: Any) -> tuple[Any, Any]:
    """Logits ``[n, K]`` and mask ``[n, H, W, K]`` of a network's outputs; no mask of a classifier's."""
    return (outputs[0], outputs[1]) if isinstance(outputs, list | tuple) else (outputs, None)


def tuning_outputs(
    model: Any, pixels: NDArray[np.uint8], masks: NDArray[np.uint8], batch: int = 32
) -> tuple[NDArray[np.float32], float, float]:
    """Logits ``[n, K]`` of prepared images, and loss and Dice of the masks, the means of batches."""
    logits, figures, sizes = [], [], []
    for start in range(0, len(pixels), batch):
        images, known = pixels[start : start + batch], masks[start : start + batch]
        answers, drawn = split_outputs(model(scaled(images), training=False))
        targets = tf.one_hot(known, drawn.shape[-1])
        logits.append(np.asarray(answers))
        figures.append([float(mask_losses(drawn, targets)), float(dice(drawn, targets))])
        sizes.append(len(images))
    loss, overlap = np.average(figures, axis=0, weights=sizes)
    return np.concatenate(logits), float(loss), float(overlap)
