"""Random changes of training images, a whole batch at a time, as a recipe declares them."""

from __future__ import annotations

import math
from typing import Any

from trainer.backend import tf
from trainer.recipe import Augmentation

__all__ = ["augment", "mixup", "move_masks", "scaled", "transforms"]


def scaled(pixels: Any) -> Any:
    """Pixels (0..255) as the network takes them: ``p / 128 - 1``, so that the int8 input is ``p - 128``."""
    return tf.cast(pixels, tf.float32) / 128.0 - 1.0


def augment(pixels: Any, spec: Augmentation, seed: Any) -> Any:
    """Randomly changed copies of a batch.

    Args:
        pixels: uint8 ``[n, H, W, C]``.
        spec: the largest changes; each image draws its own, evenly between none and the largest.
        seed: int64 ``[2]``; the same seed gives the same changes.

    Returns:
        float32 ``[n, H, W, C]``, 0..255. What a shift or a rotation uncovers repeats the nearest edge.
    """
    draw = _Draws(pixels, seed)
    x = tf.cast(pixels, tf.float32)
    if _moves(spec):  # first: move_masks() draws the same
        x = _move(x, spec, draw)
    x = x / 255.0
    if spec.blur:
        x = _blur(x, spec.blur, draw)
    if spec.exposure:
        x = _expose(x, spec.exposure, draw)
    if spec.gamma:
        x = tf.pow(x, tf.exp(draw.image(math.log1p(spec.gamma))))
    if spec.contrast:
        mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
        x = (x - mean) * tf.exp(draw.image(math.log1p(spec.contrast))) + mean
    if spec.brightness:
        x = x + draw.image(spec.brightness)
    if spec.grid:
        x = x * (1.0 + _lines(x, spec.grid, draw))
    if spec.gain:
        x = x * tf.exp(_along_depth(x, math.log1p(spec.gain), draw))
    if spec.shadow:
        x = x * (1.0 - _shadow(x, spec.shadow, draw))
    if spec.speckle:
        x = x * (1.0 + draw.noise(spec.speckle))
    if spec.noise:
        x = x + draw.noise(spec.noise)
    x = tf.clip_by_value(x, 0.0, 1.0)
    if spec.erase:
        x = _erase(x, spec.erase, draw)
    return x * 255.0


def move_masks(masks: Any, spec: Augmentation, seed: Any) -> Any:
    """Masks moved as :func:`augment` moves the images of the same ``seed``; nothing else changes a mask.

    ``masks`` is uint8 ``[n, H, W]`` of class indices, and so is the result, of the nearest pixel's class.
    """
    if not _moves(spec):
        return masks
    x = tf.cast(masks[..., tf.newaxis], tf.float32)
    return tf.cast(_move(x, spec, _Draws(x, seed), "NEAREST")[..., 0], tf.uint8)


def mixup(images: Any, targets: Any, alpha: float, seed: Any) -> tuple[Any, Any]:
    """Each image and its targets blended with the next one's, in shares from Beta(alpha, alpha).

    Zhang et al. 2018. ``images`` is float ``[n, H, W, C]``, ``targets`` float ``[n, K]``.
    """
    count = tf.shape(images)[0]
    gammas = tf.random.stateless_gamma([2, count], seed + 1, alpha) + 1e-6
    share = gammas[0] / (gammas[0] + gammas[1])
    share = tf.maximum(share, 1.0 - share)
    by_image, by_target = share[:, None, None, None], share[:, None]
    return (
        by_image * images + (1.0 - by_image) * tf.roll(images, 1, axis=0),
        by_target * targets + (1.0 - by_target) * tf.roll(targets, 1, axis=0),
    )


class _Draws:
    """Random numbers for one batch; every call gives new ones, the same for the same seed."""

    def __init__(self, pixels: Any, seed: Any) -> None:
        self.shape = tf.shape(pixels)
        self.count = self.shape[0]
        self.seed = tf.cast(seed, tf.int64)
        self.calls = 0

    def next(self) -> Any:
        """A seed ``[2]`` that nothing else is drawn with."""
        self.calls += 1
        return self.seed + self.calls * 1_000_003

    def uniform(self, largest: float) -> Any:
        """``[n]`` in -largest..largest."""
        return tf.random.stateless_uniform([self.count], self.next(), -largest, largest)

    def image(self, largest: float) -> Any:
        """``[n, 1, 1, 1]`` in -largest..largest."""
        return self.uniform(largest)[:, None, None, None]

    def sign(self) -> Any:
        """``[n]`` of -1 or 1."""
        return tf.where(self.uniform(1.0) < 0.0, -1.0, 1.0)

    def noise(self, largest: float) -> Any:
        """``[n, H, W, C]``, normal; each image draws its standard deviation in 0..largest."""
        return tf.random.stateless_normal(self.shape, self.next()) * tf.abs(self.image(largest))


def _moves(spec: Augmentation) -> bool:
    return bool(
        spec.flip_left_right or spec.flip_up_down or spec.rotation_degrees or spec.shift or spec.scale
    )


def _move(x: Any, spec: Augmentation, draw: _Draws, interpolation: str = "BILINEAR") -> Any:
    height, width = x.shape[1], x.shape[2]
    ones = tf.ones([draw.count])
    matrices = transforms(
        draw.uniform(math.radians(spec.rotation_degrees)),
        tf.exp(draw.uniform(math.log1p(spec.scale))),
        draw.uniform(spec.shift * width),
        draw.uniform(spec.shift * height),
        draw.sign() if spec.flip_left_right else ones,
        draw.sign() if spec.flip_up_down else ones,
        (height, width),
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=matrices,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="NEAREST",
    )


def transforms(
    angle: Any, scale: Any, right: Any, down: Any, mirror: Any, upend: Any, size: tuple[int, int]
) -> Any:
    """Projective transforms ``[n, 8]`` (output to input pixel) about the centre of images of ``size``.

    ``angle`` in radians, ``scale`` enlarges above 1, ``right`` and ``down`` in pixels, ``mirror`` and
    ``upend`` are -1 to flip; each is float ``[n]``.
    """
    centre_y, centre_x = (size[0] - 1) / 2.0, (size[1] - 1) / 2.0
    a, b = tf.cos(angle) / scale * mirror, -tf.sin(angle) / scale * upend
    c, d = tf.sin(angle) / scale * mirror, tf.cos(angle) / scale * upend
    from_x, from_y = centre_x + right, centre_y + down
    zero = tf.zeros_like(angle)
    return tf.stack(
        [
            a,
            b,
            centre_x - a * from_x - b * from_y,
            c,
            d,
            centre_y - c * from_x - d * from_y,
            zero,
            zero,
        ],
        axis=1,
    )


def _expose(x: Any, largest: float, draw: _Draws) -> Any:
    """Another dose: brighter or darker by up to ``1 + largest`` times, and the fewer quanta the more noise.

    The standard deviation of quantum noise goes with the root of the signal; at the usual dose it is taken to
    be 1 % of full range at white.
    """
    dose = tf.exp(draw.image(math.log1p(largest)))
    noise = tf.random.stateless_normal(draw.shape, draw.next()) * 0.01
    # Noise may take the darkest pixels below nothing, which no detector gives and no gamma curve takes.
    return tf.maximum(x * dose + noise * tf.sqrt(tf.maximum(x, 0.0) / dose), 0.0)


def _blur(x: Any, largest: float, draw: _Draws) -> Any:
    """Each image blended with itself under a Gaussian of ``largest`` pixels: from sharp to that."""
    radius = max(1, math.ceil(2 * largest))
    weights = tf.exp(-0.5 * (tf.range(-radius, radius + 1, dtype=tf.float32) / largest) ** 2)
    weights /= tf.reduce_sum(weights)
    channels = x.shape[-1]
    blurred = tf.pad(x, [[0, 0], [radius, radius], [radius, radius], [0, 0]], "SYMMETRIC")
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        kernel = tf.tile(tf.reshape(weights, shape), [1, 1, channels, 1])
        blurred = tf.nn.depthwise_conv2d(blurred, kernel, [1, 1, 1, 1], "VALID")
    share = tf.abs(draw.image(1.0))
    return x + share * (blurred - x)


def _lines(x: Any, largest: float, draw: _Draws) -> Any:
    """Parallel lines of 2 to 6 pixels' period, along the rows or along the columns: a grid seen."""
    frequency = 2.0 * math.pi / (4.0 + 2.0 * draw.image(1.0))
    rows = tf.range(x.shape[1], dtype=tf.float32)[None, :, None, None]
    columns = tf.range(x.shape[2], dtype=tf.float32)[None, None, :, None]
    across = tf.where(draw.image(1.0) < 0.0, rows, columns)
    return tf.abs(draw.image(largest)) * tf.sin(frequency * across + draw.image(math.pi))


def _along_depth(x: Any, largest: float, draw: _Draws) -> Any:
    """``[n, H, 1, 1]``: a smooth error of time-gain compensation, from four values down the image."""
    points = tf.stack([draw.uniform(largest) for _ in range(4)], axis=1)[:, :, None, None]
    return tf.image.resize(points, (x.shape[1], 1), "bicubic")


def _shadow(x: Any, largest: float, draw: _Draws) -> Any:
    """Attenuation 0..1 of half the images: from some depth on, in a band with soft edges, as behind bone, gas
    or a lifted edge of the probe."""
    rows = tf.linspace(0.0, 1.0, x.shape[1])[None, :, None, None]
    columns = tf.linspace(-0.5, 0.5, x.shape[2])[None, None, :, None]
    half = tf.abs(draw.image(largest)) / 2.0 + 1e-3
    band = tf.sigmoid((half - tf.abs(columns - draw.image(0.5))) * 40.0)
    below = tf.sigmoid((rows - tf.abs(draw.image(0.8))) * 20.0)
    cast = tf.where(draw.image(1.0) < 0.0, 0.0, 0.3 + 0.6 * tf.abs(draw.image(1.0)))
    return band * below * cast


def _erase(x: Any, largest: float, draw: _Draws) -> Any:
    """One square of mean gray, its side up to ``largest`` of the image's, anywhere in the image."""
    half = tf.abs(draw.image(largest)) / 2.0
    rows = tf.linspace(-0.5, 0.5, x.shape[1])[None, :, None, None]
    columns = tf.linspace(-0.5, 0.5, x.shape[2])[None, None, :, None]
    inside = (tf.abs(rows - draw.image(0.5)) < half) & (tf.abs(columns - draw.image(0.5)) < half)
    return tf.where(inside, tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True), x)
