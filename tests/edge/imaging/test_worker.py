from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from edge.bundle.reasons import Reason
from edge.errors import ScanwrightError
from edge.imaging.decode import decode_file
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Frame
from edge.imaging.worker import Decoder

_CINE = Path(get_testdata_file("examples_ybr_color.dcm"))
_STILL = Path(get_testdata_file("MR_small.dcm"))
_SEEDS = [
    Path(get_testdata_file(n)).read_bytes() for n in ("MR_small_RLE.dcm", "JPEG2000.dcm", "CT_small.dcm")
]


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as shared:
        yield shared


def _pid(decoder: Decoder) -> int:
    assert decoder._worker
    return decoder._worker.pid


@pytest.mark.parametrize("path", [_CINE, _STILL], ids=["cine", "still"])
def test_the_worker_gives_what_decoding_here_gives(decoder, path):
    there, here = list(decoder.frames(path, "s")), list(decode_file(path, "s"))
    assert len(there) == len(here)
    for a, b in zip(there, here, strict=True):
        assert (a.identity, a.study, a.source, a.index, a.header) == (
            b.identity,
            b.study,
            b.source,
            b.index,
            b.header,
        )
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_images_and_names_that_are_no_text_go_through(decoder, tmp_path, picture):
    path = tmp_path / os.fsdecode(b"\xff\xfe \n.png")
    path.write_bytes(cv2.imencode(".png", picture("normal"))[1].tobytes())
    assert [frame.pixels.shape for frame in decoder.frames(path, "s")] == [(32, 32)]


def test_what_is_unreadable_keeps_its_reason_and_the_worker(decoder, tmp_path):
    before = (list(decoder.frames(_STILL, "s")), _pid(decoder))[1]
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(UnreadableImageError, match="empty") as caught:
        list(decoder.frames(empty, "s"))
    assert caught.value.reason is Reason.UNREADABLE
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        list(decoder.frames(tmp_path / "away.dcm", "s"))
    assert _pid(decoder) == before


def test_a_million_claimed_frames_are_too_large(decoder, tmp_path):
    import pydicom

    dataset = pydicom.dcmread(_STILL)
    dataset.NumberOfFrames = 1_000_000
    dataset.save_as(tmp_path / "million.dcm")
    with pytest.raises(UnreadableImageError) as caught:
        list(decoder.frames(tmp_path / "million.dcm", "s"))
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_killed_worker_costs_one_file(tmp_path):
    with Decoder() as decoder:
        frames = decoder.frames(_CINE, "s")
        next(frames)
        os.kill(_pid(decoder), signal.SIGKILL)
        with pytest.raises(UnreadableImageError, match="signal 9"):
            list(frames)
        assert len(list(decoder.frames(_CINE, "s"))) == 30
        os.kill(_pid(decoder), signal.SIGKILL)
        os.waitid(os.P_PID, _pid(decoder), os.WEXITED | os.WNOWAIT)
        with pytest.raises(UnreadableImageError):
            list(decoder.frames(_STILL, "s"))
        assert len(list(decoder.frames(_STILL, "s"))) == 1


def test_more_memory_than_allowed_costs_one_file(tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(cv2.imencode(".png", np.zeros((8192, 8192), np.uint16))[1].tobytes())
    with Decoder(memory_bytes=500 << 20) as decoder:
        with pytest.raises(UnreadableImageError, match="cannot be decoded"):
            list(decoder.frames(large, "s"))
        assert len(list(decoder.frames(_STILL, "s"))) == 1


def test_a_file_that_takes_too_long_costs_itself(tmp_path):
    pipe = tmp_path / "never.dcm"
    os.mkfifo(pipe)
    with Decoder(timeout_s=4) as decoder:
        assert len(list(decoder.frames(_STILL, "s"))) == 1
        with pytest.raises(UnreadableImageError, match="longer than 4 s"):
            list(decoder.frames(pipe, "s"))
        assert len(list(decoder.frames(_STILL, "s"))) == 1


def test_a_cine_that_is_left_unfinished_is_not_mixed_with_the_next(decoder):
    frames = decoder.frames(_CINE, "s")
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert [frame.pixels.shape for frame in decoder.frames(_STILL, "s")] == [(64, 64)]


def test_no_worker_is_left_and_one_that_cannot_start_is_no_fault_of_the_file():
    with Decoder() as decoder:
        pid = _pid(decoder)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with (
        Decoder(memory_bytes=30 << 20) as decoder,
        pytest.raises(ScanwrightError, match="does not start") as e,
    ):
        list(decoder.frames(_STILL, "s"))
    assert not isinstance(e.value, UnreadableImageError)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.sampled_from(_SEEDS), number=st.integers(0, 2**32), cut=st.booleans())
def test_damaged_files_give_frames_or_are_unreadable(decoder, tmp_path, seed, number, cut):
    random_ = random.Random(number)
    data = bytearray(seed)
    if cut:
        del data[random_.randrange(len(data)) :]
    else:
        for _ in range(random_.randint(1, 20)):
            # Half of them in the header, where they do most.
            data[random_.randrange(132, len(data) if random_.random() < 0.5 else 1500)] ^= (
                1 << random_.randrange(8)
            )
    path = tmp_path / "damaged.dcm"
    path.write_bytes(data)
    done = threading.Event()
    guard = threading.Timer(30, done.set)
    guard.start()
    try:
        for frame in decoder.frames(path, "s"):
            assert isinstance(frame, Frame) and frame.pixels.dtype == np.uint8
    except UnreadableImageError as error:
        assert "\n" not in str(error)
    finally:
        guard.cancel()
    assert not done.is_set()
