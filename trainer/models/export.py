"""The network as it is exported: logits with the evidence for them."""

from __future__ import annotations

from typing import Any

from trainer.backend import keras, tf

__all__ = ["export"]


def export(model: Any) -> tuple[Any, Any]:
    """A concrete function of ``image[1, H, W, C]`` and the object that owns its variables.

    Of these it returns what the network has: ``logits[1, K]``; ``embedding[1, D]``; ``mask[1, H, W, K]``;
    ``cam[1, h, w, K]``, the class activation map: the head's own weights as a 1x1 convolution on the last
    feature map, so that its mean over the map plus the head's bias is exactly the logits (Zhou et al. 2016).
    """
    layers = {layer.name: layer for layer in model.layers}
    wanted = [name for name in ("logits", "embedding", "features", "mask") if name in layers]
    # Without a name of its own the model gets a running number, which would end up in the file.
    network = keras.Model(model.input, {name: layers[name].output for name in wanted}, name=model.name)
    head = layers["logits"].kernel

    def serve(image: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = network(image, training=False)
        if "features" in outputs:
            kernel = head[tf.newaxis, tf.newaxis]
            outputs["cam"] = tf.nn.conv2d(outputs.pop("features"), kernel, strides=1, padding="VALID")
        return outputs

    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    # The converter saves the owner with all that hangs on it; a Keras model would take it four times as long.
    owner = tf.Module()
    owner.weights = network.weights
    return tf.function(serve, autograph=False).get_concrete_function(image), owner
