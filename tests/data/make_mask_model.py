"""Write mask.tflite: a small int8 network with hand-set weights, the same file every time.

It outlines what is brighter than middle gray: 64 x 64 gray in; a mask of (background, ventricle) and logits
that the image shows nothing, or a ventricle, out. Run with the training dependencies installed:
python tests/data/make_mask_model.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

AVERAGE = np.full((3, 3, 1, 1), 1 / 9, np.float32)
SIDES = np.array([[-8, 8]], np.float32)


class Mask(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, 64, 64, 1], tf.float32, name="image")])
    def run(self, image):
        bright = tf.nn.conv2d(image, AVERAGE, 1, "SAME")
        share = tf.reduce_mean(tf.nn.relu(bright), axis=[1, 2])
        return {
            "a_logits": tf.matmul(share, 12 * SIDES) + np.array([2, -2], np.float32),
            "b_mask": tf.nn.conv2d(bright, SIDES[np.newaxis, np.newaxis], 1, "SAME"),
        }


def calibration():
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for _ in range(64):
        pixels = random.normal(random.uniform(40, 90), 12, (64, 64))
        pixels[np.hypot(rows - 32, columns - 32) < random.uniform(0, 20)] += 140
        yield [(np.clip(pixels, 0, 255).round().astype(np.float32) / 128 - 1).reshape(1, 64, 64, 1)]
    yield [np.full((1, 64, 64, 1), -1, np.float32)]
    yield [np.full((1, 64, 64, 1), 127 / 128, np.float32)]


module = Mask()
converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = calibration
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
Path(__file__).with_name("mask.tflite").write_bytes(converter.convert())
