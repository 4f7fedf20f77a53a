"""The drawn world: truth that agrees with the pixels, families, views that can be told apart."""

import itertools

import numpy as np
import pytest

from robollm.sim.sketch_damage import damaged
from robollm.sim.sketch_paste import Pose, label, warp
from robollm.sim.sketch_products import catalogue, texture
from robollm.sim.sketch_scene import COLOURS, TOTE_HW, Item, draw_tote, scatter
from robollm.sim.sketch_views import REFERENCES, VIEW_HW, VIEWS, draw_reference, draw_view

PRODUCTS = catalogue()


def mean_difference(a, b):
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_boxes_are_the_extent_of_the_visible_pixels(colour):
    scene = draw_tote(scatter(PRODUCTS, 5), colour, 5)
    assert scene.image.shape == (*TOTE_HW, 3)
    assert scene.image.dtype == np.uint8
    assert scene.labels.max() <= len(PRODUCTS)
    for i, (x1, y1, x2, y2) in enumerate(scene.boxes.astype(int)):
        inside = scene.labels[y1:y2, x1:x2] == i + 1
        assert inside.sum() == (scene.labels == i + 1).sum() > 0
        edges = inside[0], inside[-1], inside[:, 0], inside[:, -1]
        assert all(edge.any() for edge in edges)


def test_a_mask_covers_what_its_item_changes_and_the_rest_is_its_shadow():
    lone = Item(PRODUCTS[0], Pose(300, 300, 20, 0.57))
    scene, empty = draw_tote([lone], "grey", 1), draw_tote([], "grey", 1)
    changed = np.abs(scene.image.astype(int) - empty.image).max(2)
    mask = scene.labels == 1
    assert (changed[mask] > 8).mean() > 0.97
    far = np.ones(TOTE_HW, bool)
    x1, y1, x2, y2 = scene.boxes[0].astype(int)
    far[y1 - 60 : y2 + 60, x1 - 60 : x2 + 60] = False
    assert changed[far].max() <= 1


def test_later_items_hide_earlier_ones():
    pose = Pose(400, 350, 0, 0.57)
    scene = draw_tote([Item(PRODUCTS[9], pose), Item(PRODUCTS[0], pose)], "blue", 1)
    assert scene.labels[350, 400] == 2
    assert (scene.labels == 1).sum() < (scene.labels == 2).sum() / 3


def test_a_hidden_item_has_an_empty_box():
    big, small = Pose(480, 360, 0, 1.2), Pose(480, 360, 0, 0.2)
    scene = draw_tote([Item(PRODUCTS[0], small), Item(PRODUCTS[0], big)], "grey", 1)
    assert scene.boxes[0].tolist() == [0, 0, 0, 0]


def test_the_same_seed_gives_the_same_scene():
    a, b = (draw_tote(scatter(PRODUCTS[:5], 3), "grey", 3) for _ in range(2))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.labels, b.labels)
    assert not np.array_equal(a.image, draw_tote(scatter(PRODUCTS[:5], 4), "grey", 4).image)


def test_the_catalogue_has_families_of_near_duplicates():
    assert len({p.product_id for p in PRODUCTS}) == 12
    for brand, family in itertools.groupby(PRODUCTS, key=lambda p: p.brand):
        first, *others = family
        assert len(others) == 2, brand
        for p in others:
            assert (p.kind, p.palette, p.size_px, p.dimensions_m) == (
                first.kind, first.palette, first.size_px, first.dimensions_m,
            )  # fmt: skip
            same = np.abs(texture(p).astype(int) - texture(first)).max(2) < 12
            assert 0.4 < same.mean() < 0.99, p.title


def test_textures_are_shared_and_therefore_read_only():
    with pytest.raises(ValueError, match="read-only"):
        texture(PRODUCTS[0])[:] = 0


@pytest.mark.parametrize("product", PRODUCTS[::3], ids=lambda p: p.kind)
def test_damage_changes_the_package_and_sticks_out_of_it(product):
    whole, broken = texture(product), damaged(product, 1)
    h, w = whole.shape[:2]
    y, x = (broken.shape[0] - h) // 2, (broken.shape[1] - w) // 2
    changed = np.abs(broken[y : y + h, x : x + w].astype(int) - whole).max(2) > 30
    assert 0.05 < changed.mean() < 0.6
    assert (
        np.count_nonzero(broken[..., 3]) - np.count_nonzero(broken[y : y + h, x : x + w, 3])
        > 0.005 * h * w
    )
    assert np.array_equal(broken, damaged(product, 1))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("product", PRODUCTS[::3], ids=lambda p: p.kind)
def test_views_tell_nominal_multi_pick_and_damage_apart(view, product):
    other = PRODUCTS[(PRODUCTS.index(product) + 5) % 12]
    nominal = draw_view(view, [product], "grey", 3)
    assert nominal.shape == (*VIEW_HW, 3)
    assert nominal.dtype == np.uint8
    assert np.array_equal(nominal, draw_view(view, [product], "grey", 3))
    assert mean_difference(nominal, draw_view(view, [product, other], "grey", 3)) > 4
    assert mean_difference(nominal, draw_view(view, [product], "grey", 3, broken=True)) > 4


def test_references_look_like_neither_totes_nor_views():
    for index in range(REFERENCES):
        picture = draw_reference(PRODUCTS[3], index)
        assert picture[:12, :12].mean() > 150, "a bright studio"
        assert (picture.astype(int).max(2) - picture.min(2) > 60).mean() > 0.08, "with a product"
    assert mean_difference(draw_reference(PRODUCTS[3], 0), draw_reference(PRODUCTS[4], 0)) > 0.5


@pytest.mark.parametrize("at", [(-500, 10), (10, -500), (5000, 5000), (-20, 470), (470, -20)])
def test_what_lies_outside_the_picture_is_clipped(at):
    labels = np.zeros((480, 480), np.uint16)
    label(labels, warp(texture(PRODUCTS[0]), Pose(*at, 30, 0.5)), 7)
    assert set(np.unique(labels)) <= {0, 7}


def test_a_pose_keeps_its_middle_and_its_size():
    corners = Pose(100, 50, 90, 0.5).corners((40, 80))
    np.testing.assert_allclose(corners.mean(0), (100, 50), atol=1e-3)
    np.testing.assert_allclose(np.ptp(corners, axis=0), (20, 40), atol=1e-3)
