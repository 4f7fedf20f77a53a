"""Where a catalogue picture shows its product."""

import numpy as np
import pytest

from robollm.core.content import content_box, product_of


def picture(hw=(100, 200), box=(60, 30, 120, 80), backdrop=None):
    """A blue box on a light backdrop that grows darker downwards."""
    rows = np.linspace(250, 200, hw[0]) if backdrop is None else backdrop
    out = np.repeat(np.repeat(np.asarray(rows)[:, None, None], hw[1], 1), 3, 2).astype(np.uint8)
    out[box[1] : box[3], box[0] : box[2]] = (20, 40, 160)
    return out


def test_the_product_is_found_with_a_margin_of_four_hundredths_of_its_sides():
    assert content_box(picture()) == (58, 28, 122, 82)


def test_a_margin_ends_at_the_border_of_the_picture():
    assert content_box(picture(box=(60, 0, 120, 80))) == (58, 0, 122, 83)


def test_the_order_of_channels_does_not_matter():
    assert content_box(picture()[..., ::-1]) == content_box(picture())


def test_specks_are_no_product():
    image = picture()
    image[5, 150:152] = 0
    assert content_box(image) == content_box(picture())


@pytest.mark.parametrize(
    "image",
    [
        picture(box=(0, 0, 0, 0)),
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8),
    ],
    ids=["nothing", "no plain backdrop"],
)
def test_a_picture_without_product_or_plain_backdrop_is_looked_at_as_a_whole(image):
    assert content_box(image) is None
    assert product_of(image, "content") is image


def test_whole_means_whole():
    image = picture()
    assert product_of(image, "whole") is image
    assert product_of(image, "content").shape == (54, 64, 3)
