"""Phantoms behave as physics says."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest

from trainer.data.phantoms import LABELS, Kind, bmode, chest, generate, phantom, ultrasound
from trainer.data.phantoms.geometry import Ellipsoid, Rays, Span, hull, overlap, union_length
from trainer.preparation import NEGATIVE_NAMES

PEOPLE = list(range(6))
KINDS: tuple[Kind, ...] = get_args(Kind)


def seeds(number: int) -> tuple[np.random.SeedSequence, np.random.SeedSequence]:
    patient, exposure = np.random.SeedSequence([7, number]).spawn(2)
    return patient, exposure


def rays(size: int = 33, extent: float = 8.0, lean_x: float = 0.0, lean_z: float = 0.0) -> Rays:
    axis = np.linspace(-extent / 2, extent / 2, size, dtype=np.float32)
    x, z = np.meshgrid(axis, -axis)
    return Rays(x, z, lean_x, lean_z, extent / (size - 1))


def test_a_ray_through_a_sphere_has_the_length_of_its_chord() -> None:
    straight = rays()
    length = Ellipsoid((0.5, 3.0, -0.25), (2.0, 2.0, 2.0)).span(straight).length
    off = (straight.x - 0.5) ** 2 + (straight.z + 0.25) ** 2
    assert np.allclose(length, 2 * np.sqrt(np.maximum(4 - off, 0)), atol=1e-2)


def test_the_volume_under_parallel_rays_is_the_ellipsoids_whatever_its_tilt_and_the_rays_lean() -> None:
    for tilt, lean in ((0.0, 0.0), (0.7, 0.0), (0.4, 0.1)):
        seen = rays(161, lean_x=lean, lean_z=-lean)
        length = Ellipsoid((0, 0, 0), (1.5, 3.0, 0.8), tilt).span(seen).length
        volume = float(length.sum()) * seen.cm_per_pixel**2
        assert volume == pytest.approx(4 / 3 * np.pi * 1.5 * 3.0 * 0.8, rel=0.01)


def test_lengths_of_unions_count_nothing_twice() -> None:
    def span(near: float, far: float) -> Span:
        return Span(np.full((1, 1), near, np.float32), np.full((1, 1), far, np.float32))

    def empty() -> Span:
        return overlap(span(0, 1), span(2, 3))

    assert float(union_length([span(3, 5), span(0, 2), span(1, 4), empty()])[0, 0]) == 5
    assert float(union_length([span(0, 1), span(2, 3)])[0, 0]) == 2
    assert float(hull([span(0, 2), empty(), span(1, 4)]).length[0, 0]) == 4
    assert float(hull([empty(), empty()]).length[0, 0]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_every_pixel(kind: Kind) -> None:
    one, again, other = (generate(kind, 4, seed, 64) for seed in (1, 1, 2))
    assert (one.images == again.images).all() and (one.masks == again.masks).all()
    assert all((a != b).mean() > 0.2 for a, b in zip(one.images, other.images, strict=True))
    assert one.images.shape[:3] == one.masks.shape == (4, 64, 64) and one.images.dtype == np.uint8
    assert one.truth.tolist() == [i % len(one.labels) for i in range(4)]
    assert one.labels[0] in NEGATIVE_NAMES


@pytest.mark.parametrize("kind", KINDS)
def test_images_use_the_gray_scale_and_masks_mark_the_finding_alone(kind: Kind) -> None:
    for index, label in enumerate(LABELS[kind]):
        for person in PEOPLE[:3]:
            still = phantom(kind, label, *seeds(person), 96)
            assert 18 < still.pixels.mean() < 220 and still.pixels.std() > 20
            expected = {0, 1} if kind == "cardiac" else {0, index}
            assert set(np.unique(still.mask)) == expected


def test_an_unknown_label_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="have the labels normal, cyst, mass"):
        phantom("ultrasound", "nodule", *seeds(0), 64)


def test_thicker_patients_and_bone_let_less_through_than_lung() -> None:
    shot = chest.radiograph("normal", *seeds(1), 128)
    integral = shot.line_integral
    lung = integral[45:70, 28:45].mean()
    heart = integral[78:88, 66:74].mean()
    belly = integral[115:, 55:75].mean()
    assert 0.8 < lung < heart < belly < 8
    # Line integrals run from 0 in air to more than the body's depth of water holds.
    assert integral.min() == 0 and integral.max() < 0.5 * 35
    # Bone white: where more is absorbed the picture is brighter.
    inside = (integral > 0.5) & (shot.pixels > 8) & (shot.pixels < 240)
    inside[:30, 90:] = False  # the side marker
    assert np.corrcoef(integral[inside], shot.pixels[inside])[0, 1] > 0.9


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("finding", ["consolidation", "nodule", "effusion"])
def test_a_finding_adds_attenuation_where_its_mask_is_and_is_brighter_there(
    finding: chest.Finding, person: int
) -> None:
    sick = chest.radiograph(finding, *seeds(person), 128)
    well = chest.radiograph("normal", *seeds(person), 128)
    added = sick.line_integral - well.line_integral
    inside = sick.mask > 0
    assert inside.sum() >= 4 and (added >= -1e-3).all()
    assert added[inside].min() > max(0.02, added[~inside].max() - 1e-3)
    ring = (cv2.dilate(sick.mask, np.ones((9, 9), np.uint8)) > 0) & ~inside
    change = sick.pixels.astype(float) - well.pixels
    assert change[inside].mean() > change[ring].mean() + 2


def test_nodules_are_22_to_30_mm_wide_and_a_little_more_with_their_lobes() -> None:
    sizes = []
    for person in range(12):
        shot = chest.radiograph("nodule", *seeds(person), 192)
        columns = np.flatnonzero(shot.mask.any(0))
        sizes.append((columns[-1] - columns[0] + 1) * 36.5 / 192 * 10)
    assert min(sizes) > 18 and max(sizes) < 45 and np.std(sizes) > 1


def test_fluid_gathers_at_the_base_and_rises_along_the_wall() -> None:
    for person in PEOPLE:
        mask = chest.radiograph("effusion", *seeds(person), 128).mask > 0
        rows, columns = np.nonzero(mask)
        assert rows.mean() > 64
        side = 1 if columns.mean() > 64 else -1
        tops = [int(np.flatnonzero(mask[:, c]).min()) for c in np.unique(columns)]
        outer, inner = (tops[-len(tops) // 3 :], tops[: len(tops) // 3])[::side]
        assert np.mean(outer) < np.mean(inner)


def _beside(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels of the same depth, left and right of the lesion but not under or over it."""
    rows, columns = np.nonzero(mask)
    near = np.zeros_like(mask, bool)
    near[rows.min() : rows.max() + 1, max(0, columns.min() - reach) : columns.max() + reach] = True
    near[:, columns.min() - 2 : columns.max() + 3] = False
    return near


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize(("finding", "darker"), [("cyst", 30), ("mass", 10)])
def test_lesions_echo_less_than_the_tissue_beside_them(
    finding: ultrasound.Finding, darker: int, person: int
) -> None:
    clip = ultrasound.clip(finding, *seeds(person), 128)
    image, mask = clip.frames[0].astype(float), clip.masks[0] > 0
    inside = cv2.erode(clip.masks[0], np.ones((3, 3), np.uint8)) > 0
    assert image[inside].mean() < image[_beside(mask, 20)].mean() - darker


def test_behind_a_cyst_it_is_brighter_and_behind_a_mass_darker() -> None:
    change: dict[str, list[float]] = {"cyst": [], "mass": []}
    for finding in change:
        for person in range(12):
            clip = ultrasound.clip(finding, *seeds(person), 128)  # type: ignore[arg-type]
            image, (rows, columns) = clip.frames[0].astype(float), np.nonzero(clip.masks[0])
            if image[-1].max() == 0:
                continue  # a fan: depth does not run along columns
            middle = slice(int(np.percentile(columns, 25)), int(np.percentile(columns, 75)) + 1)
            behind = slice(rows.max() + 3, rows.max() + 18)
            beside = np.r_[0 : max(1, columns.min() - 3), min(127, columns.max() + 3) : 128]
            change[finding].append(image[behind, middle].mean() - image[behind][:, beside].mean())
    assert np.mean(change["cyst"]) > 5 and np.mean(change["mass"]) < -5
    assert np.mean(np.array(change["cyst"]) > 0) > 0.7 and np.mean(np.array(change["mass"]) < 0) > 0.7


def test_speckle_is_fully_developed() -> None:
    # Before compression the amplitude of such speckle is Rayleigh distributed: mean over deviation is 1.91.
    # In decibels its standard deviation is 5.57, whatever the level (Goodman, Speckle Phenomena in Optics).
    probe = bmode.Probe(40, 40, mhz=6, bandwidth=0.55, focus=0.5, radius=np.inf, beam=(1.34, 3.08))
    rng = np.random.default_rng(3)
    scatterers = rng.standard_normal((bmode.SAMPLES, bmode.LINES), np.float32)
    shape = (bmode.SAMPLES // bmode.COARSE, bmode.LINES)
    even, loss = np.zeros(shape, np.float32), np.full(shape, bmode.TGC, np.float32)
    envelope = bmode.receive(rng, probe, scatterers, even, loss)[100:400]
    assert envelope.mean() / envelope.std() == pytest.approx(1.91, abs=0.1)
    assert (20 * np.log10(envelope)).std() == pytest.approx(5.57, abs=0.3)


def test_a_clip_moves_slowly_and_its_mask_moves_with_it() -> None:
    for person in (0, 1, 2):
        clip = ultrasound.clip("cyst", *seeds(person), 96, frames=12)
        frames, masks = clip.frames.astype(float), clip.masks
        assert clip.frames.shape == masks.shape == (12, 96, 96) and set(np.unique(masks)) == {0, 1}
        next_to = [np.corrcoef(frames[i].ravel(), frames[i + 1].ravel())[0, 1] for i in range(11)]
        assert min(next_to) > 0.35 and (clip.frames[0] != clip.frames[-1]).mean() > 0.3
        for frame, mask in zip(frames, masks, strict=True):
            assert frame[mask > 0].mean() < frame[_beside(mask, 20)].mean() - 20


def test_findings_add_up_in_one_radiograph() -> None:
    both, nodule, effusion, well = (
        chest.radiograph(findings, *seeds(3), 96).line_integral
        for findings in (("nodule", "effusion"), "nodule", "effusion", ())
    )
    assert np.allclose(both - well, (nodule - well) + (both - nodule), atol=1e-4)
    assert (both - nodule).max() > 0.3 and (effusion - well).max() > 0.3


def test_equal_patients_look_more_alike_than_others() -> None:
    patient, exposure = seeds(0)
    other, _ = seeds(1)
    shots = [
        chest.radiograph("normal", p, e, 96).line_integral
        for p, e in ((patient, exposure), (other, exposure), (patient, seeds(2)[1]))
    ]
    assert np.abs(shots[0] - shots[1]).mean() > 0.05
    again = chest.radiograph("normal", patient, exposure, 96).line_integral
    assert (shots[0] == again).all() and (shots[0] != shots[2]).any()
