"""CT, MR, limb radiographs and EEG phantoms measure what they are drawn from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trainer.data.phantoms import brain_mri, eeg, fracture, lung_ct

PEOPLE = list(range(4))


def seeds(number: int) -> tuple[np.random.SeedSequence, np.random.SeedSequence]:
    patient, exposure = np.random.SeedSequence([13, number]).spawn(2)
    return patient, exposure


def roughness(mask: np.ndarray) -> float:
    """Perimeter squared over area, 1 for a disc."""
    (outline, *_), _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.arcLength(outline, True) ** 2 / (4 * np.pi * cv2.contourArea(outline))


@pytest.mark.parametrize("person", PEOPLE)
def test_ct_measures_air_lung_muscle_and_bone_in_hounsfield_units(person: int) -> None:
    shot = lung_ct.axial("normal", *seeds(person), 256)
    hu = cv2.GaussianBlur(shot.hounsfield, (0, 0), 1.5)
    assert abs(float(np.median(hu[:20])) - lung_ct.AIR) < 25
    middle = hu[60:200, 30:226]
    lung = middle[(middle > -950) & (middle < -600)]
    assert -900 < np.median(lung) < -790 and len(lung) > 4000
    assert (np.abs(middle - lung_ct.MUSCLE) < 60).sum() > 500
    assert 450 < np.percentile(shot.hounsfield, 99.7) < 1000 and shot.hounsfield.max() <= 3071


def test_the_ct_window_shows_its_ends_black_and_white_and_its_centre_between() -> None:
    ends = np.array([-2000, -1000, -300, 400, 3000], np.float32)
    assert lung_ct.windowed(ends).tolist() == [0, 0, 128, 255, 255]


def test_ct_noise_is_stronger_in_fine_detail_than_in_coarse() -> None:
    scanned = lung_ct._scan(np.random.default_rng(0), np.zeros((256, 256), np.float32))
    power = np.abs(np.fft.rfft2(scanned)) ** 2
    frequency = np.hypot(np.fft.rfftfreq(256), np.fft.fftfreq(256)[:, None])
    coarse, fine = (
        power[(frequency > 0.005) & (frequency < 0.03)],
        power[(frequency > 0.1) & (frequency < 0.2)],
    )
    assert fine.mean() > 3 * coarse.mean() and 8 < scanned.std() < 40


def test_nodules_are_denser_than_lung_calcium_is_benign_and_spicules_are_malignant() -> None:
    found: dict[str, list[tuple[float, float]]] = {"benign": [], "malignant": []}
    for finding, measures in found.items():
        for person in range(10):
            shot = lung_ct.axial(finding, *seeds(person), 256)  # type: ignore[arg-type]
            inside = shot.mask > 0
            assert inside.sum() >= 12 and shot.hounsfield[inside].mean() > -350
            measures.append((float(shot.hounsfield[inside].max()), roughness(shot.mask)))
    benign, malignant = np.array(found["benign"]), np.array(found["malignant"])
    assert (benign[:, 0] > 230).mean() > 0.35 and (malignant[:, 0] < 230).all()
    assert np.median(malignant[:, 1]) > 1.2 * np.median(benign[:, 1])


def test_the_spin_echo_signal_orders_tissues_as_t1_weighting_does_and_contrast_brightens() -> None:
    sequence = brain_mri._Weighting(500, 12)
    tissues = (brain_mri.CSF, brain_mri.GRAY, brain_mri.WHITE, brain_mri.FAT)
    signals = [sequence.signal(tissue) for tissue in tissues]
    assert signals == sorted(signals)
    # 0.7 (1 - exp(-500/580)) exp(-12/80)
    assert signals[2] == pytest.approx(0.7 * 0.57771 * 0.86071, rel=1e-4)
    assert sequence.signal(brain_mri.TUMOUR, 1.0) > 1.5 * sequence.signal(brain_mri.TUMOUR)


@pytest.mark.parametrize("person", PEOPLE)
def test_a_glioma_is_a_ring_and_a_meningioma_is_even(person: int) -> None:
    core, rim = {}, {}
    for finding in ("glioma", "meningioma"):
        shot = brain_mri.axial(finding, *seeds(person), 160)  # type: ignore[arg-type]
        depth = cv2.distanceTransform((shot.mask > 0).astype(np.uint8), cv2.DIST_L2, 3)
        core[finding] = shot.pixels[depth > 0.75 * depth.max()].mean()
        rim[finding] = shot.pixels[(depth > 0) & (depth < 0.35 * depth.max())].mean()
    assert rim["glioma"] > core["glioma"] + 15 and core["meningioma"] > rim["meningioma"] - 10


def test_tumours_lie_where_their_kind_does() -> None:
    centres: dict[str, np.ndarray] = {}
    for finding in ("glioma", "meningioma", "pituitary"):
        places = []
        for person in range(12):
            shot = brain_mri.axial(finding, *seeds(person), 96)  # type: ignore[arg-type]
            places.append(np.argwhere(shot.mask > 0).mean(0) * shot.cm_per_pixel - 48 * shot.cm_per_pixel)
        centres[finding] = np.hypot(*np.array(places).T)
    assert centres["pituitary"].max() < 3 and np.median(centres["meningioma"]) > 4
    assert np.median(centres["pituitary"]) < np.median(centres["glioma"]) < np.median(centres["meningioma"])


@pytest.mark.parametrize("finding", fracture.LABELS[1:])
def test_breaking_a_bone_moves_it_but_takes_nothing_away(finding: fracture.Finding) -> None:
    for person in PEOPLE:
        whole, broken = (fracture.radiograph(f, *seeds(person), 128) for f in ("none", finding))  # type: ignore[arg-type]
        change = broken.line_integral - whole.line_integral
        bone = whole.line_integral - float(np.median(whole.line_integral))
        lost = float(change[32:96].sum()) / float(bone[bone > 0].sum())
        assert abs(lost) < 0.05 and np.abs(change).max() > 0.3
        assert (broken.mask > 0).sum() > 20 and not whole.mask.any()


def test_a_spiral_break_is_longer_than_an_oblique_and_that_longer_than_a_transverse_one() -> None:
    length = {
        finding: np.mean(
            [
                np.ptp(np.flatnonzero(fracture.radiograph(finding, *seeds(p), 96).mask.any(1)))
                for p in range(8)
            ]
        )
        for finding in ("transverse", "oblique", "spiral")
    }
    assert 1.4 * length["transverse"] < length["oblique"] < length["spiral"]


def test_a_tone_stands_in_the_spectrogram_at_its_frequency_and_power() -> None:
    time = np.arange(eeg.SECONDS * eeg.RATE) / eeg.RATE
    tone = np.broadcast_to(20 * np.sin(2 * np.pi * 8 * time), (4, 4, time.size)).astype(np.float32)
    image = eeg.spectrogram(tone, 128)
    strip = image[:32].mean(1)
    assert 31 - int(strip.argmax()) == 8 * 2 - eeg.LOWEST_BIN
    # A tone of amplitude A has power A^2/2; a Hann window's noise bandwidth is 1.5 bins of 0.5 Hz.
    expected = (10 * np.log10(20**2 / 2 / 0.75) - eeg.FLOOR_DB) / eeg.RANGE_DB * 255
    assert strip.max() == pytest.approx(expected, abs=1.5)


def test_a_seizure_is_louder_than_before_and_slows_down() -> None:
    falls = []
    for person in range(10):
        shot = eeg.record("seizure", *seeds(person), 128)
        row = int(np.argmax((shot.mask > 0).sum(1)))
        strip = shot.pixels[row // 32 * 32 : row // 32 * 32 + 32].astype(float)[::-1]
        columns = np.flatnonzero(shot.mask[row])
        before = np.setdiff1d(np.arange(128), columns)
        assert strip[:20, columns].mean() > strip[:20, before].mean() + 5
        third = len(columns) // 3
        gain = strip - strip[:, before].mean(1, keepdims=True)
        early, late = (gain[2:24, c].mean(1).argmax() for c in (columns[:third], columns[-third:]))
        falls.append(int(early) - int(late))
    assert np.median(falls) >= 3
    assert not eeg.record("background", *seeds(0), 128).mask.any()
