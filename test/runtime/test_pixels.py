from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robollm.core import boxes as bx
from robollm.core.errors import FrameError
from robollm.core.frame import CHANNELS, Frame
from robollm.runtime.bundle import Canvas
from robollm.runtime.pixels import Region, paste_mask, to_canvas

NORM = SimpleNamespace(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5))  # of a Bundle
sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
canvases = st.builds(
    Canvas,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["letterbox", "stretch"]),
)


def scene(hw, seed=0, *, grey=False):
    """A smooth colour picture, (H, W, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (5, 5, 1 if grey else 3), np.uint8)
    rgb = cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC).reshape(*hw, -1)
    return np.repeat(rgb, 3, axis=2) if grey else rgb


def as_order(rgb, order):
    """The same scene as another camera sends it."""
    alpha = np.full((*rgb.shape[:2], 1), 77, np.uint8)
    bgr = rgb[..., ::-1]
    made = {
        "rgb": rgb, "bgr": bgr, "mono": rgb[..., :1],
        "rgba": np.concatenate([rgb, alpha], 2), "bgra": np.concatenate([bgr, alpha], 2),
    }  # fmt: skip
    return np.ascontiguousarray(made[order])


def padded(image):
    """The same pixels in rows that are longer than the image, as cameras with a step send them."""
    h, w, c = image.shape
    wide = np.full((h, w + 5, c), 99, np.uint8)
    wide[:, :w] = image
    return wide[:, :w]


def slow_canvas(rgb, canvas):
    """What to_canvas promises, from an explicit contiguous RGB copy, value by value."""
    h, w, _ = rgb.shape
    ch, cw = canvas.hw
    if canvas.fit == "stretch":
        ih, iw = ch, cw
    else:
        scale = min(ch / h, cw / w)
        ih, iw = min(ch, max(1, round(h * scale))), min(cw, max(1, round(w * scale)))
    how = cv2.INTER_AREA if ih < h or iw < w else cv2.INTER_LINEAR
    small = cv2.resize(np.array(rgb, order="C"), (iw, ih), interpolation=how)
    out = np.zeros((3, ch, cw))
    for c in range(3):
        for y in range(ih):
            for x in range(iw):
                out[c, y, x] = (float(small[y, x, c]) / 255 - NORM.mean[c]) / NORM.std[c]
    return out


@settings(max_examples=40)
@given(hw=sizes, canvas=canvases, seed=st.integers(0, 99))
def test_a_canvas_is_what_the_slow_way_says(hw, canvas, seed):
    rgb = scene(hw, seed)
    got, letterbox = to_canvas(rgb, "rgb", canvas, NORM)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, slow_canvas(rgb, canvas), atol=1e-5)
    ih, iw = letterbox.inner_hw
    assert not got[:, ih:].any()
    assert not got[:, :, iw:].any()


@given(hw=sizes, canvas=canvases, order=st.sampled_from(sorted(CHANNELS)))
def test_padded_rows_change_nothing(hw, canvas, order):
    image = as_order(scene(hw), order)
    want, _ = to_canvas(image, order, canvas, NORM)
    got, _ = to_canvas(padded(image), order, canvas, NORM)
    np.testing.assert_array_equal(got, want)


@given(hw=sizes, canvas=canvases, order=st.sampled_from(["bgr", "rgba", "bgra"]))
def test_every_colour_order_gives_the_same_canvas(hw, canvas, order):
    rgb = scene(hw)
    want, _ = to_canvas(rgb, "rgb", canvas, NORM)
    got, _ = to_canvas(as_order(rgb, order), order, canvas, NORM)
    np.testing.assert_allclose(got, want, atol=1.01 / 255 / min(NORM.std))  # one grey level


@given(hw=sizes, canvas=canvases)
def test_a_grey_camera_gives_the_canvas_of_a_grey_scene(hw, canvas):
    rgb = scene(hw, grey=True)
    want, _ = to_canvas(rgb, "rgb", canvas, NORM)
    got, _ = to_canvas(as_order(rgb, "mono"), "mono", canvas, NORM)
    np.testing.assert_allclose(got, want, atol=1.01 / 255 / min(NORM.std))


@pytest.mark.parametrize("order", sorted(CHANNELS))
def test_the_camera_image_is_not_changed(order):
    image = as_order(scene((30, 40)), order)
    before = image.copy()
    image.setflags(write=False)
    to_canvas(image, order, Canvas((16, 16), "letterbox"), NORM)
    np.testing.assert_array_equal(image, before)


@given(hw=sizes, canvas=canvases, order=st.sampled_from(sorted(CHANNELS)))
def test_a_canvas_can_be_written_into_a_row_of_a_batch(hw, canvas, order):
    image = as_order(scene(hw), order)
    want, box = to_canvas(image, order, canvas, NORM)
    batch = np.full((3, 3, *canvas.hw), np.nan, np.float32)
    got, same = to_canvas(image, order, canvas, NORM, out=batch[1])
    assert np.shares_memory(got, batch)
    assert same == box
    np.testing.assert_array_equal(batch[1], want)
    assert np.isnan(batch[[0, 2]]).all()


@pytest.mark.parametrize(
    "out", [np.zeros((3, 16, 8), np.float32), np.zeros((3, 16, 16)), np.zeros((1, 16, 16))]
)
def test_a_row_that_does_not_fit_is_a_mistake_of_the_caller(out):
    with pytest.raises(ValueError, match=r"want \(3, 16, 16\) float32"):
        to_canvas(scene((9, 9)), "rgb", Canvas((16, 16), "letterbox"), NORM, out=out)


# regions


def region(box, hw=(30, 40)):
    return Region(Frame(scene(hw), "rgb", 1), box)


def test_a_region_is_the_whole_pixels_that_its_box_touches():
    r = region((2.5, 3.2, 7.1, 8.0))
    assert r.window == (2, 3, 8, 8)
    np.testing.assert_array_equal(r.pixels, r.frame.pixels[3:8, 2:8])
    assert np.shares_memory(r.pixels, r.frame.pixels)


def test_a_box_that_sticks_out_is_cut_off_at_the_border():
    assert region((-5, -5, 9, 9)).window == (0, 0, 9, 9)
    assert region((35, 25, 99, 99)).window == (35, 25, 40, 30)


def test_no_box_means_the_whole_image():
    assert region(None).window == (0, 0, 40, 30)


@pytest.mark.parametrize(
    "box",
    [
        (40, 0, 50, 9), (0, 30, 9, 40), (-9, 0, 0, 9), (0, -9, 9, 0),
        (5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), (0, 0, 0, 0),
        (math.nan, 0, 9, 9), (0, 0, math.inf, 9),
    ],
)  # fmt: skip
@pytest.mark.parametrize("use", ["window", "pixels", "key"])
def test_a_box_without_area_inside_the_image_is_refused(box, use):
    r = region(box)
    with pytest.raises(FrameError, match="no area inside the 40x30 px image") as e:
        r.key() if use == "key" else getattr(r, use)
    assert e.value.kind == "bad_box"


def test_the_cache_key_tells_regions_apart():
    rgb = scene((64, 64))
    other = rgb.copy()
    other[::2] ^= 0xFF
    a = Region(Frame(rgb, "rgb", 5, stream="low"))
    assert a.key() == Region(Frame(padded(rgb), "rgb", 5, stream="low")).key()
    for b in (
        Region(Frame(other, "rgb", 5, stream="low")),
        Region(Frame(rgb, "rgb", 6, stream="low")),
        Region(Frame(rgb, "rgb", 5, stream="wall")),
        Region(Frame(rgb, "bgr", 5, stream="low")),
        Region(Frame(rgb, "rgb", 5, stream="low"), (0, 0, 63, 64)),
    ):
        assert a.key() != b.key()


@pytest.mark.parametrize("at", [(0, 0), (7, 11), (299, 399), (150, 201)])
def test_one_other_pixel_of_the_same_stamp_is_another_picture_to_the_cache(at):
    grey = np.full((300, 400, 3), 99, np.uint8)
    scratched = grey.copy()
    scratched[at] = 98
    assert Region(Frame(grey, "rgb", 5)).key() != Region(Frame(scratched, "rgb", 5)).key()


# masks


def slow_mask(p, box, hw):
    """The mask probability of every pixel of an image: bilinear at pixel centres, 0 outside."""
    m = len(p)
    out = np.zeros(hw)

    def cell(row, column):
        return float(p[row, column]) if 0 <= row < m and 0 <= column < m else 0.0

    x1, y1, x2, y2 = (float(v) for v in box)
    for y in range(hw[0]):
        for x in range(hw[1]):
            u = (x + 0.5 - x1) / (x2 - x1) * m - 0.5
            v = (y + 0.5 - y1) / (y2 - y1) * m - 0.5
            c, r = math.floor(u), math.floor(v)
            fu, fv = u - c, v - r
            top = cell(r, c) * (1 - fu) + cell(r, c + 1) * fu
            low = cell(r + 1, c) * (1 - fu) + cell(r + 1, c + 1) * fu
            out[y, x] = top * (1 - fv) + low * fv
    return out


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    corner=st.tuples(st.floats(0, 20, width=32), st.floats(0, 20, width=32)),
    size=st.tuples(st.floats(1, 30, width=32), st.floats(1, 30, width=32)),
)
def test_a_pasted_mask_is_what_the_slow_way_says(seed, corner, size):
    hw = (26, 32)
    p = cv2.resize(
        np.random.default_rng(seed).random((4, 4), np.float32), (14, 14)
    )  # as smooth as a head's
    box = bx.clip(np.float32([[*corner, corner[0] + size[0], corner[1] + size[1]]]), hw)[0]
    window = paste_mask(p, box, hw, 0.5)
    want = slow_mask(p, box, hw)
    sure = np.abs(want - 0.5) > 0.05  # OpenCV rounds coordinates to 1/32 of a cell
    x1, y1, x2, y2 = bx.pixel_bounds(box, hw)
    inside = np.zeros(hw, bool)
    inside[y1:y2, x1:x2] = True
    got = window.full(hw)
    np.testing.assert_array_equal(got[sure & inside], want[sure & inside] >= 0.5)
    assert not got[~inside].any()
    assert (window.x, window.y, *window.bits.shape[::-1]) == (x1, y1, x2 - x1, y2 - y1)


def test_a_box_without_area_gives_a_mask_of_a_pixel():
    window = paste_mask(np.ones((14, 14), np.float32), np.float32([5, 5, 5, 5]), (9, 9), 0.5)
    assert window.bits.shape == (1, 1)
