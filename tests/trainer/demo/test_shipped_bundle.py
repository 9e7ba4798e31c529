"""The bundle of ``demo --quick``: small, right on unseen phantoms, silent on what it never saw."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from edge.agent.model import covers
from edge.bundle.archive import open_bundle
from edge.imaging.decode import decode_file
from edge.imaging.frame import Frame, Header, Pixels
from edge.inference.decision import Outcome, decide
from edge.inference.predictor import Predictor
from trainer.data.phantoms import generate
from trainer.demo.build import SHIPPED, TARGET
from trainer.demo.frames import CLIP

UNSEEN_SEED = 424_242


@cache
def predictor() -> Predictor:
    return Predictor(open_bundle(SHIPPED))


def outcome(pixels: Pixels, header: Header = Header()) -> Outcome:  # noqa: B008  frozen
    loaded = predictor()
    frame = Frame(pixels, "test", "test", "test", header=header)
    return decide(loaded.predict(frame), loaded.manifest, loaded.ood)


def test_it_is_small_and_made_for_the_demo() -> None:
    manifest = predictor().manifest
    assert SHIPPED.stat().st_size < 300_000
    assert manifest.target == TARGET
    assert set(manifest.intended_use.modality) == {"CR", "DX"}
    assert manifest.intended_use.body_part == ("CHEST",)
    assert "knows nothing of patients" in manifest.intended_use.statement


@pytest.mark.parametrize("size", [128, 256])
def test_it_is_right_nearly_always_on_phantoms_that_it_has_not_seen(size: int) -> None:
    phantoms = generate("chest", 80, UNSEEN_SEED + size, size)
    answered = right = 0
    for pixels, truth in zip(phantoms.images, phantoms.truth, strict=True):
        said = outcome(pixels)
        if said.decision == "no_result":
            continue
        answered += 1
        label = phantoms.labels[truth]
        right += said.label == label and said.decision == ("negative" if label == "normal" else "positive")
    assert answered >= 0.85 * len(phantoms.truth)
    assert right >= 0.95 * answered


def clip_frames() -> list[Frame]:
    path = get_testdata_file(CLIP, download=False)
    assert path, "pydicom ships the clip"
    return list(decode_file(Path(str(path)), "test"))


def test_an_ultrasound_clip_is_outside_its_intended_use() -> None:
    frames = clip_frames()
    assert len(frames) == 30
    assert not any(covers(predictor().manifest.intended_use, frame.header) for frame in frames)


def test_an_ultrasound_clip_is_refused_by_its_pixels_too() -> None:
    for frame in clip_frames():
        said = outcome(replace(frame, header=Header()).pixels)
        assert said.decision == "no_result", f"frame {frame.index}: {said.label} {said.probability}"


def test_generated_ultrasound_is_refused() -> None:
    stills = generate("ultrasound", 12, 7, 128).images
    assert [outcome(pixels).decision for pixels in stills] == ["no_result"] * len(stills)
