"""From the values a DICOM file stores to the 8 bits a viewer shows (PS3.3 C.7.6.3, C.11.1, C.11.2).

What is shown is pydicom's: Modality LUT or rescale, then VOI LUT or the first window, or the palette. It
is computed once for each value that can be stored, and looked up. The last step, to 8 bits, is the rule of
``display``: over the window's (or LUT's) range of output; without one, over the least to the greatest value
in all frames of the file, so that a cine does not flicker with what comes into view.
MONOCHROME1 and Presentation LUT Shape INVERSE (C.11.6) turn that round.
Pixel padding (C.7.5.1.1.2) has no part in that range and is shown black.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

from edge.imaging.display import table_to_8_bit
from edge.imaging.frame import Pixels

__all__ = ["DISPLAY_ATTRIBUTES", "Display"]

_PALETTE = [
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    for colour in ("Red", "Green", "Blue")
]
_OPTIONAL = ("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept")
_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
DISPLAY_ATTRIBUTES = (
    "PhotometricInterpretation",
    "PixelRepresentation",
    "BitsStored",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "PixelPresentation",
    "PresentationLUTShape",
    *_OPTIONAL,
    *_PADDING,
    *_PALETTE,
    *(_SHARED, _PER_FRAME),
)
"""Keywords of the attributes that :class:`Display` reads."""

_FAR = 1e30


class Display:
    """How one file's stored values are shown.

    Args:
        dataset: the file's data set with :data:`DISPLAY_ATTRIBUTES`, as far as it has them.

    Where a method raises anything but what it says, the attributes contradict each other or the standard.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._range: tuple[float, float] | None = None
        self._per_frame = _PER_FRAME in dataset
        self._photometric = str(dataset.PhotometricInterpretation)
        self._attributes = lru_cache(maxsize=1)(self._attributes_of_group)
        self._table = lru_cache(maxsize=1)(self._table_of_group)

    @property
    def needs_range(self) -> bool:
        """Whether :meth:`fit_range` must come before :meth:`show`: gray, without window or VOI LUT."""
        return self._photometric.startswith("MONOCHROME") and not _has_voi(self._attributes(0))

    def fit_range(self, arrays: Iterable[NDArray[Any]]) -> None:
        """Take the range of values from all frames, decoded as :meth:`show` takes them."""
        low, high = np.inf, -np.inf
        for index, stored in enumerate(arrays):
            values, padding = self._values(self._group(index), stored.dtype)
            present = np.zeros(values.size, bool)
            present[_patterns(stored)] = True
            shown = values[present & ~padding]
            if shown.size:
                low, high = min(low, float(shown.min())), max(high, float(shown.max()))
        self._range = (low, high) if low <= high else (0, 0)

    def show(self, stored: NDArray[Any], index: int) -> Pixels:
        """Frame ``index`` as it is displayed.

        Args:
            stored: integers of 8 or 16 bits, ``[H, W]``, or RGB ``[H, W, 3]``, as pydicom decodes them.

        Returns:
            uint8 ``[H, W]``, or RGB ``[H, W, 3]``.
        """
        if stored.dtype == np.uint8 and stored.ndim == 3 and self._dataset.BitsStored == 8:
            return stored
        return np.take(self._table(self._group(index), stored.dtype), _patterns(stored), axis=0)

    def _group(self, index: int) -> int:
        return index if self._per_frame else 0

    def _attributes_of_group(self, group: int) -> Dataset:
        """The attributes of a frame: of enhanced objects they stand in functional groups (C.7.6.16)."""
        merged = Dataset()
        merged.update(self._dataset)
        merged.file_meta = self._dataset.file_meta
        places = [*self._dataset.get(_SHARED, [])[:1], *self._dataset.get(_PER_FRAME, [])[group : group + 1]]
        for place in places:
            for name in _GROUPS:
                for item in place.get(name, [])[:1]:
                    merged.update(item)
        for name in _OPTIONAL:
            if name in merged and merged[name].is_empty:
                del merged[name]
        return merged

    def _table_of_group(self, group: int, dtype: np.dtype[Any]) -> Pixels:
        """What is shown for each pattern of bits: uint8 ``[2^bits]``, of a palette ``[2^bits, 3]``."""
        attributes = self._attributes(group)
        if self._photometric == "PALETTE COLOR":
            colours = apply_color_lut(_stored_values(dtype), attributes)[:, :3]
            depth = attributes.RedPaletteColorLookupTableDescriptor[2]
            return table_to_8_bit(colours, 0, 2**depth - 1)
        if not self._photometric.startswith("MONOCHROME"):
            return table_to_8_bit(np.arange(2 ** (8 * dtype.itemsize)), 0, 2**attributes.BitsStored - 1)
        values, padding = self._values(group, dtype)
        if _has_voi(attributes):
            values, low, high = _apply_voi(values, attributes)
        else:
            assert self._range is not None
            low, high = self._range
        if not (np.isfinite(values).all() and np.isfinite([low, high]).all()):
            raise ValueError("values without bounds")
        table = table_to_8_bit(values, low, high)
        # A DX image says the same by both (PS3.3 C.8.11.3): then it is inverted once.
        inverse = str(attributes.get("PresentationLUTShape") or "").strip() == "INVERSE"
        if self._photometric == "MONOCHROME1" or inverse:
            table = 255 - table
        table[padding] = 0
        return table

    def _values(self, group: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """For each pattern of bits its value after the Modality LUT, and whether it is padding."""
        stored = _stored_values(dtype)
        padding = np.zeros(stored.size, bool)
        ends = [int(self._dataset[name].value) for name in _PADDING if self._dataset.get(name) is not None]
        if ends:
            # US or SS, as Pixel Representation says; some writers take the other.
            limits = stored[np.array(ends) % stored.size]
            padding = (stored >= limits.min()) & (stored <= limits.max())
        return apply_modality_lut(stored, self._attributes(group)), padding


def _stored_values(dtype: np.dtype[Any]) -> NDArray[np.int32]:
    """The value of each pattern of bits, in the order of the patterns read as unsigned."""
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        raise ValueError("pixels that are not integers of 8 or 16 bits")
    unsigned = np.dtype(f"u{dtype.itemsize}")
    native = dtype.newbyteorder("=")
    patterns = np.arange(2 ** (8 * dtype.itemsize)).astype(unsigned)
    return np.asarray(patterns.view(native), np.int32)


def _patterns(stored: NDArray[Any]) -> NDArray[Any]:
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return native.view(f"u{stored.dtype.itemsize}")


def _has_voi(attributes: Dataset) -> bool:
    return bool(_voi_lut(attributes)) or ("WindowCenter" in attributes and "WindowWidth" in attributes)


def _voi_lut(attributes: Dataset) -> Dataset | None:
    items: Sequence[Dataset] = (attributes.get("VOILUTSequence") or [])[:1]
    return next((item for item in items if "LUTDescriptor" in item and "LUTData" in item), None)


def _apply_voi(values: NDArray[Any], attributes: Dataset) -> tuple[NDArray[Any], float, float]:
    """Values after the VOI LUT or window, and the ends of its range of output."""
    lut = _voi_lut(attributes)
    if lut is None:
        with np.errstate(over="ignore"):
            ends = apply_voi_lut(np.array([-_FAR, _FAR]), attributes)
            return apply_voi_lut(values, attributes), float(ends[0]), float(ends[1])
    entries, first, depth = lut.LUTDescriptor
    entries = entries or 2**16
    if depth == 8 and entries > 2**8:
        lut.LUTDescriptor = [entries, first, 16]  # pydicom would keep 8 bits of the index too
    clipped = np.clip(values, first, first + entries - 1)
    return apply_voi_lut(clipped, attributes), 0, 2**depth - 1
