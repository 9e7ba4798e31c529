"""The Steps written out pixel by pixel in Python integers, and the test vectors made of them.

``python tests/support/step_reference.py`` writes ``docs/reference/step-vectors.json``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.steps import Crop, Denoise, Grayscale, Invert, Normalize, Pad, Resize, Rgb, Step
from edge.imaging.frame import Pixels

VECTORS = Path(__file__).parents[2] / "docs" / "reference" / "step-vectors.json"

Plane = list[list[int]]
Planes = list[Plane]


def reference(pixels: Pixels, step: Step) -> Pixels:
    """``step`` as its docstring in ``edge.bundle.steps`` words it."""
    stacked = pixels[:, :, None] if pixels.ndim == 2 else pixels
    planes: Planes = [stacked[:, :, c].tolist() for c in range(stacked.shape[2])]
    planes = _REFERENCE[step.op](planes, step)
    result = np.array(planes, np.uint8).transpose(1, 2, 0)
    return result[:, :, 0] if len(planes) == 1 else result


def _grayscale(planes: Planes, _: Any) -> Planes:
    if len(planes) == 1:
        return planes
    return [
        [
            [(9798 * r + 19235 * g + 3735 * b + 16384) >> 15 for r, g, b in zip(*rows, strict=True)]
            for rows in zip(*planes, strict=True)
        ]
    ]


def _rgb(planes: Planes, _: Any) -> Planes:
    return planes * 3 if len(planes) == 1 else planes


def _map(planes: Planes, function: Callable[[int], int]) -> Planes:
    return [[[function(p) for p in row] for row in plane] for plane in planes]


def _invert(planes: Planes, _: Any) -> Planes:
    return _map(planes, lambda p: 255 - p)


def _crop(planes: Planes, step: Crop) -> Planes:
    height, width = len(planes[0]), len(planes[0][0])
    rows = range(step.top * height // 1000, height - step.bottom * height // 1000)
    columns = range(step.left * width // 1000, width - step.right * width // 1000)
    return [[[plane[y][x] for x in columns] for y in rows] for plane in planes]


def _pad(planes: Planes, step: Pad) -> Planes:
    height, width = len(planes[0]), len(planes[0][0])
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = [[[step.value] * side for _ in range(side)] for _ in planes]
    for c, y, x in product(range(len(planes)), range(height), range(width)):
        padded[c][y + top][x + left] = planes[c][y][x]
    return padded


def _weights(source: int, target: int, method: str) -> list[list[tuple[int, int]]]:
    """For each output the (input, weight) pairs."""
    table = []
    for j in range(target):
        if method == "area":
            overlaps = (
                (i, min((j + 1) * source, (i + 1) * target) - max(j * source, i * target))
                for i in range(source)
            )
            table.append([(i, weight) for i, weight in overlaps if weight > 0])
        else:
            n = min(max((2 * j + 1) * source - target, 0), 2 * target * (source - 1))
            i, r = divmod(n, 2 * target)
            table.append([(i, 2 * target - r), *([(i + 1, r)] if r else [])])
    return table


def _resize(planes: Planes, step: Resize) -> Planes:
    down = _weights(len(planes[0]), step.height, step.method)
    across = _weights(len(planes[0][0]), step.width, step.method)
    total = sum(w for _, w in down[0]) * sum(w for _, w in across[0])

    def pixel(plane: Plane, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> int:
        value = sum(a * b * plane[y][x] for y, a in rows for x, b in columns)
        return (2 * value + total) // (2 * total)

    return [[[pixel(plane, rows, columns) for columns in across] for rows in down] for plane in planes]


def _denoise(planes: Planes, step: Denoise) -> Planes:
    height, width, reach = len(planes[0]), len(planes[0][0]), step.kernel // 2
    offsets = list(product(range(-reach, reach + 1), repeat=2))

    def median(plane: Plane, y: int, x: int) -> int:
        near = [plane[min(max(y + a, 0), height - 1)][min(max(x + b, 0), width - 1)] for a, b in offsets]
        return sorted(near)[len(near) // 2]

    return [[[median(plane, y, x) for x in range(width)] for y in range(height)] for plane in planes]


def _normalize(planes: Planes, step: Normalize) -> Planes:
    values = [p for plane in planes for row in plane for p in row]
    cumulative = [sum(p <= v for p in values) for v in range(256)]
    low = next(v for v in range(256) if 1000 * cumulative[v] > step.low * len(values))
    high = next(v for v in range(256) if 1000 * cumulative[v] >= step.high * len(values))
    if high <= low:
        return planes
    span = high - low
    return _map(planes, lambda p: (2 * 255 * (min(max(p, low), high) - low) + span) // (2 * span))


_REFERENCE: dict[str, Callable[[Planes, Any], Planes]] = {
    "grayscale": _grayscale,
    "rgb": _rgb,
    "invert": _invert,
    "crop": _crop,
    "pad": _pad,
    "resize": _resize,
    "denoise": _denoise,
    "normalize": _normalize,
}


def vectors() -> list[dict[str, Any]]:
    """Each with a name, steps as a manifest has them, and the image before and after."""
    return [_vector(name, pixels, steps) for name, pixels, steps in _cases()]


def unpack(image: dict[str, Any]) -> Pixels:
    """An image of a vector."""
    shape = image["height"], image["width"], *([3] if image["channels"] == 3 else [])
    return np.frombuffer(base64.b64decode(image["pixels"]), np.uint8).reshape(shape)


def _vector(name: str, pixels: Pixels, steps: Sequence[Step]) -> dict[str, Any]:
    after = pixels
    for step in steps:
        after = reference(after, step)
    return {
        "name": name,
        "steps": [step.model_dump() for step in steps],
        "input": _pack(pixels),
        "output": _pack(after),
    }


def _pack(pixels: Pixels) -> dict[str, Any]:
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "channels": 1 if pixels.ndim == 2 else 3,
        "pixels": base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode("ascii"),
    }


def _cases() -> Iterator[tuple[str, Pixels, Sequence[Step]]]:
    gray, colour = _image(7, 11), _image(6, 9, 3)
    for image, kind in ((gray, "gray"), (colour, "colour")):
        yield f"grayscale, {kind}", image, [Grayscale()]
        yield f"rgb, {kind}", image, [Rgb()]
        yield f"invert, {kind}", image, [Invert()]
        yield f"crop, {kind}", image, [Crop(top=100, bottom=300, left=250, right=499)]
        yield f"pad, {kind}", image, [Pad(value=17)]
        yield f"denoise 3, {kind}", image, [Denoise(kernel=3)]
        yield f"denoise 5, {kind}", image, [Denoise(kernel=5)]
        yield f"normalize, {kind}", image, [Normalize(low=100, high=900)]
        for method, (height, width) in product(("area", "linear"), ((3, 4), (13, 5), (20, 23), (1, 1))):
            name = f"resize {method} to {height} x {width}, {kind}"
            yield name, image, [Resize(height=height, width=width, method=method)]
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 1, 1], [255, 255, 255]]], np.uint8)
    yield "grayscale of primaries", primaries, [Grayscale()]
    yield "pad, upright with an odd pixel", _image(5, 2), [Pad(value=255)]
    yield "crop leaves one pixel", _image(1, 1), [Crop(top=499, bottom=499, left=999)]
    yield "crop rounds down", _image(9, 9), [Crop(top=111, bottom=112, left=333, right=334)]
    for method, size in product(("area", "linear"), ((1, 9), (9, 1), (1, 1))):
        yield (
            f"resize {method} of {size[0]} x {size[1]}",
            _image(*size),
            [Resize(height=4, width=6, method=method)],
        )
    halves = np.array([[0, 1], [1, 0], [254, 255], [255, 254]], np.uint8)
    yield "resize area rounds halves up", halves, [Resize(height=4, width=1)]
    yield "resize linear rounds halves up", halves, [Resize(height=2, width=1, method="linear")]
    for value in (0, 255):
        constant = np.full((5, 3), value, np.uint8)
        yield (
            f"constant {value}, every step that could move it",
            constant,
            [
                Denoise(),
                Normalize(),
                Resize(height=7, width=2),
                Resize(height=2, width=5, method="linear"),
            ],
        )
    yield "normalize between extremes", np.array([[10, 20, 30, 200]], np.uint8), [Normalize(low=0, high=1000)]
    yield (
        "normalize: one value holds both percentiles",
        np.array([[9] * 30 + [200]], np.uint8),
        [Normalize(high=900)],
    )
    yield "denoise of one column", _image(6, 1), [Denoise(kernel=5)]
    yield "denoise of one row", _image(1, 6), [Denoise(kernel=3)]
    yield (
        "a model's chain",
        _image(19, 26, 3),
        [
            Crop(top=50, left=50),
            Grayscale(),
            Denoise(),
            Normalize(),
            Pad(),
            Resize(height=8, width=8),
        ],
    )


def _image(height: int, width: int, channels: int = 1) -> Pixels:
    """Noise with extremes in it, from the size alone and without a library's generator."""
    state, values = height * 1000 + width * 10 + channels, []
    for _ in range(height * width * channels):
        state = (1103515245 * state + 12345) % 2**31
        values.append((state >> 16) % 300)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.minimum(np.array(values), 255).astype(np.uint8).reshape(shape)


def text() -> str:
    """The file's text: a vector a line."""
    lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors())
    return f'{{"schema_version":1,"vectors":[\n{lines}\n]}}\n'


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
