"""TFLite Metadata (metadata_schema.fbs, ``M001``): the little that MediaPipe Tasks asks of a model."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence

import flatbuffers

__all__ = ["LABEL_FILE", "METADATA_NAME", "append_labels", "model_metadata"]

METADATA_NAME = "TFLITE_METADATA"
"""Of the entry in the model's metadata whose buffer holds this."""
LABEL_FILE = "labels.txt"

_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1
_NORMALIZATION_OPTIONS = 1
_RGB = 1
_TENSOR_AXIS_LABELS = 2

_Field = tuple[int, Callable[[flatbuffers.Builder, int], None]]


def model_metadata(
    name: str, description: str, version: str, mean: Sequence[float], std: Sequence[float]
) -> bytes:
    """The metadata of a model with one RGB image in and one tensor of scores, or masks, out.

    Args:
        name, description, version: of the model, for people.
        mean, std: of the pixels 0..255, as a float model would take them; one value, or one a channel.
    """
    b = flatbuffers.Builder(1024)
    normalization = _table(b, (0, _offset(_floats(b, mean))), (1, _offset(_floats(b, std))))
    unit = _table(b, (0, _byte(_NORMALIZATION_OPTIONS)), (1, _offset(normalization)))
    image = _table(b, (0, _byte(_RGB)))
    content = _table(b, (0, _byte(_IMAGE_PROPERTIES)), (1, _offset(image)))
    range_ = _table(b, (0, _offset(_floats(b, [255.0]))), (1, _offset(_floats(b, [0.0]))))
    picture = _table(
        b,
        (0, _offset(b.CreateString("image"))),
        (3, _offset(content)),
        (4, _offset(_offsets(b, [unit]))),
        (5, _offset(range_)),
    )
    labels = _table(b, (0, _offset(b.CreateString(LABEL_FILE))), (2, _byte(_TENSOR_AXIS_LABELS)))
    feature = _table(b)
    said = _table(b, (0, _byte(_FEATURE_PROPERTIES)), (1, _offset(feature)))
    scores = _table(
        b,
        (0, _offset(b.CreateString("score"))),
        (3, _offset(said)),
        (6, _offset(_offsets(b, [labels]))),
    )
    graph = _table(b, (2, _offset(_offsets(b, [picture]))), (3, _offset(_offsets(b, [scores]))))
    texts = [(0, name), (1, description), (2, version), (5, "see MODEL_CARD.md"), (7, "1.0.0")]
    strings = [(slot, _offset(b.CreateString(text))) for slot, text in texts]
    root = _table(b, *strings, (3, _offset(_offsets(b, [graph]))))
    b.Finish(root, b"M001")
    return bytes(b.Output())


def append_labels(model: bytes, labels: Sequence[str]) -> bytes:
    """The model with its label file appended as a stored ZIP member, where MediaPipe looks for it."""
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo(LABEL_FILE, date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(info, "".join(f"{label}\n" for label in labels))
    return buffer.getvalue()


def _table(b: flatbuffers.Builder, *fields: _Field) -> int:
    b.StartObject(max((slot for slot, _ in fields), default=-1) + 1)
    for slot, put in fields:
        put(b, slot)
    return int(b.EndObject())


def _offset(value: int) -> Callable[[flatbuffers.Builder, int], None]:
    return lambda b, slot: b.PrependUOffsetTRelativeSlot(slot, value, 0)


def _byte(value: int) -> Callable[[flatbuffers.Builder, int], None]:
    return lambda b, slot: b.PrependUint8Slot(slot, value, 0)


def _floats(b: flatbuffers.Builder, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return int(b.EndVector())


def _offsets(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependUOffsetTRelative(value)
    return int(b.EndVector())
