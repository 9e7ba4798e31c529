"""The optimization of a network: batches, loss, schedule, early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Task
from trainer.augmentation import augment, mixup, scaled
from trainer.backend import keras, tf
from trainer.evaluation.metrics import mean_auroc
from trainer.history import Epoch
from trainer.recipe import Augmentation, Training
from trainer.segmentation import dice, mask_losses, mask_targets, split_outputs, tuning_outputs

__all__ = ["Images", "Plan", "fit", "predict"]

WARM_UP_SHARE = 0.05


@dataclass(frozen=True)
class Images:
    """Prepared images in memory: uint8 ``[n, H, W, C]`` with float32 targets ``[n, K]`` of zeros and ones.

    In a segmentation also masks of class indices, uint8 ``[n, H, W]``; the targets then are the classes'
    presence.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.float32]
    masks: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Plan:
    """One stage of training.

    ``teacher`` is a network whose probabilities replace the labels (Hinton et al. 2015). ``callbacks`` are
    Keras callbacks; ``eligible_from`` is the first epoch whose weights may be kept as the best.
    """

    stage: str
    task: Task
    training: Training
    augmentation: Augmentation
    seed: int
    epochs: int
    learning_rate: float
    teacher: Any = None
    callbacks: tuple[Any, ...] = ()
    eligible_from: int = 1


def fit(
    model: Any, train: Images, tune: Images, plan: Plan, on_epoch: Callable[[Epoch], None]
) -> list[Epoch]:
    """Train ``model`` in place and leave it with the weights of the epoch that had the least tuning loss.

    Stops early after ``plan.training.patience`` epochs without a better tuning loss. ``on_epoch`` is called
    after each epoch.
    """
    batch = min(plan.training.batch_size, len(train.pixels))
    steps = len(train.pixels) // batch
    batches = _batches(train, batch, plan)
    optimizer = _optimizer(plan.training)
    optimizer.build(model.trainable_variables)
    step = _train_step(model, optimizer, _class_weights(train.targets, plan), plan)
    average = _MovingAverage(model, plan.training.average_decay)
    best, best_weights, since_best = math.inf, model.get_weights(), 0
    history: list[Epoch] = []
    for callback in plan.callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    for epoch in range(1, plan.epochs + 1):
        began = time.perf_counter()
        sums = np.zeros(3)
        for number, (images, *targets) in enumerate(batches):
            optimizer.learning_rate.assign(
                _learning_rate(plan, (epoch - 1) * steps + number, plan.epochs * steps)
            )
            sums += np.asarray(step(images, *targets))
            average.update()
        for callback in plan.callbacks:
            callback.on_epoch_end(batch=steps - 1)
        with average:
            figures = _tuning_figures(model, tune, plan.task)
            weights = model.get_weights()
        record = Epoch(
            stage=plan.stage,
            epoch=epoch,
            loss=float(sums[0] / steps),
            accuracy=float(sums[1] / steps),
            learning_rate=float(optimizer.learning_rate),
            seconds=time.perf_counter() - began,
            dice=None if train.masks is None else float(sums[2] / steps),
            **figures,
        )
        history.append(record)
        on_epoch(record)
        if epoch < plan.eligible_from:
            continue
        if record.tune_loss < best:
            best, best_weights, since_best = record.tune_loss, weights, 0
        elif (since_best := since_best + 1) >= plan.training.patience:
            break
    model.set_weights(best_weights)
    return history


def predict(model: Any, pixels: NDArray[np.uint8], batch: int = 128) -> NDArray[np.float32]:
    """Logits ``[n, K]`` of prepared images, by the Keras network."""
    parts = [
        np.asarray(model(scaled(pixels[start : start + batch]), training=False))
        for start in range(0, len(pixels), batch)
    ]
    return np.concatenate(parts)


def _batches(train: Images, batch: int, plan: Plan) -> Any:
    """Shuffled, augmented, scaled batches; full ones only, as a rest of two would upset the batch norms."""
    images, labels = tf.constant(train.pixels), tf.constant(train.targets)
    masks = None if train.masks is None else tf.constant(train.masks)
    smoothing = plan.training.label_smoothing

    def make(indices: Any, seed: Any) -> tuple[Any, ...]:
        pixels = augment(tf.gather(images, indices), plan.augmentation, seed)
        targets, drawn = tf.gather(labels, indices), None
        if masks is not None:
            moved = tf.gather(masks, indices)
            targets, drawn = mask_targets(moved, train.targets.shape[1], plan.augmentation, seed)
        if smoothing:
            rest = 1.0 / train.targets.shape[1] if plan.task == "single-label" else 0.5
            targets = targets * (1.0 - smoothing) + rest * smoothing
        pixels = scaled(pixels)
        if drawn is not None:
            return pixels, targets, drawn
        if plan.training.mixup:
            pixels, targets = mixup(pixels, targets, plan.training.mixup, seed)
        return pixels, targets

    count = len(train.pixels)
    indices = tf.data.Dataset.range(count).shuffle(count, seed=plan.seed).batch(batch, drop_remainder=True)
    seeds = tf.data.Dataset.random(seed=plan.seed, rerandomize_each_iteration=True).batch(2)
    return tf.data.Dataset.zip(indices, seeds).map(make, num_parallel_calls=2).prefetch(2)


def _train_step(model: Any, optimizer: Any, class_weights: Any, plan: Plan) -> Any:
    decayed = [v for v in model.trainable_variables if "kernel" in v.name]
    # AdamW decays the weights itself; for the others the penalty belongs to the loss.
    penalty = plan.training.weight_decay if plan.training.optimizer != "adamw" else 0.0

    def step(images: Any, targets: Any, masks: Any = None) -> Any:
        if plan.teacher is not None:
            taught, drawn = split_outputs(plan.teacher(images, training=False))
            targets = _probabilities(taught, plan.task)
            masks = None if drawn is None else tf.nn.softmax(drawn)
        with tf.GradientTape() as tape:
            logits, drawn = split_outputs(model(images, training=True))
            losses = _losses(logits, targets, plan.task)
            loss = tf.reduce_mean(losses * _sample_weights(targets, class_weights, plan.task))
            if masks is not None:
                loss += mask_losses(drawn, masks)
            total = loss
            if penalty:
                total = loss + penalty * tf.add_n([tf.nn.l2_loss(v) for v in decayed])
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        overlap = tf.constant(0.0) if masks is None else dice(drawn, masks)
        return tf.stack([loss, _accuracy(logits, targets, plan.task), overlap])

    return tf.function(step, reduce_retracing=True)


def _losses(logits: Any, targets: Any, task: Task) -> Any:
    """Cross-entropy: over the classes, or over each label on its own; float ``[n, 1]`` or ``[n, K]``."""
    if task == "single-label":
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)[:, tf.newaxis]
    return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)


def _sample_weights(targets: Any, class_weights: Any, task: Task) -> Any:
    if task == "single-label":
        return tf.reduce_sum(targets * class_weights[1], axis=1, keepdims=True)
    return targets * class_weights[1] + (1.0 - targets) * class_weights[0]


def _class_weights(targets: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    """Float32 ``[2, K]``: weights of a label's absence and presence, in inverse proportion to how often."""
    if not plan.training.class_weights or plan.task == "segmentation":
        return np.ones((2, targets.shape[1]), np.float32)
    present = np.maximum(targets.sum(axis=0), 1.0)
    if plan.task == "single-label":
        weights = len(targets) / (targets.shape[1] * present)
        return np.stack([np.ones_like(weights), weights]).astype(np.float32)
    absent = np.maximum(len(targets) - present, 1.0)
    return np.stack([len(targets) / (2 * absent), len(targets) / (2 * present)]).astype(np.float32)


def _probabilities(logits: Any, task: Task) -> Any:
    return tf.nn.softmax(logits) if task == "single-label" else tf.sigmoid(logits)


def _accuracy(logits: Any, targets: Any, task: Task) -> Any:
    if task == "single-label":
        right = tf.argmax(logits, axis=1) == tf.argmax(targets, axis=1)
    else:
        right = (logits > 0.0) == (targets > 0.5)
    return tf.reduce_mean(tf.cast(right, tf.float32))


def _tuning_figures(model: Any, tune: Images, task: Task) -> dict[str, Any]:
    targets, mask_loss, overlap = tune.targets, 0.0, None
    if tune.masks is None:
        logits = predict(model, tune.pixels)
    else:
        logits, mask_loss, overlap = tuning_outputs(model, tune.pixels, tune.masks)
    return {
        "tune_loss": float(tf.reduce_mean(_losses(logits, targets, task))) + mask_loss,
        "tune_accuracy": float(_accuracy(logits, targets, task)),
        "tune_auroc": mean_auroc(np.asarray(_probabilities(logits, task), np.float64), targets > 0.5),
        "tune_dice": overlap,
    }


def _optimizer(training: Training) -> Any:
    if training.optimizer == "sgd":
        return keras.optimizers.SGD(training.learning_rate, momentum=0.9, nesterov=True)
    if training.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(training.learning_rate, weight_decay=training.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    return keras.optimizers.Adam(training.learning_rate)


def _learning_rate(plan: Plan, step: int, steps: int) -> float:
    """Linear warm-up over the first steps, then half a cosine to nothing (Loshchilov and Hutter 2017)."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return plan.learning_rate * (step + 1) / warm_up
    if plan.training.schedule == "constant":
        return plan.learning_rate
    return plan.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


class _MovingAverage:
    """Exponential moving average of what a model has learned; inside ``with`` the model has it.

    The statistics of batch normalization belong to the weights they were taken with, so they are averaged
    too: averaged weights under the last few batches' statistics give results that jump from epoch to epoch.
    """

    def __init__(self, model: Any, decay: float) -> None:
        learned = [v for v in model.variables if v.trainable or "/moving_" in v.name]
        self.variables = learned if decay else []
        self.shadows = [tf.Variable(v, trainable=False) for v in self.variables]
        self.decay = decay
        self.updates = 0
        self.update_shadows = tf.function(self._update_shadows)

    def update(self) -> None:
        """Take the weights after a step in; early on with less memory, so that the start is forgotten."""
        if self.variables:
            self.updates += 1
            self.update_shadows(
                tf.constant(min(self.decay, self.updates / (self.updates + 10.0)), tf.float32)
            )

    def _update_shadows(self, decay: Any) -> None:
        for shadow, variable in zip(self.shadows, self.variables, strict=True):
            shadow.assign(decay * shadow + (1.0 - decay) * variable)

    def __enter__(self) -> None:
        # What pruning has set to nothing stays nothing, whatever it was earlier.
        for shadow, variable in zip(self.shadows, self.variables, strict=True):
            shadow.assign(tf.where(variable == 0.0, 0.0, shadow))
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        for shadow, variable in zip(self.shadows, self.variables, strict=True):
            kept = variable.numpy()
            variable.assign(shadow)
            shadow.assign(kept)
