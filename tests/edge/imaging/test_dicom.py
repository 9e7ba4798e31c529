"""DICOM: real files and written ones, shown as pydicom says, refused before decoding."""

from __future__ import annotations

import hashlib
import logging
import tracemalloc
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_presentation_lut,
    apply_voi_lut,
    apply_windowing,
)
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from edge.bundle.reasons import Reason
from edge.imaging.decode import decode_file
from edge.imaging.dicom import age_years
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Frame, Header, Pixels
from tests.edge.imaging.test_screen_capture import overlap, ultrasound_screen

_NO_REPLACEMENT = object()


def _write(path: Path, pixels: NDArray[Any], **attributes: Any) -> Path:
    """Write ``[H, W]``, ``[F, H, W]`` or colour; ``attributes`` replace or are added, None removes."""
    colour = pixels.shape[-1] == 3
    frames = pixels if pixels.ndim == (4 if colour else 3) else pixels[None]
    dataset = Dataset()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = "1.2.3", "1.2.4"
    dataset.PatientName, dataset.PatientID, dataset.PatientAge = "Planted^Name", "PLANTED-ID", "034Y"
    dataset.Modality = "US"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.nbytes % 2)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = attributes.pop("syntax", ExplicitVRLittleEndian)
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _decode(path: str | Path) -> list[Frame]:
    return list(decode_file(Path(path), "test"))


def _only(path: str | Path) -> Pixels:
    (frame,) = _decode(path)
    return frame.pixels


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    share = (values.astype(float) - low) / (float(high) - low) * 255
    return np.clip(np.floor(np.round(share, 9) + 0.5), 0, 255).astype(np.uint8)


def _file(name: str) -> str:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return path


def _gray(bits: int, signed: bool = False, shape: tuple[int, ...] = (21, 17)) -> NDArray[Any]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    return np.random.default_rng(bits).integers(low, high, shape).astype(kind)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",  # signed, rescaled
        "MR_small.dcm",  # a window
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "JPEG2000.dcm",
        "JPEGLSNearLossless_16.dcm",
        "693_J2KI.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "examples_overlay.dcm",
    ],
)
def test_real_gray_files_are_shown_as_pydicom_says(name: str) -> None:
    dataset = dcmread(_file(name))
    values = apply_modality_lut(dataset.pixel_array, dataset)
    if "WindowCenter" in dataset:
        low, high = apply_windowing(np.array([-1e9, 1e9]), dataset)
        values = apply_voi_lut(values, dataset)
    else:
        low, high = values.min(), values.max()
    np.testing.assert_array_equal(_only(_file(name)), _scaled(values, low, high))


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",  # planar
        "SC_rgb_small_odd.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",  # YBR_FULL
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",  # YBR_FULL_422, JPEG
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_jpeg_app14_dcmd.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "examples_rgb_color.dcm",
        "examples_jpeg2k.dcm",
        "ExplVR_BigEnd.dcm",
    ],
)
def test_real_colour_files_come_out_as_rgb(name: str) -> None:
    np.testing.assert_array_equal(_only(_file(name)), dcmread(_file(name)).pixel_array)


def test_sixteen_bit_colour_is_scaled_by_its_bits() -> None:
    frames = _decode(_file("SC_rgb_rle_16bit_2frame.dcm"))
    expected = _scaled(dcmread(_file("SC_rgb_rle_16bit_2frame.dcm")).pixel_array, 0, 65535)
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), expected)


def test_a_real_palette_file_is_coloured() -> None:
    dataset = dcmread(_file("examples_palette.dcm"))
    expected = apply_color_lut(dataset.pixel_array, dataset)
    depth = dataset.RedPaletteColorLookupTableDescriptor[2]
    assert expected.dtype == np.uint16
    np.testing.assert_array_equal(_only(_file("examples_palette.dcm")), _scaled(expected, 0, 2**depth - 1))


def test_a_real_cine_gives_its_frames_in_order() -> None:
    frames = _decode(_file("examples_ybr_color.dcm"))
    dataset = dcmread(_file("examples_ybr_color.dcm"))
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), dataset.pixel_array)
    sop, study = dataset.SOPInstanceUID, dataset.StudyInstanceUID
    assert [frame.identity for frame in frames] == [f"sop:{sop}#{index}" for index in range(30)]
    assert [frame.index for frame in frames] == list(range(30))
    assert {(frame.study, frame.source, frame.header) for frame in frames} == {(study, "test", Header("US"))}


_WINDOWS = [
    {},
    {"WindowCenter": "40", "WindowWidth": "80"},
    {"WindowCenter": ["10", "900"], "WindowWidth": ["33.5", "2"]},
    {"WindowCenter": "60", "WindowWidth": "1"},
    {"WindowCenter": "60", "WindowWidth": "120.5", "VOILUTFunction": "LINEAR_EXACT"},
    {"WindowCenter": "30", "WindowWidth": "50", "VOILUTFunction": "SIGMOID"},
]


@pytest.mark.parametrize("rescale", [None, ("1", "-1024"), ("2.5", "3"), ("-1", "0")])
@pytest.mark.parametrize("window", _WINDOWS)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (12, False), (12, True), (16, False)])
def test_windows_are_pydicoms_over_their_range_of_output(
    window: dict[str, Any], rescale: tuple[str, str] | None, bits: int, signed: bool, tmp_path: Path
) -> None:
    attributes = {**window, "BitsStored": bits, "HighBit": bits - 1}
    if rescale:
        attributes |= {"RescaleSlope": rescale[0], "RescaleIntercept": rescale[1]}
    path = _write(tmp_path / "a", _gray(bits, signed), **attributes)
    dataset = dcmread(path)
    values = apply_modality_lut(dataset.pixel_array, dataset)
    if window:
        low, high = apply_windowing(np.array([-1e9, 1e9]), dataset)
        values = apply_voi_lut(values, dataset)
    else:
        low, high = values.min(), values.max()
    np.testing.assert_array_equal(_only(path), _scaled(values, low, high))


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    pixels = _gray(12)
    plain = _only(_write(tmp_path / "2", pixels))
    inverted = _only(_write(tmp_path / "1", pixels, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverted, 255 - plain)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_a_presentation_lut_shape_inverts_once(photometric: str, shape: str, tmp_path: Path) -> None:
    pixels = _gray(12)
    plain = _only(_write(tmp_path / "2", pixels))
    path = _write(tmp_path / "1", pixels, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    inverted = photometric == "MONOCHROME1" or shape == "INVERSE"
    np.testing.assert_array_equal(_only(path), 255 - plain if inverted else plain)
    if photometric == "MONOCHROME2":  # of MONOCHROME1 pydicom takes no notice
        values = apply_presentation_lut(pixels.astype(int), dcmread(path))
        np.testing.assert_array_equal(_only(path), _scaled(values, values.min(), values.max()))


def _lut(entries: Sequence[int], first: int, depth: int) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, depth], list(entries)
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return [item]


def test_lookup_tables_come_before_windows(tmp_path: Path) -> None:
    pixels = _gray(12)
    modality = _lut([3 * value % 1024 for value in range(1000)], 50, 16)
    voi = _lut([(7 * value) % 4096 for value in range(900)], 100, 12)
    window = {"WindowCenter": "1", "WindowWidth": "2"}
    path = _write(tmp_path / "a", pixels, ModalityLUTSequence=modality, VOILUTSequence=voi, **window)
    values = np.array([3 * value % 1024 for value in range(1000)])[np.clip(pixels.astype(int) - 50, 0, 999)]
    values = np.array([(7 * value) % 4096 for value in range(900)])[np.clip(values - 100, 0, 899)]
    np.testing.assert_array_equal(_only(path), _scaled(values, 0, 4095))
    dataset = dcmread(path)
    np.testing.assert_array_equal(
        apply_voi_lut(apply_modality_lut(dataset.pixel_array.astype(np.int32), dataset), dataset), values
    )


def test_a_lookup_table_of_many_entries_of_8_bits_is_not_cut(tmp_path: Path) -> None:
    pixels = _gray(12)
    path = _write(tmp_path / "a", pixels, VOILUTSequence=_lut([value // 16 for value in range(4096)], 0, 8))
    np.testing.assert_array_equal(_only(path), pixels // 16)


def test_values_beyond_a_lookup_table_take_its_last_entry(tmp_path: Path) -> None:
    pixels = _gray(12)
    path = _write(tmp_path / "a", pixels, VOILUTSequence=_lut(range(200), 10, 8))
    np.testing.assert_array_equal(_only(path), np.clip(pixels.astype(int) - 10, 0, 199))


def test_windows_in_functional_groups_hold_for_their_frames(tmp_path: Path) -> None:
    pixels = _gray(12, shape=(2, 9, 8))

    def group(center: str) -> Dataset:
        window, place = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, "200"
        place.FrameVOILUTSequence = [window]
        return place

    path = _write(
        tmp_path / "a", pixels, PerFrameFunctionalGroupsSequence=[group("300"), group("900")], BitsStored=12
    )
    for frame, center in zip(_decode(path), ("300", "900"), strict=True):
        alone = tmp_path / "b"
        _write(alone, pixels[frame.index], WindowCenter=center, WindowWidth="200", BitsStored=12)
        np.testing.assert_array_equal(frame.pixels, _only(alone))


def test_a_cine_without_window_keeps_one_range_for_all_frames(tmp_path: Path) -> None:
    pixels = np.stack([np.full((5, 6), value, np.uint16) for value in (100, 300, 200)])
    shown = [set(np.unique(frame.pixels)) for frame in _decode(_write(tmp_path / "a", pixels))]
    assert shown == [{0}, {255}, {128}]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_outside_the_range(photometric: str, tmp_path: Path) -> None:
    pixels = np.array([[-2000, -1990, 0, 50, 100]], np.int16)
    one = _only(
        _write(tmp_path / "a", pixels, PhotometricInterpretation=photometric, PixelPaddingValue=-2000)
    )
    assert one[0, 0] == 0 and set(one[0, [1, 4]]) == {0, 255}
    limits = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    both = _only(_write(tmp_path / "a", pixels, PhotometricInterpretation=photometric, **limits))
    inside = [0, 128, 255] if photometric == "MONOCHROME2" else [255, 127, 0]
    assert both[0].tolist() == [0, 0, *inside]
    everything = _only(_write(tmp_path / "a", pixels[:, :1], PixelPaddingValue=-2000))
    assert everything.tolist() == [[0]]


_slopes = st.sampled_from(["1", "0.5", "2.25", "-1.5"])
_shown = st.fixed_dictionaries(
    {},
    optional={
        "rescale": st.tuples(_slopes, st.integers(-2000, 2000).map(str)),
        "window": st.tuples(
            st.integers(-1000, 5000).map(str),
            st.integers(2, 5000).map(str),
            st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
        ),
        "inverse": st.booleans(),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.integers(1, 16),
    signed=st.booleans(),
    seed=st.integers(0, 99),
    frames=st.integers(1, 3),
    shown=_shown,
)
@example(
    bits=6,
    signed=False,
    seed=1,
    frames=1,
    shown={"rescale": ("1", "72"), "window": ("-589", "1675", "LINEAR_EXACT")},
)
def test_any_rules_together_are_pydicoms(
    bits: int, signed: bool, seed: int, frames: int, shown: dict[str, Any], tmp_path: Path
) -> None:
    random = np.random.default_rng(seed)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    attributes: dict[str, Any] = {"BitsStored": bits, "HighBit": bits - 1}
    if "rescale" in shown:
        attributes["RescaleSlope"], attributes["RescaleIntercept"] = shown["rescale"]
    if "window" in shown:
        attributes["WindowCenter"], attributes["WindowWidth"], function = shown["window"]
        attributes |= {"VOILUTFunction": function} if function else {}
    if shown.get("inverse"):
        attributes["PhotometricInterpretation"] = "MONOCHROME1"
    path = _write(tmp_path / "a", random.integers(low, high, (frames, 5, 7)).astype(kind), **attributes)
    dataset = dcmread(path)
    values = apply_modality_lut(dataset.pixel_array, dataset)
    if "window" in shown:
        least, most = apply_windowing(np.array([-1e30, 1e30]), dataset)
        values = apply_voi_lut(values, dataset)
    else:
        least, most = values.min(), values.max()
    found = np.stack([frame.pixels for frame in _decode(path)])
    found = 255 - found if shown.get("inverse") else found
    # A value half-way between two steps, known but for the last bits of a float, may become either.
    share = (values.astype(float) - least) / (float(most) - least) * 255 if most != least else values * 0.0
    distance = np.abs(found - np.clip(share, 0, 255).reshape(found.shape))
    assert distance.max() <= 0.5 + 1e-9


def test_planar_colour_is_interleaved(tmp_path: Path) -> None:
    pixels = _gray(8, shape=(7, 5, 3))
    data = pixels.transpose(2, 0, 1).tobytes() + b"\0"
    path = _write(tmp_path / "a", pixels, PlanarConfiguration=1, PixelData=data)
    np.testing.assert_array_equal(_only(path), pixels)


def test_constant_images_and_empty_optional_attributes_are_readable(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a", np.full((4, 4), 7, np.uint16), WindowCenter="", WindowWidth="", RescaleSlope=""
    )
    assert not _only(path).any()


def test_only_the_allow_list_is_kept_of_the_header(tmp_path: Path) -> None:
    attributes = {"BodyPartExamined": "chest", "ViewPosition": "PA", "PatientAge": "018M"}
    (frame,) = _decode(_write(tmp_path / "a", _gray(8), **attributes))
    assert frame.header == Header("US", "CHEST", "PA", 1.5)
    assert (frame.identity, frame.study) == ("sop:1.2.3#0", "1.2.4")
    assert "Planted" not in repr(frame) and "PLANTED" not in repr(frame)
    odd = {"BodyPartExamined": "Planted^Name or much longer text", "PatientAge": "old"}
    (frame,) = _decode(_write(tmp_path / "a", _gray(8), **odd))
    assert frame.header == Header("US")


@pytest.mark.parametrize(
    ("text", "years"),
    [("034Y", 34), ("006M", 0.5), ("000D", 0), ("", None), ("34Y", None), ("0340Y", None), ("034X", None)],
)
def test_ages_are_read_in_years(text: str, years: float | None) -> None:
    assert age_years(text) == years


def test_ages_in_days_and_weeks_are_parts_of_a_year() -> None:
    assert age_years("731D") == pytest.approx(2, abs=0.01)
    assert age_years("026W") == pytest.approx(0.5, abs=0.01)


def test_without_usable_uids_the_bytes_name_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", _gray(8), SOPInstanceUID="name/of/someone", StudyInstanceUID=None)
    (frame,) = _decode(path)
    identity = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert (frame.identity, frame.study) == (f"{identity}#0", identity)


def test_frames_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", np.zeros((60, 256, 256), np.uint16))
    frame_bytes = 256 * 256 * 2
    tracemalloc.start()
    try:
        for frame in decode_file(path, "test"):
            assert frame.pixels.shape == (256, 256)
        assert tracemalloc.get_traced_memory()[1] < 12 * frame_bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPEG2000.dcm"]
)
@pytest.mark.parametrize("tenth", range(10))
def test_a_file_cut_off_at_any_tenth_is_refused(name: str, tenth: int, tmp_path: Path) -> None:
    data = Path(_file(name)).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * tenth // 10])
    with pytest.raises(UnreadableImageError) as caught:
        _decode(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", [1, 2, 30, 4000])
def test_a_file_without_its_last_bytes_is_refused(missing: int, tmp_path: Path) -> None:
    native = _write(tmp_path / "native", _gray(12, shape=(60, 50)))
    for whole in (native, Path(_file("examples_ybr_color.dcm"))):
        path = tmp_path / "cut"
        path.write_bytes(whole.read_bytes()[:-missing])
        with pytest.raises(UnreadableImageError, match=r"cut off|fewer"):
            _decode(path)


@pytest.mark.parametrize(
    ("attributes", "says", "reason"),
    [
        ({"PixelData": None}, "no pixel data", Reason.UNREADABLE),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "photometric", Reason.UNREADABLE),
        ({"PhotometricInterpretation": None}, "photometric", Reason.UNREADABLE),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits", Reason.UNREADABLE),
        ({"BitsStored": 9}, "8 bits a sample", Reason.UNREADABLE),
        ({"Rows": 0}, "without pixels", Reason.UNREADABLE),
        ({"Rows": None}, "damaged", Reason.UNREADABLE),
        ({"Rows": 9000, "Columns": 9000}, "too large", Reason.TOO_LARGE),
        ({"NumberOfFrames": 100_000_000}, "too large", Reason.TOO_LARGE),
        ({"NumberOfFrames": 2}, "cut off", Reason.UNREADABLE),
        ({"WindowCenter": "1", "WindowWidth": "0"}, "standard", Reason.UNREADABLE),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "0"}, "standard", Reason.UNREADABLE),
        ({"syntax": HTJ2KLossless}, "no decoder", Reason.UNREADABLE),
    ],
)
def test_what_cannot_be_shown_is_refused_before_decoding(
    attributes: dict[str, Any], says: str, reason: Reason, tmp_path: Path
) -> None:
    data = attributes.get("PixelData", _NO_REPLACEMENT)
    if attributes.get("syntax") and data is _NO_REPLACEMENT:
        attributes = {**attributes, "PixelData": encapsulate([_gray(8).tobytes()])}
    path = _write(tmp_path / "a", _gray(8), **attributes)
    with pytest.raises(UnreadableImageError, match=says) as caught:
        _decode(path)
    assert caught.value.reason is reason


def test_a_private_transfer_syntax_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", _gray(8))
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.3.4.5.6.7.8.9.0\0"))
    with pytest.raises(UnreadableImageError, match=r"no decoder for transfer syntax 1\.2\.3"):
        _decode(path)


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="deflated"):
        _decode(_file("image_dfl.dcm"))
    bomb = _write(tmp_path / "a", np.zeros((2000, 2000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImageError, match="deflated"):
            _decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_fewer_frames_than_announced_are_refused_at_once(tmp_path: Path) -> None:
    data = encapsulate([b"\0" * 70] * 3)
    path = _write(tmp_path / "a", _gray(8, shape=(4, 5, 5)), syntax=RLELossless, PixelData=data)
    with pytest.raises(UnreadableImageError, match="fewer than its 4 frames"):
        _decode(path)


def test_frames_before_damage_are_given_first(tmp_path: Path) -> None:
    good = dcmread(_write(tmp_path / "a", _gray(8, shape=(2, 5, 5)), WindowCenter="99", WindowWidth="99"))
    good.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    data = bytearray(good.PixelData)
    second = bytes(data).rindex(b"\xfe\xff\x00\xe0")
    data[second + 8 : second + 12] = b"\xff\xff\xff\xff"  # the RLE header's number of segments
    good.PixelData = bytes(data)
    good.save_as(tmp_path / "a")
    frames = decode_file(tmp_path / "a", "test")
    assert next(frames).index == 0
    with pytest.raises(UnreadableImageError):
        next(frames)


def test_nothing_of_the_header_reaches_warnings_or_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = _write(tmp_path / "a", _gray(8))
    path.write_bytes(path.read_bytes().replace(b"1.2.3\0", b"NAME.X"))
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (frame,) = _decode(path)
    assert frame.identity.startswith("sha256:")
    text = caplog.text + "".join(capfd.readouterr()) + "".join(str(each.message) for each in caught)
    assert "NAME" not in text and "PLANTED" not in text.upper()


def _seeds() -> list[bytes]:
    names = ("MR_small_RLE.dcm", "SC_rgb_small_odd.dcm", "CT_small.dcm")
    return [Path(_file(name)).read_bytes() for name in names]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.sampled_from(_seeds()), st.binary(max_size=200).map(lambda tail: bytes(128) + b"DICM" + tail)
    ),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4),
    header=st.booleans(),
)
def test_no_bytes_raise_anything_else(
    data: bytes, edits: list[tuple[float, bytes]], header: bool, tmp_path: Path
) -> None:
    for share, insert in edits:
        at = 128 + int(share * min(len(data) - 128, 1800 if header else len(data)))
        data = data[:at] + insert + data[at + len(insert) :]
    path = tmp_path / "x"
    path.write_bytes(data)
    try:
        for frame in decode_file(path, "test"):
            assert frame.pixels.dtype == np.uint8 and frame.pixels.shape[2:] in ((), (3,))
    except UnreadableImageError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_raw_data_is_told_from_what_is_for_presentation(tmp_path: Path) -> None:
    for intent, reason in (("FOR PROCESSING", Reason.FOR_PROCESSING), ("FOR PRESENTATION", None)):
        (frame,) = _decode(_write(tmp_path / "a", _gray(8), PresentationIntentType=intent))
        assert frame.reason is reason


def test_a_repeated_frame_of_a_cine_is_told(tmp_path: Path) -> None:
    pixels = np.stack([_gray(8)[:, ::step] for step in (1, 1, -1, 1)])
    frames = _decode(_write(tmp_path / "a", pixels))
    assert [frame.reason for frame in frames] == [None, Reason.FROZEN, None, None]


def _region(left: int, top: int, right: int, bottom: int, kind: tuple[int, int] = (1, 1)) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = kind
    region.RegionLocationMinX0, region.RegionLocationMinY0 = left, top
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = right, bottom
    return region


def test_an_ultrasound_screen_is_cut_to_its_regions_of_tissue(tmp_path: Path) -> None:
    pixels = _gray(8, shape=(100, 120))
    trace, two = _region(0, 80, 119, 99, (4, 10)), [_region(10, 20, 49, 69), _region(60, 25, 99, 69)]
    window = {"WindowCenter": "128", "WindowWidth": "256"}
    cut = _only(_write(tmp_path / "a", pixels, SequenceOfUltrasoundRegions=[trace, *two], **window))
    np.testing.assert_array_equal(cut, pixels[20:70, 10:100])
    for modality, regions in (("DX", two), ("US", [trace]), ("US", [*two, _region(0, 0, 639, 479)])):
        path = _write(
            tmp_path / "b", pixels, Modality=modality, SequenceOfUltrasoundRegions=regions, **window
        )
        np.testing.assert_array_equal(_only(path), pixels)


def test_a_screen_with_burned_in_text_is_cut_to_the_scan_or_gives_no_result(tmp_path: Path) -> None:
    window = {"WindowCenter": "128", "WindowWidth": "256", "BurnedInAnnotation": "YES"}
    screen, scan = ultrasound_screen(0)
    (frame,) = _decode(_write(tmp_path / "a", screen, **window))
    assert frame.reason is None and overlap(frame.pixels.shape, scan) > 0.9
    empty = screen.copy()
    empty[scan.top : scan.bottom, scan.left : scan.right] = 0
    (frame,) = _decode(_write(tmp_path / "a", empty, **window))
    assert frame.reason is Reason.USER_INTERFACE
    (frame,) = _decode(_write(tmp_path / "a", empty, **{**window, "BurnedInAnnotation": "NO"}))
    assert frame.reason is None and frame.pixels.shape == empty.shape


def test_a_cine_is_cut_as_its_first_frame_with_a_scan_whatever_darkens_later(tmp_path: Path) -> None:
    window = {"WindowCenter": "128", "WindowWidth": "256", "BurnedInAnnotation": "YES"}
    screen, scan = ultrasound_screen(0)
    empty, shadowed = screen.copy(), screen.copy()
    empty[scan.top : scan.bottom, scan.left : scan.right] = 0
    shadowed[scan.top : scan.bottom, (scan.left + scan.right) // 2 : scan.right] = 0
    path = _write(tmp_path / "a", np.stack([empty, screen, shadowed]), NumberOfFrames="3", **window)
    first, second, third = _decode(path)
    assert first.reason is Reason.USER_INTERFACE
    assert second.reason is third.reason is None
    assert second.pixels.shape == third.pixels.shape and overlap(second.pixels.shape, scan) > 0.9
