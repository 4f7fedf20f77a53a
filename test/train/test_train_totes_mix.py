"""Training views out of several pictures, compared with slow pixel by pixel compositions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tote_scenes import HW, scene, write_totes

from robollm.core.errors import ConfigError
from robollm.data.armbench_instances import Instance
from robollm.train.detector import paste
from robollm.train.detector.totes import ToteData
from robollm.train.engine.draws import Draw, collate

STILL = {"scale": (1.0, 1.0), "flip": 0.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("totes")
    write_totes(root)
    return root


def data_of(root, jitter, **options) -> ToteData:
    return ToteData(str(root), canvas_hw=HW, jitter={**STILL, **jitter}, **options)


def pixels_of(sample):
    return sample["inputs"].numpy().transpose(1, 2, 0)


def square(y, x, side, hw=(40, 50)):
    mask = np.zeros(hw, bool)
    mask[max(0, y) : y + side, max(0, x) : x + side] = True
    return mask


def slow_paste(rgb, masks, one, at):
    """One pixel after the other: every pasted pixel is mixed by its 3x3 neighbours in the mask."""
    out, cut, new = rgb.astype(float), [m.copy() for m in masks], np.zeros(rgb.shape[:2], bool)
    h, w = one.mask.shape
    for v in range(h):
        for u in range(w):
            y, x = at[1] - h // 2 + v, at[0] - w // 2 + u
            if not (0 <= y < rgb.shape[0] and 0 <= x < rgb.shape[1]):
                continue
            near = one.mask[max(0, v - 1) : v + 2, max(0, u - 1) : u + 2].sum() / 9
            out[y, x] = (1 - near) * rgb[y, x] + near * one.rgb[v, u]
            if one.mask[v, u]:
                new[y, x] = True
                for mask in cut:
                    mask[y, x] = False
    return out, cut, new


@pytest.mark.parametrize("at", [(25, 20), (3, 20), (45, 36), (20, 2)])
def test_pasting_equals_a_composition_pixel_by_pixel(at):
    rng = np.random.default_rng(at)
    rgb = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    before = rgb.copy()
    disc = np.hypot(*(np.mgrid[:15, :13] - np.array([7, 6])[:, None, None])) < 6
    one = paste.Cutting(rng.integers(0, 256, (15, 13, 3)).astype(np.uint8), disc)
    parts = [
        paste.Part(i, square(*p, 14), False) for i, p in enumerate([(0, 0), (14, 18), (25, 35)])
    ]
    out, left = paste.paste(rgb, parts, one, 7, at, 4)
    want, cut, new = slow_paste(rgb, [p.mask for p in parts], one, at)
    assert np.abs(out - want).max() <= 0.5 + 1e-4
    assert (left[-1].label, left[-1].ignored) == (7, False)
    assert (left[-1].mask == new).all()
    assert new.any()
    for part, mask in zip(left[:-1], [m for m in cut if m.any()], strict=True):
        assert (part.mask == mask).all()
    assert (rgb == before).all()


def test_what_is_hidden_is_gone_what_is_nearly_hidden_is_ignored_the_rest_is_cut():
    one = paste.Cutting(np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), bool))
    inside, nearly, half = square(12, 12, 5), square(10, 10, 20), square(20, 10, 20)
    nearly[11:30, 30] = True
    parts = [paste.Part(0, m, False) for m in (inside, nearly, half)]
    _, left = paste.paste(np.zeros((40, 50, 3), np.uint8), parts, one, 0, (20, 20), 4)
    assert [(int(p.mask.sum()), p.ignored) for p in left] == [
        (19, True),
        (200, False),
        (400, False),
    ]
    _, left = paste.paste(np.zeros((40, 50, 3), np.uint8), parts, one, 0, (20, 20), 201)
    assert [p.ignored for p in left] == [True, True, False]


def test_an_object_that_would_be_mostly_outside_is_not_pasted():
    rgb, one = (
        np.zeros((40, 50, 3), np.uint8),
        paste.Cutting(np.full((20, 20, 3), 9, np.uint8), np.ones((20, 20), bool)),
    )
    out, parts = paste.paste(rgb, [], one, 0, (-3, 20), 4)
    assert not parts
    assert (out == rgb).all()
    assert len(paste.paste(rgb, [], one, 0, (3, 20), 4)[1]) == 1


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_an_object_is_cut_out_with_its_own_pixels(flips):
    mask = square(10, 8, 16) & ~square(10, 8, 7)
    rgb = np.where(mask[..., None], np.uint8(200), np.uint8(30)).repeat(3, 2)
    points = [15, 10, 24, 10, 24, 26, 8, 26, 8, 17, 15, 17]
    one = Instance(1, "Object", (8, 10, 24, 26), [np.array(points, np.float32)], 207, False)
    found = paste.cut(rgb, one, 1.0, flips, 40 * 50)
    assert found is not None
    assert ((found.rgb[..., 0] > 100) == found.mask).all()
    twice = paste.cut(rgb, one, 2.0, flips, 160 * 200)
    assert twice is not None
    assert ((twice.rgb[..., 0] > 115) != twice.mask).mean() < 0.03
    assert paste.cut(rgb, one, 2.0, flips, 40 * 50) is None  # too large
    assert paste.cut(rgb, one, 0.05, flips, 40 * 50) is None  # too small


@pytest.mark.parametrize("masks", ["polygons", "rle"])
@pytest.mark.parametrize("classes", ["object", "two", "agnostic"])
def test_pasted_objects_join_the_truth_and_share_no_pixel_with_it(root, classes, masks):
    plain = data_of(root, {}, classes=classes, masks=masks)
    data = data_of(root, {"paste": 1.0, "paste_most": 2}, classes=classes, masks=masks)
    more = 0
    for i in range(12):
        before = plain[Draw(i, 0)]
        after = data[Draw(i, 0)]
        truth, old = after["data_samples"].gt_instances, before["data_samples"].gt_instances
        changed = (pixels_of(after) != pixels_of(before)).any(2)
        seen = truth.masks.masks.astype(bool)
        others = before["data_samples"].gt_instances.masks.masks.astype(bool)
        new = [m for m in seen if not any((m & ~o).sum() == 0 for o in others)]
        assert len(new) <= 2
        more += len(new)
        for m in new:
            assert sum((m & s).any() for s in seen) == 1  # with itself alone
            assert (changed & m).sum() > 0.5 * m.sum()
        labels = truth.labels.tolist()
        assert labels[len(labels) - len(new) :] == [int(classes == "two")] * len(new)
        if classes == "two":
            assert labels.count(0) == old.labels.tolist().count(0) == 1
        for m, box in zip(seen, truth.bboxes.tolist(), strict=True):
            ys, xs = np.nonzero(m)
            assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert more >= 8


def test_another_background_leaves_the_tote_and_the_truth_as_they_are(root):
    plain, data = data_of(root, {}), data_of(root, {"background": 1.0})
    inside = scene(0)[1] > 0
    changed = []
    for i in range(6):
        before, after = plain[Draw(i, 0)], data[Draw(i, 0)]
        differs = (pixels_of(before) != pixels_of(after)).any(2)
        assert not differs[inside].any()
        changed.append(differs[~inside].mean())
        for name in ("bboxes", "labels"):
            mine, theirs = (s["data_samples"].gt_instances[name] for s in (after, before))
            assert torch.equal(mine, theirs)
    assert max(changed) > 0.5
    empty = (plain[Draw(0, 3)], data[Draw(0, 3)])  # without a tote there is no outside
    assert torch.equal(empty[0]["inputs"], empty[1]["inputs"])


def test_surroundings_come_from_the_broadest_strip_without_instances():
    rgb = np.full((60, 80, 3), 200, np.uint8)
    rgb[:, 60:] = np.arange(20)[None, :, None]
    found = paste.surroundings(rgb, [(10, 0, 55.5, 60), (2, 2, 20, 20)], 1.0, (30, 50))
    assert found is not None
    want = np.array([200, 200, *range(20), *reversed(range(20)), 200, 200, 200, 200, *range(4)])
    assert (found[0, :, 0] == want).all()
    assert (found == found[:1]).all()
    assert paste.surroundings(rgb, [(5, 5, 75, 55)], 1.0, (30, 50)) is None


def test_a_tote_area_fills_holes_and_takes_what_sticks_out():
    ring = square(5, 5, 20) & ~square(10, 10, 10)
    other = square(20, 20, 12)
    area = paste.tote_area([ring], [other], (40, 50))
    assert (area == (square(5, 5, 20) | other)).all()
    assert not paste.tote_area([], [other], (40, 50)).any()


def test_erased_spots_are_small_and_do_not_change_the_truth(root):
    plain = data_of(root, {})
    data = data_of(root, {"erase": 1.0, "erase_most": 3, "erase_area": (0.005, 0.01)})
    for i in range(6):
        before, after = plain[Draw(i, 1)], data[Draw(i, 1)]
        share = (pixels_of(before) != pixels_of(after)).any(2).mean()
        assert 0.003 < share < 0.035
        mine, theirs = (s["data_samples"].gt_instances.masks.masks for s in (after, before))
        assert (mine == theirs).all()


FULL = {"scale": (0.45, 1.3), "flip": 0.5, "paste": 0.7, "background": 0.7, "erase": 0.7,
        "camera": {"noise": 0.5, "blur": 0.5, "jpeg": 0.5}}  # fmt: skip


def test_the_same_place_in_the_stream_gives_the_same_picture_and_evaluation_is_untouched(root):
    data, plain = data_of(root, FULL), data_of(root, {})
    for i in range(8):
        a, b = data[Draw(i, i % 4)], data[Draw(i, i % 4)]
        assert torch.equal(a["inputs"], b["inputs"])
        mine, theirs = (s["data_samples"].gt_instances.masks.masks for s in (a, b))
        assert (mine == theirs).all()
    for i in range(4):
        assert torch.equal(data[i]["inputs"], plain[i]["inputs"])


def test_with_every_chance_at_0_views_are_those_of_the_old_options_alone(root):
    old = {"scale": (0.5, 2.0), "vertical_flip": 0.5, "brightness": 0.2, "channels": 0.1}
    off = {"paste": 0.0, "background": 0.0, "erase": 0.0, "camera": {"noise": 0.0}}
    one, two = data_of(root, old), data_of(root, {**old, **off})
    for i in range(6):
        a, b = one[Draw(i, 0)], two[Draw(i, 0)]
        assert torch.equal(a["inputs"], b["inputs"])


def test_a_zoomed_out_view_is_padded_with_the_mean_colour(root):
    data = data_of(root, {"scale": (0.45, 0.45)}, min_visible=1.0)
    sample = data[Draw(0, 0)]
    h, w = sample["data_samples"].img_shape
    assert (h, w) == (43, 58)
    assert (pixels_of(sample)[h:] == 128).all()
    assert (pixels_of(sample)[:, w:] == 128).all()
    assert len(sample["data_samples"].gt_instances) == 5


def test_a_broken_second_picture_is_counted_and_the_view_does_without(tmp_path):
    folder = write_totes(tmp_path, images=2)
    data = ToteData(str(tmp_path), canvas_hw=HW, jitter={**STILL, "paste": 1.0, "background": 1.0})
    for name in ("train1.jpg", "train-empty.jpg"):
        (folder / "images" / name).write_bytes(b"no picture")
    samples = [data[Draw(i, 0)] for i in range(6)]
    assert all(s["name"].endswith("train0.jpg") for s in samples)
    problems = collate(samples)["problems"]
    assert {p.kind for p in problems} == {"corrupt_image"}
    actions = [p.action for p in problems]
    assert actions.count("not pasted") == 6
    assert 1 <= actions.count("no background of it") <= 5
    assert not any("only_ignored" in p.kind for p in problems)
    assert all(len(s["data_samples"].gt_instances) == 5 for s in samples)


@pytest.mark.parametrize(
    ("jitter", "word"),
    [
        ({"paste": 2}, "paste is 2"),
        ({"paste_most": 0}, "paste_most is 0"),
        ({"paste_most": 2.5}, "paste_most is 2.5"),
        ({"paste_scale": (0, 1)}, "paste_scale"),
        ({"background": -0.1}, "background"),
        ({"erase": "yes"}, "erase is 'yes'"),
        ({"erase_area": (0.5, 0.1)}, "erase_area"),
        ({"camera": {"noise": 7}}, "noise is 7"),
    ],
)
def test_a_wrong_setting_of_the_mix_is_named(root, jitter, word):
    with pytest.raises(ConfigError, match=word):
        data_of(root, jitter)
