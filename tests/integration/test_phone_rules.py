"""The app's JavaScript in Chromium against the published vectors, and its decoder against the cart's."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from phone_app import Phone, Server
from pydicom import dcmread
from pydicom.data import get_testdata_file

import edge.phone
from edge.imaging.decode import decode_file
from edge.imaging.errors import UnreadableImageError

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
PHONE = Path(edge.phone.__file__).parent
STEPS = json.loads((ROOT / "docs/reference/step-vectors.json").read_text())["vectors"]
DECISIONS = json.loads((ROOT / "docs/reference/decision-vectors.json").read_text())


@pytest.fixture(scope="module")
def page(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page beside the sources of the rules, which are modules of their own, and the built decoder."""
    folder = tmp_path_factory.mktemp("rules")
    shutil.copytree(PHONE / "src", folder / "src")
    shutil.copy(PHONE / "static" / "decode.js", folder)
    (folder / "index.html").write_text("<!doctype html><title>rules</title>")
    server = Server(folder)
    phone = Phone(chromium, tmp_path_factory.mktemp("profile"))
    phone.page.goto(server.url)
    phone.page.evaluate(_HELPERS)
    yield phone.page
    phone.close()
    server.stop()


_HELPERS = """() => {
  self.unpack = ({ height, width, channels, pixels }) => {
    const data = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
    return { height, width, channels, data };
  };
  self.pack = ({ height, width, channels, data }) => {
    let text = '';
    for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
    return { height, width, channels, pixels: btoa(text) };
  };
  self.decoded = async (bytes) => {
    const worker = new Worker('decode.js');
    const file = new File([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], 'given');
    const next = () => new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => resolve({ failure: { reason: 'crashed', why: message } });
      worker.postMessage({ file });
    });
    const frames = [];
    for (;;) {
      const { frame, done, failure } = await next();
      if (frame) frames.push({ ...frame, image: pack(frame.image) });
      if (done || failure) {
        worker.terminate();
        return { frames, failure: failure ?? null };
      }
    }
  };
}"""


def test_steps_pass_the_published_vectors(page: Any) -> None:
    results = page.evaluate(
        """async (vectors) => {
          const { applySteps } = await import('/src/steps.js');
          return vectors.map(({ input, steps }) => pack(applySteps(unpack(input), steps)));
        }""",
        STEPS,
    )
    assert len(results) > 50
    for vector, result in zip(STEPS, results, strict=True):
        assert result == vector["output"], vector["name"]


def test_quality_gates_pass_the_published_vectors(page: Any) -> None:
    results = page.evaluate(
        """async (vectors) => {
          const { check, measure } = await import('/src/quality.js');
          return vectors.map(({ image, model_image, limits }) => {
            const measures = measure(unpack(image), unpack(model_image));
            return { measures, reasons: check(measures, limits) };
          });
        }""",
        DECISIONS["quality"],
    )
    for vector, result in zip(DECISIONS["quality"], results, strict=True):
        assert result["measures"] == pytest.approx(vector["measures"], rel=1e-9, abs=1e-9), vector["name"]
        assert result["reasons"] == vector["reasons"], vector["name"]


def test_decisions_pass_the_published_vectors(page: Any) -> None:
    results = page.evaluate(
        """async (vectors) => {
          const { check } = await import('/src/quality.js');
          const { decide } = await import('/src/decision.js');
          return vectors.map(({ quality, measures, logits, embedding, layout, ood, ...manifest }) => {
            const reasons = 'side' in measures ? check(measures, quality) : [];
            return decide({ logits, embedding, layout, reasons }, manifest, ood);
          });
        }""",
        DECISIONS["decisions"],
    )
    for vector, result in zip(DECISIONS["decisions"], results, strict=True):
        expected = vector["outcome"]
        # The last digits of floating point, which libraries round differently; of the score those of float32.
        numbers = {**expected["probabilities"], "named": expected["probability"] or 0}
        found = {**result.pop("probabilities"), "named": result.pop("probability") or 0}
        assert found == pytest.approx(numbers, rel=1e-9, abs=1e-300), vector["name"]
        scores = [score or 0 for score in (result.pop("ood_score"), expected["ood_score"])]
        assert scores[0] == pytest.approx(scores[1], rel=1e-6)
        assert result == {key: expected[key] for key in result}, vector["name"]


def test_layouts_pass_the_published_vectors(page: Any) -> None:
    results = page.evaluate(
        """async (vectors) => {
          const { layout } = await import('/src/layout.js');
          return vectors.map(({ model_image, side }) => Array.from(layout(unpack(model_image), side)));
        }""",
        DECISIONS["layouts"],
    )
    for vector, result in zip(DECISIONS["layouts"], results, strict=True):
        assert result == pytest.approx(vector["layout"], rel=1e-6, abs=1e-7), vector["name"]


def test_regions_ids_and_coverage_pass_the_published_vectors(page: Any) -> None:
    regions, ids, coverage = page.evaluate(
        """async ({ regions, ids, coverage }) => {
          const { seenRegion } = await import('/src/region.js');
          const { Identity } = await import('/src/identity.js');
          const { covers } = await import('/src/covers.js');
          const said = [];
          for (const { secret, bundle, frame, study } of ids) {
            const bytes = Uint8Array.from(secret.match(/../g), (pair) => parseInt(pair, 16));
            const algorithm = { name: 'HMAC', hash: 'SHA-256' };
            const key = await crypto.subtle.importKey('raw', bytes, algorithm, false, ['sign']);
            const identity = new Identity(key);
            said.push({
              id: await identity.finding(bundle, frame),
              study_id: await identity.study(study),
              case_code: await identity.caseCode(study),
            });
          }
          return [
            regions.map(({ steps, height, width }) => seenRegion(steps, height, width)),
            said,
            coverage.map(({ intended_use, header }) => covers(intended_use, header)),
          ];
        }""",
        DECISIONS,
    )
    for vector, region in zip(DECISIONS["regions"], regions, strict=True):
        assert region == pytest.approx(vector["region"], rel=1e-12)
    for vector, said in zip(DECISIONS["ids"], ids, strict=True):
        assert said == {key: vector[key] for key in ("id", "study_id", "case_code")}
    assert coverage == [vector["covered"] for vector in DECISIONS["coverage"]]


def decoded(page: Any, data: bytes) -> tuple[list[dict[str, Any]], str | None]:
    """Frames with their pixels, and why there are no more."""
    answer = page.evaluate("(bytes) => decoded(bytes)", base64.b64encode(data).decode())
    for frame in answer["frames"]:
        image = frame["image"]
        shape = (
            image["height"],
            image["width"],
            *([3] if image["channels"] == 3 else []),
        )
        frame["pixels"] = np.frombuffer(base64.b64decode(image["pixels"]), np.uint8).reshape(shape)
    return answer["frames"], answer["failure"] and answer["failure"]["reason"]


def pictures() -> dict[str, Any]:
    random = np.random.default_rng(4)
    gray = random.integers(0, 256, (37, 53), np.uint8)
    return {
        "gray.png": gray,
        "colour.png": random.integers(0, 256, (37, 53, 3), np.uint8),
        "alpha.png": random.integers(0, 256, (20, 31, 4), np.uint8),
        "deep.png": random.integers(300, 4000, (37, 53)).astype(np.uint16),
        "deep-colour.png": random.integers(0, 2**16, (9, 12, 3)).astype(np.uint16),
        "gray.bmp": gray,
        "smooth.jpg": cv2.GaussianBlur(gray, (0, 0), 3),
    }


@pytest.mark.parametrize("name", pictures())
def test_pictures_are_decoded_as_on_a_cart(page: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    cv2.imwrite(str(path), pictures()[name])
    (expected,) = decode_file(path, "file")
    (frame,), failure = decoded(page, path.read_bytes())
    assert failure is None
    assert (frame["identity"], frame["study"]) == (expected.identity, expected.study)
    pixels = expected.pixels
    if frame["pixels"].ndim > pixels.ndim:  # the browser gives gray as three equal channels
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    apart = np.abs(frame["pixels"].astype(int) - pixels)
    assert apart.max() <= (0 if name.endswith((".png", ".bmp")) else 1)


DICOM = {
    "CT_small.dcm": 0,
    "MR_small.dcm": 0,
    "MR_small_implicit.dcm": 0,
    "MR_small_RLE.dcm": 0,
    "SC_rgb_rle.dcm": 0,
    "SC_rgb_small_odd.dcm": 0,
    "examples_rgb_color.dcm": 0,
    "examples_ybr_color.dcm": 0,
    "SC_rgb_jpeg_dcmtk.dcm": 3,
    "rtdose_1frame.dcm": None,
    "emri_small.dcm": None,
}
"""Test files of pydicom's wheel; how far the pixels may be apart, None where phones do not read it."""


@pytest.mark.parametrize("name", DICOM)
def test_dicom_is_shown_as_on_a_cart_or_refused(page: Any, name: str) -> None:
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.xfail(f"{name} is not in this pydicom")
    path = Path(str(found))
    frames, failure = decoded(page, path.read_bytes())
    if DICOM[name] is None:
        assert (frames, failure) == ([], "unreadable")
        return
    expected = list(decode_file(path, "file"))
    assert failure is None
    assert [frame["identity"] for frame in frames] == [frame.identity for frame in expected]
    for frame, other in zip(frames, expected, strict=True):
        header = frame["header"]
        assert (header["modality"], header["age_years"]) == (other.header.modality, other.header.age_years)
        assert frame["reason"] == (other.reason and other.reason.value)
        assert np.abs(frame["pixels"].astype(int) - other.pixels).max() <= DICOM[name]
    text = json.dumps([{key: frame[key] for key in ("identity", "study", "header")} for frame in frames])
    patient = dcmread(path, stop_before_pixels=True).get("PatientName")
    assert not patient or str(patient) not in text


def test_a_dicom_file_cut_off_anywhere_is_refused(page: Any) -> None:
    data = Path(str(get_testdata_file("MR_small.dcm", download=False))).read_bytes()
    for tenth in range(10):
        frames, failure = decoded(page, data[: len(data) * tenth // 10])
        assert (frames, failure) == ([], "unreadable"), tenth


def test_damage_anywhere_in_a_dicom_header_ends_nothing(page: Any) -> None:
    data = bytearray(Path(str(get_testdata_file("MR_small_RLE.dcm", download=False))).read_bytes())
    random = np.random.default_rng(11)
    for _ in range(60):
        hurt = bytearray(data)
        for at in random.integers(128, len(hurt), 6):
            hurt[at] = random.integers(0, 256)
        frames, failure = decoded(page, bytes(hurt))
        assert frames or failure in ("unreadable", "too_large")


PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
PNG_KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(width: int, height: int, packed: bytes, kind: tuple[int, int] = (0, 8), interlace: int = 0) -> bytes:
    """A PNG file of a colour type and a depth, with a palette where there must be one."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    colour, depth = kind
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    palette = np.random.default_rng(1).integers(0, 256, 3 * 2 ** min(depth, 8), np.uint8).tobytes()
    head += chunk(b"PLTE", palette) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_of(kind: tuple[int, int], interlace: int, height: int = 19, width: int = 29) -> bytes:
    """Any samples of that kind, in one pass or the seven of Adam7 (PNG 8.2)."""
    colour, depth = kind
    samples = np.random.default_rng(2).integers(0, 2**depth, (height, width, PNG_SAMPLES[colour]))
    passes = [samples[top::down, left::right] for top, left, down, right in ADAM7] if interlace else [samples]
    lines = [line for part in passes if part.size for line in part.reshape(len(part), -1)]
    bits = [(line[:, None] >> np.arange(depth)[::-1]) & 1 for line in lines]
    packed = b"".join(b"\0" + np.packbits(line.astype(np.uint8).ravel()).tobytes() for line in bits)
    return png(width, height, zlib.compress(packed), kind, interlace)


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("kind", PNG_KINDS)
def test_every_kind_of_png_is_decoded_as_on_a_cart_or_refused(
    page: Any, tmp_path: Path, kind: tuple[int, int], interlace: int
) -> None:
    path = tmp_path / "any.png"
    path.write_bytes(png_of(kind, interlace))
    (expected,) = decode_file(path, "file")
    frames, failure = decoded(page, path.read_bytes())
    if interlace and kind[1] < 8:
        assert (frames, failure) == ([], "unreadable")
        return
    assert failure is None
    pixels = frames[0]["pixels"]
    if kind[0] == 4:  # gray with transparency is three equal channels on a cart
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels, expected.pixels)


@cache
def hostile() -> dict[str, tuple[bytes, str]]:
    whole = cv2.imencode(".png", np.zeros((30, 30), np.uint8))[1].tobytes()
    jpeg = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    at = jpeg.index(b"\xff\xc0") + 5
    deflated = dcmread(str(get_testdata_file("image_dfl.dcm", download=False)), stop_before_pixels=True)
    assert deflated.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1.99"
    return {
        "empty": (b"", "unreadable"),
        "text": (b"<svg onload=alert(1)>", "unreadable"),
        "cut PNG": (whole[:-20], "unreadable"),
        "PNG with a wrong checksum": (whole[:-5] + b"\0" + whole[-4:], "unreadable"),
        "PNG of 60000 x 60000": (png(60000, 60000, zlib.compress(b"\0" * 100)), "too_large"),
        "PNG that unpacks to 20 MB": (png(8, 8, zlib.compress(b"\0" * 20_000_000, 9)), "unreadable"),
        "PNG that holds too little": (png(80, 80, zlib.compress(b"\0" * 20)), "unreadable"),
        "PNG of a colour type that is none": (png(8, 8, zlib.compress(b"\0" * 72), (5, 8)), "unreadable"),
        "PNG of a depth that is none": (png(8, 8, zlib.compress(b"\0" * 72), (2, 4)), "unreadable"),
        "cut JPEG": (jpeg[:-2], "unreadable"),
        "JPEG of 65535 x 65535": (jpeg[:at] + b"\xff" * 4 + jpeg[at + 4 :], "too_large"),
        "deflated DICOM": (
            Path(str(get_testdata_file("image_dfl.dcm", download=False))).read_bytes(),
            "unreadable",
        ),
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_files_are_refused(page: Any, tmp_path: Path, name: str) -> None:
    data, reason = hostile()[name]
    assert decoded(page, data) == ([], reason)
    if "unpacks" in name:  # a cart's decoder stops by itself at the last row
        return
    path = tmp_path / "given"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError):  # and so they are on a cart
        list(decode_file(path, "file"))


def test_the_built_app_is_of_these_sources() -> None:
    """``make phone`` builds it again; this needs no Node."""
    built = json.loads((PHONE / "static" / "BUILD.json").read_text())["sources"]
    names = ["build.mjs", "package.json", "package-lock.json"]
    paths = [PHONE / name for name in names] + sorted((PHONE / "src").iterdir())
    current = {
        path.relative_to(PHONE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    }
    assert built == current
