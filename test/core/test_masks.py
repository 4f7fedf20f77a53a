from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from robollm.core.masks import MaskWindow, decode_rle, encode_rle, label_map

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


@st.composite
def windows(draw, hw=(12, 15)):
    h, w = draw(st.integers(1, hw[0])), draw(st.integers(1, hw[1]))
    y, x = draw(st.integers(0, hw[0] - h)), draw(st.integers(0, hw[1] - w))
    return MaskWindow(x, y, draw(arrays(bool, (h, w))))


@given(mask=masks)
def test_a_mask_survives_run_lengths(mask):
    counts = encode_rle(mask)
    assert sum(counts) == mask.size
    assert sum(counts[1::2]) == mask.sum()
    assert all(type(n) is int for n in counts), "JSON takes nothing else"
    np.testing.assert_array_equal(decode_rle(counts, mask.shape), mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
@given(mask=masks)
def test_coco_tools_read_our_run_lengths(mask):
    counts = encode_rle(mask)
    packed = coco.frPyObjects({"size": list(mask.shape), "counts": counts}, *mask.shape)
    np.testing.assert_array_equal(coco.decode(packed), mask)
    assert coco.area(packed) == mask.sum()
    assert packed["counts"] == coco.encode(np.asfortranarray(mask, np.uint8))["counts"]


@pytest.mark.parametrize("value", [False, True])
def test_run_lengths_start_with_background_even_if_there_is_none(value):
    counts = encode_rle(np.full((2, 3), value))
    assert counts == ([0, 6] if value else [6])


@pytest.mark.parametrize("hw", [(0, 3), (3, 0)])
def test_an_empty_mask_has_run_lengths_too(hw):
    assert decode_rle(encode_rle(np.zeros(hw, bool)), hw).shape == hw
    assert decode_rle([], hw).shape == hw


@pytest.mark.parametrize("counts", [[5], [7], [3, -3, 6], []])
def test_runs_that_do_not_fill_the_image_are_refused(counts):
    with pytest.raises(ValueError, match=r"want 2 \* 3"):
        decode_rle(counts, (2, 3))


@given(layers=st.lists(windows(), max_size=5))
def test_the_best_instance_keeps_a_pixel_that_several_claim(layers):
    hw = (12, 15)
    got = label_map(layers, hw)
    assert got.dtype == np.uint16
    full = [m.full(hw) for m in layers]
    for y in range(hw[0]):
        for x in range(hw[1]):
            want = next((i + 1 for i, m in enumerate(full) if m[y, x]), 0)
            assert got[y, x] == want


def test_a_window_lies_where_it_says():
    full = MaskWindow(2, 1, np.array([[True, False]])).full((3, 5))
    assert np.argwhere(full).tolist() == [[1, 2]]
    assert full.shape == (3, 5)
