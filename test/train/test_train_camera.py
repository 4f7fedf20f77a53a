"""Random cameras: what each effect does to pixels, and that nothing happens unasked."""

from __future__ import annotations

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.train.detector.tote_view import Jitter
from robollm.train.engine.augment import Augment
from robollm.train.engine.camera import Camera

CHANCES = [
    "motion", "blur", "low", "exposure", "channels", "saturation", "hue", "vignette", "noise",
    "gamma", "jpeg",
]  # fmt: skip


def picture(hw=(40, 60)):
    return np.random.default_rng(3).integers(0, 256, (*hw, 3)).astype(np.uint8)


def flat(*levels, hw=(40, 60)):
    return np.broadcast_to(np.array(levels, np.uint8), (*hw, 3)).copy()


def take(rgb, seed=0, **options):
    return Camera(**options)(rgb, np.random.default_rng(seed))


def test_a_camera_that_is_off_gives_the_picture_back_and_draws_nothing():
    rng = np.random.default_rng(1)
    assert (Camera()(picture(), rng) == picture()).all()
    assert rng.random() == np.random.default_rng(1).random()


@pytest.mark.parametrize("effect", CHANCES)
def test_every_effect_changes_the_picture_the_same_for_the_same_seed(effect):
    rgb = picture()
    first, again, other = (take(rgb, seed, **{effect: 1.0}) for seed in (5, 5, 6))
    assert first.shape == rgb.shape
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != rgb).any()
    assert (first != other).any()
    assert (rgb == picture()).all()


@pytest.mark.parametrize("hw", [(1, 1), (1, 7), (5, 1)])
def test_pictures_of_a_few_pixels_pass_through_all_effects(hw):
    assert take(picture(hw), **dict.fromkeys(CHANCES, 1.0)).shape == (*hw, 3)


def test_colours_follow_their_formulas():
    grey, red = flat(100, 100, 100), flat(200, 80, 80)
    one_stop = take(grey, exposure=1, exposure_stops=(1, 1))
    assert (one_stop == round(100 * 2 ** (1 / 2.2))).all()
    assert (take(grey, channels=1, channels_gain=(1.2, 1.2)) == 120).all()
    assert (take(grey, gamma=1, gamma_power=(2, 2)) == round((100 / 255) ** 2 * 255)).all()
    without = take(red, saturation=1, saturation_times=(0, 0))
    assert (without == round(0.299 * 200 + 0.701 * 80)).all()
    assert (take(grey, saturation=1, hue=1) == grey).all()
    turned = take(red, hue=1, hue_degrees=(120, 120))
    assert (turned[0, 0] == (80, 200, 80)).all()  # red goes to green


def test_noise_has_the_deviation_that_was_asked_for_and_grows_with_light():
    hw = (200, 200)
    for level, times in ((127, 1.0), (40, np.sqrt(0.5 + 0.5 * 40 / 127.5))):
        noisy = take(flat(*[level] * 3, hw=hw), noise=1, noise_sigma=(0.04, 0.04)).astype(float)
        assert noisy.mean() == pytest.approx(level, abs=0.3)
        assert noisy.std() == pytest.approx(0.04 * 255 * times, rel=0.03)


def test_blur_of_motion_spreads_a_point_to_a_line_of_its_length():
    rgb = flat(0, 0, 0, hw=(41, 41))
    rgb[20, 20] = 255
    for seed in range(5):
        out = take(rgb, seed, motion=1, motion_px=(9, 9))[..., 0]
        ys, xs = np.nonzero(out > 8)
        assert 7 <= np.hypot(np.ptp(ys), np.ptp(xs)) <= 11
        assert (ys.mean(), xs.mean()) == pytest.approx((20, 20), abs=0.2)
        assert int(out.sum()) == pytest.approx(255, abs=30)


def test_corners_lose_light_and_the_middle_none():
    out = take(flat(200, 200, 200, hw=(41, 61)), vignette=1, vignette_loss=(0.5, 0.5))
    assert (out[20, 30] == 200).all()
    assert (out[0, 0] == 100).all()
    assert (out[0, 30] == 150).all()


def test_few_pixels_leave_no_fine_pattern():
    checks = np.indices((40, 60)).sum(0) % 2 * 255
    rgb = np.repeat(checks[..., None], 3, 2).astype(np.uint8)
    assert np.ptp(take(rgb, low=1, low_factor=(0.5, 0.5)).astype(int)) <= 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"noise": 1.5}, "noise is 1.5, want 0 to 1"),
        ({"noise": "often"}, "noise is 'often'"),
        ({"noise_sigma": (0.1, 0.9)}, "noise_sigma"),
        ({"gamma_power": (2, 1)}, "gamma_power"),
        ({"low_factor": 0.5}, "two numbers"),
        ({"fog": 0.5}, "no setting fog"),
    ],
)
def test_a_wrong_setting_of_the_camera_is_named(options, word):
    with pytest.raises(ConfigError, match=word):
        Camera.of(options)
    with pytest.raises(ConfigError, match=word):
        Augment(8, camera=options)
    with pytest.raises(ConfigError, match=word):
        Jitter((8, 8), camera=options)


def test_crops_and_tote_views_go_through_the_camera_and_padding_stays_clean():
    camera = {"noise": 1.0, "exposure": 1.0, "jpeg": 1.0}
    rgb = picture()
    crop = Augment(64, camera=camera)(rgb, np.random.default_rng(0))
    view, place = Jitter((64, 64), scale=(0.5, 0.5), flip=0, camera=camera)(
        rgb, np.random.default_rng(0)
    )
    assert place.inner_hw == (22, 32) or place.inner_hw == (21, 32)
    assert (view[place.inner_hw[0] :] == 128).all()
    assert (view[:, place.inner_hw[1] :] == 128).all()
    assert (crop[43:] == 128).all()
    assert (crop[:43] != Augment(64)(rgb, np.random.default_rng(0))[:43]).any()
    off = dict.fromkeys(CHANCES, 0.0)
    same = Augment(64, flip=0.5, blur=0.5, erase=0.5)(rgb, np.random.default_rng(9))
    assert (
        same
        == Augment(64, flip=0.5, blur=0.5, erase=0.5, camera=off)(rgb, np.random.default_rng(9))
    ).all()
