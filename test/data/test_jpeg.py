"""JPEG in RGB order."""

import numpy as np
import pytest

from robollm.core.errors import FrameError
from robollm.data import jpeg


def test_red_stays_red():
    red = np.zeros((32, 48, 3), np.uint8)
    red[..., 0] = 220
    back = jpeg.decode(jpeg.encode(red, quality=95))
    assert back.shape == red.shape
    assert np.abs(back.astype(int) - red).max() < 6


@pytest.mark.parametrize("raw", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut off"])
def test_what_is_no_image_is_a_frame_error(raw):
    with pytest.raises(FrameError, match="not a JPEG"):
        jpeg.decode(raw)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.int16)])
def test_what_is_not_rgb_bytes_is_refused(image):
    with pytest.raises(FrameError, match="want a non-empty"):
        jpeg.encode(image)
