"""Tensors from a PyTorch ``.pth`` file of weights, without PyTorch and without running what the file says."""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInputError

__all__ = ["read_weights"]

LARGEST_BYTES = 256 << 20
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
DICTIONARY = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
STORAGES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch IntStorage": "<i4",
    "torch LongStorage": "<i8",
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# What reading damaged bytes comes to in pickletools, struct, zipfile and below.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """The named tensors of a saved ``state_dict``, in the ZIP format of PyTorch 1.6 or the bare one before.

    A pickle is a program. Here it is read as data: only the operations and names (an ordered dictionary, a
    tensor, a storage) that weights need are known, and nothing is called.

    Raises:
        BadInputError: the file is missing, damaged, over 256 MiB, or holds anything but tensors; the message
            names the file and what was found.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadInputError(f"{path}: over the {LARGEST_BYTES >> 20} MiB that a file of weights may have")
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        tensors, data = _read_zip(content) if zipfile.is_zipfile(content) else _read_legacy(content)
        return {name: _array(tensor, data[tensor.storage.key]) for name, tensor in tensors.items()}
    except DAMAGE as error:
        why = str(error) or "it ends too early"
        raise BadInputError(
            f"{path}: not a file of PyTorch weights ({why}); save one by torch.save(model.state_dict(), …)"
        ) from error


def _read_zip(content: io.BytesIO) -> tuple[dict[str, _Tensor], Mapping[str, bytes]]:
    with zipfile.ZipFile(content) as archive:
        # Members lie in a folder named after the file. PyTorch compresses none, so none can swell.
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "data.pkl" not in members:
            raise ValueError("a ZIP without data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise ValueError("a compressed member")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise ValueError("big-endian numbers")
        tensors = _state(_interpret(io.BytesIO(archive.read(members["data.pkl"]))))
        keys = {tensor.storage.key for tensor in tensors.values()}
        return tensors, {key: archive.read(members[f"data/{key}"]) for key in keys}


def _read_legacy(content: io.BytesIO) -> tuple[dict[str, _Tensor], Mapping[str, bytes]]:
    content.seek(0)
    if _interpret(content) != LEGACY_MAGIC or _interpret(content) != LEGACY_PROTOCOL:
        raise ValueError("an unknown kind of file")
    if not _interpret(content)["little_endian"]:
        raise ValueError("big-endian numbers")
    tensors = _state(_interpret(content))
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    data = {}
    for key in _interpret(content):
        (count,) = struct.unpack("<q", content.read(8))
        if count != storages[key].count:
            raise ValueError(f"{count} numbers in storage '{key}' instead of {storages[key].count}")
        data[key] = content.read(count * np.dtype(storages[key].dtype).itemsize)
    return tensors, data


def _state(found: Any) -> dict[str, _Tensor]:
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} instead of named tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(f"{name!r} is no tensor")
    return found


def _array(tensor: _Tensor, data: bytes) -> NDArray[Any]:
    stored = np.frombuffer(data, tensor.storage.dtype)
    if len(stored) != tensor.storage.count:
        raise ValueError(
            f"{len(stored)} numbers in storage '{tensor.storage.key}', {tensor.storage.count} said"
        )
    reach = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    numbers = math.prod(tensor.shape)
    if min(tensor.offset, 0, *tensor.shape, *tensor.strides) < 0 or max(numbers, reach + 1) > len(stored):
        raise ValueError("a tensor that reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        stored[tensor.offset :],
        tensor.shape,
        [stride * stored.itemsize for stride in tensor.strides],
        writeable=False,
    )
    return np.array(view)


def _interpret(file: io.BytesIO) -> Any:
    """The value of the pickle at the file's position, which ends up behind it."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    argument: Any
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        if name == "STOP":
            return stack.pop()
        if name in ("PROTO", "FRAME"):
            continue
        if name in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"):
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            if argument not in {DICTIONARY, TENSOR, *STORAGES}:
                raise ValueError(f"it asks for {argument.replace(' ', '.')!r}")
            stack.append(_Global(argument))
        elif name == "BINPERSID":
            stack.append(_storage(*stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_reduced(stack.pop(), arguments))
        elif name in ("SETITEM", "SETITEMS"):
            pairs = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            values = since_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(values)
        elif name == "BUILD":
            stack.pop()  # a state_dict's version numbers
        else:
            raise ValueError(f"the operation {name}")
    raise ValueError("cut short")


def _storage(tag: str, kind: _Global, key: str, location: str, count: int, view: None = None) -> _Storage:
    if tag != "storage" or view is not None:
        raise ValueError("a storage of an unknown kind")
    return _Storage(key, STORAGES[kind.name], count)


def _reduced(function: _Global, arguments: tuple[Any, ...]) -> Any:
    if function.name == DICTIONARY and not arguments:
        return {}
    if function.name == TENSOR:
        storage, offset, shape, strides = arguments[:4]
        return _Tensor(storage, offset, shape, strides)
    raise ValueError(f"a call of {function.name!r}")
