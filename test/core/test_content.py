"""Where a catalogue picture shows its product."""

import statistics

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


def slow_box(rgb):
    """`content_box` pixel by pixel as its words say, without the margin."""
    h, w = rgb.shape[:2]
    strip = max(1, round(0.02 * w))
    differs = np.zeros((h, w), bool)
    for y, row in enumerate(rgb.astype(int)):
        backdrop = [statistics.median([*row[:strip, c], *row[w - strip :, c]]) for c in range(3)]
        for x in range(w):
            differs[y, x] = any(abs(row[x, c] - backdrop[c]) > 22 for c in range(3))
    ys = [y for y in range(h) if differs[y].sum() > max(1, 0.01 * w)]
    xs = [x for x in range(w) if differs[:, x].sum() > max(1, 0.01 * h)]
    return xs[0], ys[0], xs[-1] + 1, ys[-1] + 1


@pytest.mark.parametrize("seed", range(3))
def test_bands_of_rows_make_no_difference(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(200, 222, (540, 60, 3), np.uint8)  # more than two bands
    x, y = rng.integers(10, 20), rng.integers(40, 250)
    image[y : y + 270, x : x + 30] = rng.integers(0, 256, (270, 30, 3), np.uint8)
    x1, y1, x2, y2 = slow_box(image)
    dx, dy = round(0.04 * (x2 - x1)), round(0.04 * (y2 - y1))
    assert content_box(image) == (x1 - dx, y1 - dy, x2 + dx, y2 + dy)


def test_of_a_product_from_side_to_side_not_only_its_print_is_looked_at():
    image = picture(backdrop=np.full(100, 240), box=(0, 30, 200, 80))
    image[45:60, 80:120] = 255  # what the ends of these rows are taken for is the product
    assert content_box(image) is None


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_tiny_pictures_have_no_content(hw):
    assert content_box(np.full((*hw, 3), 200, np.uint8)) is None
