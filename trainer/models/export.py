"""The network as it is exported: logits with the evidence for them."""

from __future__ import annotations

from typing import Any

from trainer.backend import keras, tf

__all__ = ["export"]


def export(model: Any) -> tuple[Any, Any]:
    """A concrete function of ``image[1, H, W, C]`` and the object that owns its variables.

    It returns ``logits[1, K]``, ``embedding[1, D]`` (global average of the last feature map) and
    ``cam[1, h, w, K]``, the class activation map: the head's own weights as a 1x1 convolution on that feature
    map, so that its mean over the map plus the head's bias is exactly the logits (Zhou et al. 2016).
    """
    features = model.get_layer("features").output
    embedding = model.get_layer("embedding").output
    network = keras.Model(model.input, [model.output, embedding, features])
    head = model.get_layer("logits").kernel

    @tf.function(input_signature=[tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")])
    def serve(image: Any) -> dict[str, Any]:
        logits, pooled, last = network(image, training=False)
        cam = tf.nn.conv2d(last, head[tf.newaxis, tf.newaxis], strides=1, padding="VALID")
        return {"logits": logits, "embedding": pooled, "cam": cam}

    return serve.get_concrete_function(), network
