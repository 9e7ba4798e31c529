"""Augmentation stays within what the recipe allows, and moves what it says."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from trainer.augmentation import augment, mixup, scaled, transforms
from trainer.backend import tf
from trainer.recipe import Augmentation

STILL = Augmentation(rotation_degrees=0, shift=0, scale=0, brightness=0, contrast=0, gamma=0, noise=0)
SEED = tf.constant([1, 2], tf.int64)


def images(n: int = 64, height: int = 16, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 1), dtype=np.uint8)


def test_input_is_exactly_the_pixel_less_128_over_128() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert np.array_equal(np.asarray(scaled(every)) * 128, every.astype(int) - 128.0)


def test_nothing_allowed_changes_nothing() -> None:
    pixels = images()
    assert np.allclose(augment(pixels, STILL, SEED), pixels, atol=1e-3)


def test_same_seed_same_images_other_seed_others() -> None:
    pixels, spec = images(), Augmentation(speckle=0.1, erase=0.2)
    first = np.asarray(augment(pixels, spec, SEED))
    assert np.array_equal(first, augment(pixels, spec, SEED))
    assert not np.array_equal(first, augment(pixels, spec, SEED + 1))


def test_result_is_of_the_input_range_whatever_is_switched_on() -> None:
    spec = Augmentation(
        flip_left_right=True,
        flip_up_down=True,
        rotation_degrees=180,
        brightness=1,
        contrast=1,
        gamma=1,
        noise=1,
        speckle=1,
        erase=1,
        exposure=4,
        grid=1,
        blur=3,
        gain=1,
        shadow=1,
    )
    changed = np.asarray(augment(images(), spec, SEED))
    assert changed.shape == (64, 16, 12, 1) and changed.min() >= 0 and changed.max() <= 255


def test_brightness_moves_no_further_than_allowed_and_all_pixels_alike() -> None:
    pixels = np.full((200, 8, 8, 1), 128, np.uint8)
    moved = np.asarray(augment(pixels, STILL.model_copy(update={"brightness": 0.1}), SEED)) - 128
    assert np.abs(moved).max() <= 25.5 + 1e-3 and np.abs(moved).max() > 20
    assert np.ptp(moved, axis=(1, 2, 3)).max() < 1e-3


def test_shift_moves_no_further_than_allowed() -> None:
    pixels = np.zeros((200, 40, 40, 1), np.uint8)
    pixels[:, 20, 20] = 255
    moved = np.asarray(augment(pixels, STILL.model_copy(update={"shift": 0.1}), SEED))[..., 0]
    rows, columns = np.mgrid[0:40, 0:40]
    weight = moved.sum(axis=(1, 2))
    down, right = (np.abs((moved * at).sum(axis=(1, 2)) / weight - 20) for at in (rows, columns))
    assert max(down.max(), right.max()) <= 4.01 and min(down.max(), right.max()) > 3


def test_uncovered_border_repeats_the_edge() -> None:
    pixels = np.full((50, 16, 16, 1), 200, np.uint8)
    spec = STILL.model_copy(update={"shift": 0.3, "rotation_degrees": 45, "scale": 0.5})
    assert np.allclose(augment(pixels, spec, SEED), 200, atol=1e-2)


def test_flips_mirror_some_images_and_only_mirror() -> None:
    pixels = images(40)
    flipped = np.asarray(augment(pixels, STILL.model_copy(update={"flip_left_right": True}), SEED))
    same = np.isclose(flipped, pixels, atol=0.5).all(axis=(1, 2, 3))
    mirrored = np.isclose(flipped, pixels[:, :, ::-1], atol=0.5).all(axis=(1, 2, 3))
    assert (same | mirrored).all() and 5 < mirrored.sum() < 35


def test_a_quarter_turn_and_an_enlargement_are_what_they_say() -> None:
    def one(value: float) -> object:
        return tf.constant([value], tf.float32)

    def image(x: float, y: float, *, angle: float = 0.0, scale: float = 1.0) -> np.ndarray:
        matrix = np.asarray(
            transforms(one(angle), one(scale), one(0.0), one(0.0), one(1.0), one(1.0), (11, 11))
        )[0]
        return np.array(
            [matrix[0] * x + matrix[1] * y + matrix[2], matrix[3] * x + matrix[4] * y + matrix[5]]
        )

    assert np.allclose(image(5, 5, angle=1.0), [5, 5], atol=1e-5)
    assert np.allclose(image(10, 5, angle=np.pi / 2), [5, 10], atol=1e-5)
    assert np.allclose(image(9, 5, scale=2.0), [7, 5], atol=1e-5)


def changed(spec: dict[str, float], pixels: np.ndarray) -> np.ndarray:
    return np.asarray(augment(pixels, STILL.model_copy(update=spec), SEED))[..., 0]


def flat(value: int = 128, n: int = 100) -> np.ndarray:
    return np.full((n, 24, 24, 1), value, np.uint8)


def test_a_smaller_dose_is_darker_and_noisier_for_its_brightness() -> None:
    exposed = changed({"exposure": 1.0}, flat(100))
    level, noise = exposed.mean(axis=(1, 2)), exposed.std(axis=(1, 2))
    assert 45 < level.min() < 60 and 170 < level.max() < 205
    assert np.corrcoef(level, noise / level)[0, 1] < -0.9


def test_a_dark_image_stays_an_image_whatever_the_dose_and_the_gamma() -> None:
    shown = changed({"exposure": 1.0, "gamma": 0.5, "contrast": 0.2}, flat(2))
    assert np.isfinite(shown).all() and (shown.max(axis=(1, 2)) > 0).all()


def test_a_grid_is_lines_in_one_direction_of_at_most_the_contrast() -> None:
    lined = changed({"grid": 0.2}, flat())
    assert np.abs(lined - 128).max() <= 0.2 * 128 + 1e-2
    along_rows, along_columns = np.ptp(lined, axis=2).max(axis=1), np.ptp(lined, axis=1).max(axis=1)
    assert np.all(np.minimum(along_rows, along_columns) < 1e-2)
    assert 20 < (along_rows > along_columns).sum() < 80


def test_blur_spreads_a_point_and_keeps_its_sum() -> None:
    pixels = np.zeros((20, 25, 25, 1), np.uint8)
    pixels[:, 12, 12] = 255
    blurred = changed({"blur": 1.5}, pixels)
    assert np.allclose(blurred.sum(axis=(1, 2)), 255, atol=1)
    assert blurred[:, 12, 12].min() < 150 and np.allclose(blurred, blurred[:, ::-1, ::-1], atol=1e-2)


def test_gain_changes_along_the_depth_only() -> None:
    gained = changed({"gain": 0.5}, flat())
    assert np.ptp(gained, axis=2).max() < 1e-2 and np.ptp(gained, axis=1).max() > 20
    assert np.abs(np.diff(gained, axis=1)).max() < 25


def test_a_shadow_darkens_a_band_downwards_in_about_half_the_images() -> None:
    shaded = changed({"shadow": 0.5}, flat())
    assert shaded.max() < 128.5
    dark = shaded.min(axis=(1, 2)) < 115
    assert 25 < dark.sum() < 75
    assert (shaded[dark, -1].mean(axis=1) < shaded[dark, 0].mean(axis=1)).all()


def test_erase_blanks_at_most_the_allowed_square() -> None:
    pixels = images(100, 20, 20)
    changed = np.asarray(augment(pixels, STILL.model_copy(update={"erase": 0.5}), SEED))
    blanked = (np.abs(changed - pixels) > 1).sum(axis=(1, 2, 3))
    assert 0 < blanked.max() <= 11 * 11


def test_mixup_blends_images_and_targets_in_the_same_shares() -> None:
    flat = np.array([0.0, 100.0], np.float32)[:, None, None, None] * np.ones((1, 4, 4, 1), np.float32)
    blended, targets = mixup(tf.constant(flat), tf.eye(2), 0.4, SEED)
    assert np.allclose(np.asarray(blended)[:, 0, 0, 0], np.asarray(targets)[:, 1] * 100, atol=1e-3)
    assert np.allclose(np.asarray(targets).sum(axis=1), 1)
