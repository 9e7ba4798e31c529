"""The optimization of a network: batches, loss, schedule, early stopping, and going on after a kill."""

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
from trainer.averaging import MovingAverage
from trainer.backend import keras, tf
from trainer.checkpoint import Checkpoint, Progress
from trainer.evaluation.metrics import mean_auroc
from trainer.history import Epoch
from trainer.models.blocks import learned
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

    ``teacher``, a network or another callable that gives logits, has its probabilities learned from in place
    of the labels (Hinton et al. 2015); ``label_share`` of the targets stays the labels'. For the first
    ``head_epochs`` only the head learns. ``callbacks`` are Keras callbacks; ``eligible_from`` is the first
    epoch whose weights may be kept as the best. With a ``checkpoint`` a killed stage goes on from its last
    whole epoch, and a finished one is not done again.
    """

    stage: str
    task: Task
    training: Training
    augmentation: Augmentation
    seed: int
    epochs: int
    learning_rate: float
    teacher: Any = None
    label_share: float = 0.0
    head_epochs: int = 0
    callbacks: tuple[Any, ...] = ()
    eligible_from: int = 1
    checkpoint: Checkpoint | None = None


def fit(
    model: Any, train: Images, tune: Images, plan: Plan, on_epoch: Callable[[Epoch], None]
) -> list[Epoch]:
    """Train ``model`` in place and leave it with the weights of the epoch that had the least tuning loss.

    Along a cosine only the last fifth of the epochs is compared: before it the learning rate is so large that
    one epoch's weights are better than another's by chance. Stops early after ``plan.training.patience``
    epochs without a better tuning loss. ``on_epoch`` is called after each epoch. A model made under a
    ``tf.distribute`` strategy is trained by all its replicas, each on its share of every batch.
    """
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    batch = max(1, min(plan.training.batch_size, len(train.pixels)) // replicas) * replicas
    steps = len(train.pixels) // batch
    with strategy.scope():
        optimizer = _optimizer(plan.training)
        optimizer.build(learned(model))
    step = _train_step(model, optimizer, train, plan)
    average = MovingAverage(model, plan.training.average_decay)
    progress = Progress(model, optimizer, average, plan.checkpoint)
    eligible_from = max(plan.eligible_from, _settled_from(plan))
    for past in progress.history:
        on_epoch(past)
    for callback in plan.callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    for epoch in range(len(progress.history) + 1, plan.epochs + 1):
        if progress.finished:
            break
        began = time.perf_counter()
        # An epoch's order and changes depend on the seed and its number alone, also after a kill.
        order = np.random.default_rng([plan.seed, epoch]).permutation(len(train.pixels))
        sums = np.zeros(3)
        for number in range(steps):
            done = (epoch - 1) * steps + number
            optimizer.learning_rate.assign(_learning_rate(plan, done, plan.epochs * steps))
            indices = tf.constant(order[number * batch : (number + 1) * batch])
            sums += np.asarray(
                step(indices, tf.constant([plan.seed, done], tf.int64), epoch <= plan.head_epochs)
            )
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
            learning_rate=_learning_rate(plan, epoch * steps - 1, plan.epochs * steps),
            seconds=time.perf_counter() - began,
            dice=None if train.masks is None else float(sums[2] / steps),
            **figures,
        )
        on_epoch(record)
        if epoch >= eligible_from:
            progress.judge(record.tune_loss, weights)
        progress.save(record, epoch == plan.epochs or progress.since_best >= plan.training.patience)
    model.set_weights(progress.best_weights)
    return progress.history


def predict(model: Any, pixels: NDArray[np.uint8], batch: int = 128) -> NDArray[np.float32]:
    """Logits ``[n, K]`` of prepared images, by the Keras network."""
    parts = [
        np.asarray(model(scaled(pixels[start : start + batch]), training=False))
        for start in range(0, len(pixels), batch)
    ]
    return np.concatenate(parts)


def _train_step(model: Any, optimizer: Any, train: Images, plan: Plan) -> Any:
    """One optimization step as a function of image indices ``[batch]``, a seed ``[2]`` and whether only the
    head learns; gives the mean loss and accuracy, and the masks' Dice, 0 without any."""
    masks = None if train.masks is None else tf.constant(train.masks)
    data = Images(tf.constant(train.pixels), tf.constant(train.targets), masks)
    class_weights = _class_weights(train.targets, plan)
    strategy, training = model.distribute_strategy, plan.training
    replicas = strategy.num_replicas_in_sync
    everything = learned(model)
    decayed = [v for v in everything if "kernel" in v.name]
    # AdamW decays the weights itself; for the others the penalty belongs to the loss.
    penalty = training.weight_decay if training.optimizer != "adamw" else 0.0
    head = model.get_layer("logits").trainable_variables if plan.head_epochs else []

    def replica_step(indices: Any, seed: Any, head_only: bool) -> tuple[Any, ...]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = tf.shape(indices)[0] // replicas
        mine = indices[replica * share : (replica + 1) * share]
        images, targets, masks = _batch(data, mine, seed + tf.cast(replica, tf.int64), plan)
        with tf.GradientTape() as tape:
            logits, drawn = split_outputs(model(images, training=not head_only))
            losses = _losses(logits, targets, plan.task)
            loss = tf.reduce_mean(losses * _sample_weights(targets, class_weights, plan.task))
            if masks is not None:
                loss += mask_losses(drawn, masks)
            total = loss
            if penalty:
                total = loss + penalty * tf.add_n([tf.nn.l2_loss(v) for v in decayed])
            total = total / replicas
        learning = head if head_only else everything
        optimizer.apply_gradients(zip(tape.gradient(total, learning), learning, strict=True))
        overlap = tf.constant(0.0) if masks is None else dice(drawn, masks)
        return loss, _accuracy(logits, targets, plan.task), overlap

    def step(indices: Any, seed: Any, head_only: bool) -> Any:
        results = strategy.run(replica_step, args=(indices, seed, head_only))
        return tf.stack([strategy.reduce("MEAN", result, axis=None) for result in results])

    return tf.function(step, reduce_retracing=True, autograph=False)


def _batch(data: Images, indices: Any, seed: Any, plan: Plan) -> tuple[Any, Any, Any]:
    """Augmented and scaled images, and what they should give: labels and, in a segmentation, masks."""
    images = scaled(augment(tf.gather(data.pixels, indices), plan.augmentation, seed))
    targets: Any = tf.gather(data.targets, indices)
    masks: Any = None
    if data.masks is not None:
        moved = tf.gather(data.masks, indices)
        targets, masks = mask_targets(moved, data.targets.shape[1], plan.augmentation, seed)
    if plan.training.label_smoothing:
        rest = 1.0 / data.targets.shape[1] if plan.task == "single-label" else 0.5
        targets = targets * (1.0 - plan.training.label_smoothing) + rest * plan.training.label_smoothing
    if plan.training.mixup:
        images, targets = mixup(images, targets, plan.training.mixup, seed)
    if plan.teacher is not None:
        logits, drawn = split_outputs(plan.teacher(images, training=False))
        keep, take = plan.label_share, 1.0 - plan.label_share
        targets = keep * targets + take * _probabilities(logits, plan.task)
        masks = None if drawn is None else keep * masks + take * tf.nn.softmax(drawn)
    return images, targets, masks


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


def _settled_from(plan: Plan) -> int:
    """The first epoch whose learning rate is so small that its weights have settled."""
    return 1 if plan.training.schedule == "constant" else plan.epochs - max(1, plan.epochs // 5) + 1


def _learning_rate(plan: Plan, step: int, steps: int) -> float:
    """Linear warm-up over the first steps, then half a cosine to nothing (Loshchilov and Hutter 2017)."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return plan.learning_rate * (step + 1) / warm_up
    if plan.training.schedule == "constant":
        return plan.learning_rate
    return plan.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
