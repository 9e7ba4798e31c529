"""Write foreign/: a tiny network in the forms that people bring, from Keras 2 and 3.

Its weights are set by hand: it tells bright pictures from dark ones. Run with TensorFlow
and tf-keras installed: python tests/data/make_foreign_models.py
"""

import os
from pathlib import Path

os.environ.pop("TF_USE_LEGACY_KERAS", None)

import keras
import numpy as np
import tensorflow as tf
import tf_keras

AVERAGE = np.full((5, 5), 1 / 25)
ACROSS = np.outer(np.ones(5) / 5, [-1, -0.5, 0, 0.5, 1])
KERNELS = np.stack([AVERAGE, -AVERAGE, ACROSS, ACROSS.T], axis=-1)[:, :, np.newaxis]
OFFSETS = np.ones(4)
# dark, bright: brightness decides, the rest hardly matters.
WEIGHTS = np.array([[-6, 6], [0.2, -0.2], [0, 0.1], [0, 0.1]])
BIAS = np.array([5.4, -5.6])


def network(library, head="softmax", pool=True):
    """``head``: softmax, sigmoid (one output) or linear; without ``pool`` the features are flattened."""
    layers = library.layers
    image = layers.Input((32, 32, 1))
    conv = layers.Conv2D(4, 5, 4, padding="same", activation="relu")
    dense = layers.Dense(1 if head == "sigmoid" else 2, activation=None if head == "linear" else head)
    x = conv(image)
    x = layers.GlobalAveragePooling2D()(x) if pool else layers.Flatten()(x)
    model = library.Model(image, dense(x))
    conv.set_weights([KERNELS, OFFSETS])
    weights = WEIGHTS if pool else np.tile(WEIGHTS / 64, (64, 1))
    both = (weights[:, 1:] - weights[:, :1], BIAS[1:] - BIAS[:1]) if head == "sigmoid" else (weights, BIAS)
    dense.set_weights(list(both))
    return model


def lite(model, **settings):
    function = tf.function(lambda image: model(image, training=False))
    owner = tf.Module()
    owner.kept = [getattr(variable, "value", variable) for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function(tf.TensorSpec((1, 32, 32, 1)))], owner
    )
    for name, value in settings.items():
        setattr(converter, name, value)
    return converter.convert()


def pictures():
    random = np.random.default_rng(0)
    for level in np.linspace(20, 230, 64):
        pixels = np.clip(random.normal(level, 20, (32, 32)), 0, 255)
        pixels[0, 0], pixels[-1, -1] = 0, 255
        yield [(pixels / 128 - 1).astype(np.float32).reshape(1, 32, 32, 1)]


if __name__ == "__main__":
    out = Path(__file__).parent / "foreign"
    three, two = network(keras), network(tf_keras)
    three.save(out / "three.keras")
    three.save(out / "three.h5")
    three.export(out / "saved", verbose=False)
    two.save(out / "two.keras")
    two.save(out / "two.h5")
    single = network(keras, "sigmoid")
    single.save(out / "single.keras")
    (out / "single.tflite").write_bytes(lite(single))
    (out / "flat.tflite").write_bytes(lite(network(keras, "linear", pool=False)))
    (out / "float.tflite").write_bytes(lite(three))
    quantized = {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": pictures}
    (out / "int8.tflite").write_bytes(lite(three, **quantized))  # quantized inside, floats in and out
