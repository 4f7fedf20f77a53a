from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from robollm.core import boxes as bx
from robollm.core.detections import Detections
from robollm.core.errors import FrameError
from robollm.core.frame import CHANNELS, Frame
from robollm.core.letterbox import FITS, Letterbox
from robollm.core.masks import MaskWindow
from robollm.core.quality import unusable

SIDE = 24
edges = st.integers(0, SIDE)
boxes = st.lists(st.tuples(edges, edges, edges, edges), min_size=1, max_size=4).map(
    lambda rows: np.array(rows, np.float32)
)


# the door of a frame


def pixels(shape=(4, 6, 3), dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(("order", "channels"), CHANNELS.items())
def test_a_frame_takes_every_channel_order_and_copies_nothing(order, channels):
    image = pixels((4, 6, channels))
    frame = Frame(image, order, stamp_ns=1)
    assert frame.hw == (4, 6)
    assert frame.pixels is image


@pytest.mark.parametrize(
    ("image", "order", "stamp", "kind"),
    [
        (pixels(), "gbr", 1, "bad_image"),
        (pixels((4, 6)), "mono", 1, "bad_image"),
        (pixels((4, 6, 4)), "rgb", 1, "bad_image"),
        (pixels((4, 6, 3)), "mono", 1, "bad_image"),
        (pixels(dtype=np.uint16), "rgb", 1, "bad_image"),
        (pixels(dtype=np.float32), "rgb", 1, "bad_image"),
        (pixels((0, 6, 3)), "rgb", 1, "empty_image"),
        (pixels((4, 0, 3)), "rgb", 1, "empty_image"),
        (pixels(), "rgb", 0, "bad_stamp"),
        (pixels(), "rgb", -5, "bad_stamp"),
    ],
)
def test_a_bad_image_stops_at_the_door(image, order, stamp, kind):
    with pytest.raises(FrameError) as e:
        Frame(image, order, stamp)
    assert e.value.kind == kind


# letterbox


@given(
    h=st.integers(1, 4000),
    w=st.integers(1, 4000),
    ch=st.integers(1, 1024),
    cw=st.integers(1, 1024),
    fit=st.sampled_from(FITS),
    corners=st.tuples(*[st.floats(0, 1, width=32)] * 4),
)
@example(h=1, w=1, ch=1, cw=1, fit="letterbox", corners=(0.0, 0.0, 1.0, 1.0))
@example(h=1, w=4000, ch=1, cw=1, fit="letterbox", corners=(0.0, 0.0, 1.0, 1.0))
@example(h=4000, w=1, ch=384, cw=480, fit="stretch", corners=(0.0, 0.0, 1.0, 1.0))
def test_a_box_survives_the_way_to_the_canvas_and_back(h, w, ch, cw, fit, corners):
    letterbox = Letterbox.fit((h, w), (ch, cw), fit)
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    source = np.array([[x1 * w, y1 * h, x2 * w, y2 * h]], np.float32)
    canvas = letterbox.to_canvas(source)
    assert canvas.dtype == np.float32
    assert (canvas <= np.array([cw, ch, cw, ch]) * 1.0001 + 1e-3).all()
    back = letterbox.to_source(canvas)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, source, rtol=1e-5, atol=1e-3)


@given(
    h=st.integers(1, 4000), w=st.integers(1, 4000), ch=st.integers(1, 999), cw=st.integers(1, 999)
)
def test_a_letterbox_fills_one_side_and_keeps_the_proportions(h, w, ch, cw):
    letterbox = Letterbox.fit((h, w), (ch, cw))
    ih, iw = letterbox.inner_hw
    assert letterbox.scale_xy == (iw / w, ih / h)  # what pixels are really resized by
    assert 1 <= ih <= ch
    assert 1 <= iw <= cw
    assert ih == ch or iw == cw
    scale = min(ch / h, cw / w)
    assert abs(ih - max(1.0, h * scale)) <= 0.5001
    assert abs(iw - max(1.0, w * scale)) <= 0.5001


def test_boxes_come_back_by_what_the_picture_was_really_resized_by():
    letterbox = Letterbox.fit((2048, 2448), (1024, 1024))
    assert letterbox.inner_hw == (857, 1024)
    whole = np.array([[0, 0, 1024, 857]], np.float32)
    np.testing.assert_allclose(letterbox.to_source(whole), [[0, 0, 2448, 2048]], atol=1e-3)


@given(h=st.integers(1, 4000), w=st.integers(1, 4000))
def test_stretching_fills_the_canvas(h, w):
    assert Letterbox.fit((h, w), (224, 96), "stretch").inner_hw == (224, 96)


@pytest.mark.parametrize(("src", "canvas"), [((0, 5), (9, 9)), ((5, 0), (9, 9)), ((5, 5), (0, 9))])
def test_nothing_fits_into_nothing(src, canvas):
    with pytest.raises(FrameError, match="want all > 0"):
        Letterbox.fit(src, canvas)


def test_a_box_in_the_padding_comes_back_without_area():
    letterbox = Letterbox.fit((100, 200), (200, 200))
    back = letterbox.to_source(np.array([[10, 120, 90, 180]], np.float32))
    assert bx.area(back)[0] == 0


def test_boxes_of_another_shape_are_refused():
    with pytest.raises(FrameError, match=r"want \(N, 4\)"):
        Letterbox.fit((9, 9), (9, 9)).to_source(np.zeros((3, 5), np.float32))


# boxes


def filled(box):
    """The slow way: the pixels of a box with whole edges."""
    image = np.zeros((SIDE, SIDE), bool)
    x1, y1, x2, y2 = (int(v) for v in box)
    image[y1:y2, x1:x2] = True
    return image


@given(a=boxes, b=boxes)
def test_iou_and_area_agree_with_counting_pixels(a, b):
    got = bx.iou(a, b)
    assert got.shape == (len(a), len(b))
    assert got.dtype == np.float32
    for i, one in enumerate(map(filled, a)):
        assert bx.area(a)[i] == one.sum()
        for j, other in enumerate(map(filled, b)):
            union = (one | other).sum()
            want = (one & other).sum() / union if union else 0.0
            assert got[i, j] == pytest.approx(want, abs=1e-6)


def test_iou_with_no_boxes_is_an_empty_table():
    none, one = np.zeros((0, 4), np.float32), np.ones((1, 4), np.float32)
    assert bx.iou(none, one).shape == (0, 1)
    assert bx.iou(one, none).shape == (1, 0)


@given(
    box=st.tuples(*[st.floats(-50, 80, width=32)] * 4), h=st.integers(1, 30), w=st.integers(1, 30)
)
def test_pixel_bounds_cover_the_box_and_are_never_empty(box, h, w):
    x1, y1, x2, y2 = bx.pixel_bounds(np.array(box, np.float32), (h, w))
    assert 0 <= x1 < x2 <= w
    assert 0 <= y1 < y2 <= h
    inside = np.clip(box, 0, [w, h, w, h])
    if inside[2] > inside[0]:
        assert x1 <= inside[0] < inside[2] <= x2
        assert inside[0] - x1 <= 1
        assert x2 - inside[2] <= 1
    if inside[3] > inside[1]:
        assert y1 <= inside[1] < inside[3] <= y2


# detections


def two_instances():
    window = MaskWindow(1, 1, np.ones((2, 2), bool))
    return Detections(
        np.array([[1, 1, 3, 3], [0, 0, 4, 4]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([0, 1], np.int32),
        (window, MaskWindow(0, 0, np.ones((4, 4), bool))),
        (5, 6),
    )


def test_detections_keep_what_is_asked_for_in_that_order():
    kept = two_instances().keep(np.array([1, 0]))
    assert kept.scores.tolist() == pytest.approx([0.8, 0.9])
    assert kept.masks[1].bits.shape == (2, 2)
    assert len(kept) == 2
    assert len(two_instances().keep(np.array([], np.intp))) == 0


def test_no_detections_are_a_black_label_map():
    none = Detections.empty((5, 6))
    assert len(none) == 0
    assert none.label_map().shape == (5, 6)
    assert not none.label_map().any()


@pytest.mark.parametrize("field", ["boxes", "scores", "labels", "masks"])
def test_arrays_that_do_not_belong_together_are_a_bug(field):
    good = two_instances()
    parts = {n: getattr(good, n) for n in ("boxes", "scores", "labels", "masks", "hw")}
    parts[field] = parts[field][:1]
    with pytest.raises(ValueError, match=r"want|masks for"):
        Detections(**parts)


# quality


def test_an_ordinary_picture_can_be_judged():
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    assert unusable(noise, dark_below=12, flat_below=3) is None
    assert unusable(noise[:1, :1], dark_below=0, flat_below=0) is None


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_dark_or_even_picture_is_named_so(channels):
    black = np.zeros((60, 80, channels), np.uint8)
    white = np.full((60, 80, channels), 255, np.uint8)
    assert "too dark: mean grey 0.0, want 12" in unusable(black, dark_below=12, flat_below=3)
    assert "no contrast" in unusable(white, dark_below=12, flat_below=3)
    assert unusable(black, dark_below=0, flat_below=0) is None


def test_full_alpha_does_not_make_a_black_picture_bright():
    black = np.zeros((60, 80, 4), np.uint8)
    black[..., 3] = 255
    assert "too dark" in unusable(black, dark_below=12, flat_below=3)
