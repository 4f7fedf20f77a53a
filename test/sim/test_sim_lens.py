from __future__ import annotations

import cv2
import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.render.lens import decode, develop, encode, random_lens, streak
from robollm.sim.world import Lens


def card(grey: int = 128, hw: tuple[int, int] = (96, 128)) -> np.ndarray:
    return np.full((*hw, 3), grey, np.uint8)


def picture() -> np.ndarray:
    rng = np.random.default_rng(3)
    rough = rng.integers(30, 220, (12, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(rough, (128, 96), interpolation=cv2.INTER_CUBIC))


def linear(rgb: np.ndarray) -> np.ndarray:
    return (rgb / 255.0) ** 2.2


def test_a_neutral_lens_is_only_jpeg() -> None:
    rgb = picture()
    out = develop(rgb, Lens(), 1)
    np.testing.assert_array_equal(out, develop(rgb, Lens(), 2))
    assert np.abs(out.astype(int) - rgb).mean() < 3


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not() -> None:
    lens = random_lens(np.random.default_rng(1))
    assert encode(picture(), lens, 5) == encode(picture(), lens, 5)
    assert encode(picture(), lens, 5) != encode(picture(), lens, 6)


def test_a_file_decodes_to_what_develop_returns() -> None:
    lens = Lens(noise=2.0, focus_px=0.6)
    np.testing.assert_array_equal(decode(encode(picture(), lens, 5)), develop(picture(), lens, 5))


def test_one_stop_doubles_the_light() -> None:
    brighter = develop(card(90), Lens(exposure_ev=1.0), 0)
    assert linear(brighter).mean() / linear(card(90)).mean() == pytest.approx(2, rel=0.03)


def test_white_balance_scales_each_colour() -> None:
    out = linear(develop(card(), Lens(white_balance=(1.2, 1.0, 0.8)), 0)).mean(axis=(0, 1))
    np.testing.assert_allclose(out / linear(card()).mean(), [1.2, 1.0, 0.8], rtol=0.04)


def test_vignetting_takes_its_share_of_the_corners_light_and_nothing_of_the_middle() -> None:
    out = linear(develop(card(), Lens(vignetting=0.3, jpeg_quality=100), 0))[..., 1]
    assert out[0, 0] / linear(card())[0, 0, 1] == pytest.approx(0.7, abs=0.03)
    assert out[48, 64] / linear(card())[0, 0, 1] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("lens", [Lens(motion_px=5.0, motion_deg=30.0), Lens(focus_px=1.5)])
def test_blur_moves_nothing(lens: Lens) -> None:
    rgb = card(20, (65, 65))
    rgb[31:34, 31:34] = 235
    out = linear(develop(rgb, lens, 0))[..., 1] - linear(card(20))[0, 0, 1]
    out = np.clip(out, 0.002, None) - 0.002
    y, x = np.mgrid[:65, :65]
    assert (out * y).sum() / out.sum() == pytest.approx(32, abs=0.15)
    assert (out * x).sum() / out.sum() == pytest.approx(32, abs=0.15)
    assert out.max() < linear(rgb).max() * 0.97


@pytest.mark.parametrize("degrees", [0.0, 45.0, 90.0, 137.0])
def test_a_streak_is_symmetric_and_as_long_as_asked(degrees: float) -> None:
    kernel = streak(6.0, degrees)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    assert kernel.sum() == pytest.approx(1)
    n = len(kernel) // 2
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    along = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    assert np.sqrt((kernel * along**2).sum() * 12) == pytest.approx(6, rel=0.12)


def test_noise_has_its_size_at_mid_grey_and_no_mean() -> None:
    out = develop(card(128, (160, 160)), Lens(noise=4.0, jpeg_quality=100), 1)[..., 1].astype(float)
    assert out.std() == pytest.approx(4, rel=0.12)
    assert out.mean() == pytest.approx(128, abs=0.5)


def test_random_lenses_grow_with_strength() -> None:
    rng = np.random.default_rng(0)
    mild = [random_lens(rng, 0.1) for _ in range(200)]
    wild = [random_lens(rng, 1.0) for _ in range(200)]
    for value in ("exposure_ev", "vignetting", "noise"):
        a, b = (np.mean([abs(getattr(lens, value)) for lens in some]) for some in (mild, wild))
        assert b > 1.5 * a
    assert min(lens.jpeg_quality for lens in wild) < min(lens.jpeg_quality for lens in mild)


def test_bad_arguments_say_what_was_wanted() -> None:
    with pytest.raises(ConfigError, match="want uint8"):
        develop(np.zeros((4, 4), np.uint8), Lens(), 0)
    with pytest.raises(ConfigError, match="want 1 to 100"):
        develop(card(), Lens(jpeg_quality=0), 0)
    with pytest.raises(ConfigError, match="not a JPEG"):
        decode(b"no picture")
