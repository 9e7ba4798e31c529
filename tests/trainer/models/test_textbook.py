"""The textbook network is the lesson's: 1/255 and one sigmoid fold into it without a difference."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.backend import keras, tf
from trainer.models import build
from trainer.recipe import load_recipe


def test_the_lessons_weights_give_the_same_probabilities_and_the_same_loss() -> None:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    lesson = keras.Sequential(
        [
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu", bias_initializer="random_normal"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu", bias_initializer="random_normal"),
            layers.Dense(1, activation="sigmoid", bias_initializer="random_normal"),
        ]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3)).astype(np.float32)
    truth = np.arange(16) % 2
    expected = np.asarray(lesson(pixels))[:, 0]

    ours = build(load_recipe("textbook").model, (64, 64, 3), 2)
    kernel, bias, hidden, hidden_bias, last, last_bias = lesson.get_weights()
    share = 128 / 255
    ours.set_weights(
        [
            kernel * share,
            bias + share * kernel.sum(axis=(0, 1, 2)),
            *(hidden, hidden_bias),
            np.concatenate([np.zeros_like(last), last], axis=1),
            np.concatenate([np.zeros_like(last_bias), last_bias]),
        ]
    )
    logits = ours(pixels / 128 - 1)
    assert np.asarray(tf.nn.softmax(logits))[:, 1] == pytest.approx(expected, abs=2e-6)
    assert np.ptp(expected) > 0.01
    binary = -np.log(np.where(truth, expected, 1 - expected)).mean()
    ours_loss = tf.nn.softmax_cross_entropy_with_logits(tf.one_hot(truth, 2), logits)
    assert float(tf.reduce_mean(ours_loss)) == pytest.approx(binary, rel=1e-5)
