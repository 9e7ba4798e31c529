"""Sample: one image of a dataset, with what is known of it; its pixels are read when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadInputError
from edge.imaging.frame import Pixels

__all__ = ["Sample", "read_frames"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image.

    ``name`` is unique in its dataset: the path below the data folder, with ``#i`` for frame ``i`` of a
    multi-frame file, or array and index in an ``.npz``. ``labels`` are the names that hold for it: one in
    single-label data, any number in multi-label data, none in segmentation, where ``mask`` is the file of
    class indices, or these themselves. ``split`` is "train", "val", "test" or None. ``patient`` only groups
    images: never shown. Either ``path`` (and ``frame`` within it) or ``array`` says where the pixels are.
    """

    name: str
    labels: tuple[str, ...]
    split: str | None = None
    path: Path | None = None
    frame: int = 0
    array: Pixels | None = None
    mask: Path | Pixels | None = None
    patient: str | None = None
    site: str | None = None
    age_years: float | None = None
    sex: str | None = None

    @property
    def group(self) -> tuple[str, str]:
        """Samples of an equal group must stay in one part of the data: those of a patient, else of a file."""
        if self.patient is not None:
            return "patient", self.patient
        return "file", self.name if self.path is None else str(self.path)

    def load(self) -> Pixels:
        """Decode the image: uint8 ``[H, W]``, or RGB ``[H, W, 3]``.

        Raises:
            UnreadableImageError: the file cannot be decoded; the message names it and says why.
        """
        return next(read_frames([self]))

    def load_mask(self) -> Pixels:
        """Decode the mask: uint8 ``[H, W]`` of class indices.

        Raises:
            UnreadableImageError: the file cannot be decoded.
            ValueError: this sample has no mask.
        """
        from edge.imaging.decode import decode_image

        if self.mask is None:
            raise ValueError(f"{self.name} has no mask")
        return decode_image(self.mask) if isinstance(self.mask, Path) else self.mask


def read_frames(samples: Sequence[Sample]) -> Iterator[Pixels]:
    """Pixels of samples of one file, whose frames rise: the file is opened once.

    Raises:
        BadInputError: at the first frame that cannot be decoded; UnreadableImageError where the decoder says
        so.
    """
    from edge.imaging.decode import decode_file

    path = samples[0].path
    if path is None:
        yield from (sample.array for sample in samples if sample.array is not None)
        return
    frames = enumerate(decode_file(path, "data"))
    for sample in samples:
        pixels = next((frame.pixels for index, frame in frames if index == sample.frame), None)
        if pixels is None:
            raise BadInputError(f"{path}: ends before frame {sample.frame}")
        yield pixels
