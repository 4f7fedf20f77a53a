from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robollm.core.errors import ConfigError
from robollm.runtime.bundle import Canvas
from robollm.runtime.pixels import to_canvas
from robollm.train.engine.augment import MEAN_COLOUR, Augment, on_canvas

ALL = {
    "scale": (0.3, 1.0),
    "ratio": (0.75, 1.333),
    "flip": 0.5,
    "vertical_flip": 0.5,
    "quarter_turns": True,
    "degrees": 20,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "channels": 0.1,
    "grey": 0.2,
    "blur": 0.5,
    "jpeg": 0.5,
    "erase": 0.5,
}


def picture(hw=(40, 60), seed=0):
    """Smooth colours, so that resizing hardly changes them."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return cv2.resize(small, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC)


def normalised(canvas):
    return (canvas.astype(np.float32).transpose(2, 0, 1) - 127.5) / 127.5


class HalfBundle:
    mean = std = (0.5, 0.5, 0.5)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(4, 64),
    st.sampled_from(["letterbox", "stretch"]),
)
@settings(max_examples=60, deadline=None)
def test_training_and_the_runtime_see_the_same_pixels(height, width, size, fit):
    rgb = np.random.default_rng([height, width, size]).integers(0, 256, (height, width, 3))
    rgb = rgb.astype(np.uint8)
    want, box = to_canvas(rgb, "rgb", Canvas((size, size), fit), HalfBundle())
    got = normalised(on_canvas(rgb, size, fit))
    h, w = box.inner_hw
    np.testing.assert_allclose(got[:, :h, :w], want[:, :h, :w], atol=1e-6)
    np.testing.assert_allclose(got, want, atol=0.5 / 127.5 + 1e-6)
    assert (on_canvas(rgb, size, fit)[h:] == MEAN_COLOUR).all()


def test_without_a_generator_or_without_options_it_is_the_evaluation_transform():
    rgb = picture()
    want = on_canvas(rgb, 32)
    assert (Augment(32, **ALL)(rgb, None) == want).all()
    assert (Augment(32)(rgb, np.random.default_rng(0)) == want).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_any_picture_comes_out_on_the_canvas_and_the_same_seed_gives_the_same(seed, h, w):
    rgb = picture((h, w), seed)
    before = rgb.copy()
    change = Augment(24, **ALL)
    one, two = (change(rgb, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == (24, 24, 3)
    assert one.dtype == np.uint8
    assert one.flags["C_CONTIGUOUS"]
    assert (one == two).all()
    assert (rgb == before).all()


@pytest.mark.parametrize("option", sorted(ALL))
def test_every_option_alone_changes_some_pictures(option):
    extra = {"scale": (0.5, 1.0)} if option == "ratio" else {}
    change = Augment(32, **{option: ALL[option]}, **extra)
    rgb = picture()
    rng = np.random.default_rng(1)
    changed = [(change(rgb, rng) != on_canvas(rgb, 32)).any() for _ in range(12)]
    assert any(changed)


def test_a_flip_is_a_flip_and_happens_as_often_as_told():
    rgb = picture((32, 32))
    change, rng = Augment(32, flip=0.5), np.random.default_rng(0)
    flipped = [(change(rgb, rng) == rgb[:, ::-1]).all() for _ in range(400)]
    assert 150 < sum(flipped) < 250


def test_quarter_turns_move_pixels_only():
    rgb = picture((32, 32))
    change, rng = Augment(32, quarter_turns=True), np.random.default_rng(0)
    turns = [np.rot90(rgb, k) for k in range(4)]
    seen = {
        next(k for k in range(4) if (out == turns[k]).all())
        for out in (change(rgb, rng) for _ in range(40))
    }
    assert seen == {0, 1, 2, 3}


def test_a_crop_has_the_area_and_the_shape_that_were_asked_for():
    row, column = np.mgrid[:200, :100]
    rgb = np.stack([row, column, row * 0], axis=2).astype(np.uint8)
    change, rng = Augment(64, scale=(0.25, 0.36), ratio=(0.8, 1.25)), np.random.default_rng(0)
    for _ in range(50):
        window = change._crop(rgb, rng)
        h, w = window.shape[0] / 200, window.shape[1] / 100
        assert 0.24 < h * w < 0.375
        assert 0.78 < w / h < 1.28


def test_a_small_turn_keeps_the_middle_and_fills_the_corners_with_the_mean_colour():
    rgb = np.full((32, 32, 3), 250, np.uint8)
    out = Augment(32, degrees=30)(rgb, np.random.default_rng(3))
    assert (out[10:22, 10:22] == 250).all()
    assert (out[0, 0] == MEAN_COLOUR).all()


def test_grey_has_no_colour_and_brightness_scales():
    rgb = picture((16, 16))
    out = Augment(16, grey=1.0)(rgb, np.random.default_rng(0)).astype(int)
    assert np.ptp(out, axis=2).max() == 0
    flat = np.full((16, 16, 3), 100, np.uint8)
    change, rng = Augment(16, brightness=0.2), np.random.default_rng(0)
    values = {int(change(flat, rng)[0, 0, 0]) for _ in range(100)}
    assert min(values) in range(80, 85)
    assert max(values) in range(116, 121)


def test_what_is_erased_is_one_rectangle_of_one_colour():
    rgb = np.full((40, 40, 3), 7, np.uint8)
    out = Augment(40, erase=1.0, erase_area=(0.1, 0.1))(rgb, np.random.default_rng(5))
    changed = (out != 7).any(axis=2)
    ys, xs = np.nonzero(changed)
    assert changed[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()
    assert 0.08 < changed.mean() < 0.12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 1.5}, "flip is 1.5, want 0 to 1"),
        ({"scale": (0.0, 1.0)}, "scale is"),
        ({"scale": 0.5}, "want two numbers"),
        ({"ratio": (1.2, 0.8)}, "want low <= high"),
        ({"fit": "crop"}, "fit 'crop'"),
        ({"size": 0}, "size 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Augment(**{"size": 8, **options})
