"""Write tiny.tflite: a small int8 network with hand-set weights, the same file every time.

It finds bright spots: 32 x 32 gray in; logits for (normal, lesion), an 8 x 8 activation map and an embedding
of four numbers out. Run with the training dependencies installed: python tests/data/make_tiny_model.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

AVERAGE = np.full((5, 5), 1 / 25)
ACROSS = np.outer(np.ones(5) / 5, [-1, -0.5, 0, 0.5, 1])
KERNELS = np.stack([AVERAGE, -AVERAGE, ACROSS, ACROSS.T], axis=-1)[:, :, np.newaxis].astype(np.float32)
OFFSETS = np.array([-0.1, 0.0, 0.0, 0.0], np.float32)
# normal, lesion: brightness speaks for a lesion, the rest hardly matters.
WEIGHTS = np.array([[-60, 60], [0.2, -0.2], [0, 0.1], [0, 0.1]], np.float32)
BIAS = np.array([1, -1], np.float32)


class Tiny(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, 32, 32, 1], tf.float32, name="image")])
    def run(self, image):
        features = tf.nn.relu(tf.nn.conv2d(image, KERNELS, 4, "SAME") + OFFSETS)
        embedding = tf.reduce_mean(features, axis=[1, 2])
        return {
            "a_logits": tf.matmul(embedding, WEIGHTS) + BIAS,
            "b_cam": tf.nn.conv2d(features, WEIGHTS[np.newaxis, np.newaxis], 1, "SAME"),
            "c_embedding": embedding,
        }


def calibration():
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for _ in range(64):
        pixels = random.normal(random.uniform(40, 110), 20, (32, 32))
        row, column, radius = random.uniform(6, 26), random.uniform(6, 26), random.uniform(0, 8)
        pixels[np.hypot(rows - row, columns - column) < radius] += 130
        yield [(np.clip(pixels, 0, 255).round().astype(np.float32) / 128 - 1).reshape(1, 32, 32, 1)]
    yield [np.full((1, 32, 32, 1), -1, np.float32)]


module = Tiny()
converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = calibration
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
Path(__file__).with_name("tiny.tflite").write_bytes(converter.convert())
