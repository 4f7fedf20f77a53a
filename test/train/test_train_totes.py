"""Segmentation splits as samples: geometry, labels, bad data by name, and what AP counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from tote_scenes import HW, edited, scene, write_totes

from robollm.core.errors import ConfigError
from robollm.data.armbench_instances import Instance, read_instances
from robollm.data.armbench_segmentation import MIX, outlines
from robollm.data.images import read_image
from robollm.data.problems import Problems
from robollm.metrics.rle import exact_rle
from robollm.runtime.bundle import Canvas
from robollm.runtime.pixels import to_canvas
from robollm.train.detector.tote_view import Jitter, Placed, decoded, letterbox
from robollm.train.detector.totes import ToteData
from robollm.train.engine.draws import Draw, Void, collate

JITTER = {"scale": (0.5, 2.0), "vertical_flip": 0.5, "brightness": 0.2, "contrast": 0.2}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("totes")
    write_totes(root)
    return root


def problems_of(root, tmp_path, change) -> tuple[ToteData, dict[str, int]]:
    data = ToteData(str(edited(root, tmp_path, change)), canvas_hw=HW)
    return data, data.problems.counts


def test_every_image_is_read_also_the_one_without_annotations(root):
    data = ToteData(str(root), canvas_hw=HW, jitter=JITTER)
    assert len(data) == 4
    assert not len(data.problems)
    assert data.records[0].instances[1].segmentation[0].dtype == np.float32
    for i in range(4):
        sample = data[Draw(i, i)]
        assert sample["inputs"].shape == (3, *HW)
        assert sample["inputs"].dtype == torch.uint8
        truth = sample["data_samples"].gt_instances
        assert truth.bboxes.shape == (len(truth), 4)
        assert truth.masks.masks.shape == (len(truth), *HW)
    assert len(data[Draw(0, 3)]["data_samples"].gt_instances) == 0
    assert len(data[Draw(0, 0)]["data_samples"].gt_instances) > 1


@pytest.mark.parametrize("masks", ["polygons", "rle"])
def test_without_jitter_masks_and_boxes_are_those_of_the_scene(root, masks):
    data = ToteData(str(root), canvas_hw=HW, masks=masks, classes="two")
    truth = data[Draw(0, 0)]["data_samples"].gt_instances
    _, labels = scene(0)
    for mask, box, label, value in zip(
        truth.masks.masks, truth.bboxes.tolist(), truth.labels.tolist(), range(1, 6), strict=True
    ):
        want = labels == value
        assert label == (value > 1)
        both = (mask > 0) & want
        assert both.sum() / ((mask > 0) | want).sum() > (0.999 if masks == "rle" else 0.97)
        ys, xs = np.nonzero(mask)
        assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize("flips", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("kind", ["polygons", "rle"])
def test_masks_go_where_the_pixels_go(scale, flips, kind):
    mask = np.zeros(HW, bool)
    mask[20:60, 30:90] = True
    mask[60:80, 30:50] = True  # an L, which no flip maps onto itself
    rgb = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, 2)
    rle = {"size": list(HW), "counts": coco_mask.encode(np.asfortranarray(mask, np.uint8))}
    rle["counts"] = rle["counts"]["counts"].decode()
    one = Instance(
        1, "Object", (30, 20, 90, 80), outlines(mask) if kind == "polygons" else rle, 1, False
    )
    jitter = Jitter((90, 110), scale=(scale, scale), flip=flips[0], vertical_flip=flips[1])
    pixels, place = jitter(rgb, np.random.default_rng(4))
    drawn = place.mask(one, HW)
    seen = pixels[: place.inner_hw[0], : place.inner_hw[1], 0] > 127
    assert pixels.shape == (90, 110, 3)
    assert (pixels[place.inner_hw[0] :] == 128).all()
    assert (drawn & seen).sum() / (drawn | seen).sum() > 0.93
    assert (drawn != seen).mean() < 0.02


def test_a_polygon_that_leaves_the_canvas_is_cut_at_its_border():
    mask = np.zeros((64, 64), bool)
    mask[10:50, 20:60] = True
    one = Instance(1, "Object", (20, 10, 60, 50), outlines(mask), 1600, False)
    for bx, by in ((-30, 0), (25, -30), (40, 40), (-100, 0)):
        drawn = Placed((1.0, 1.0), (bx, by), (64, 64)).mask(one, (64, 64))
        want = np.zeros((64, 64), bool)
        ys, xs = np.nonzero(mask)
        inside = (ys + by >= 0) & (ys + by < 64) & (xs + bx >= 0) & (xs + bx < 64)
        want[ys[inside] + by, xs[inside] + bx] = True
        assert np.array_equal(drawn, want)


def test_augmentation_depends_on_the_place_in_the_stream_alone(root):
    data = ToteData(str(root), canvas_hw=HW, jitter=JITTER)
    state = np.random.get_state()[1].copy()
    a, b, c = data[Draw(5, 1)], data[Draw(5, 1)], data[Draw(6, 1)]
    assert torch.equal(a["inputs"], b["inputs"])
    assert torch.equal(a["data_samples"].gt_instances.bboxes, b["data_samples"].gt_instances.bboxes)
    assert not torch.equal(a["inputs"], c["inputs"])
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("canvas", [(64, 64), (128, 160), (96, 128)])
def test_the_evaluation_view_is_what_the_runtime_feeds(root, canvas):
    class HalfHalf:
        mean = std = (0.5, 0.5, 0.5)

    rgb = read_image(next((root / "armbench-segmentation-0.1" / MIX / "images").glob("train0*")))
    want, box = to_canvas(rgb, "rgb", Canvas(canvas, "letterbox"), HalfHalf())
    data = ToteData(str(root), canvas_hw=canvas)
    sample = data[0]
    ours = ((sample["inputs"].float() - 127.5) / 127.5).numpy()
    h, w = box.inner_hw
    assert np.allclose(ours[:, :h, :w], want[:, :h, :w], atol=1e-6)
    assert np.abs(ours - want).max() < 0.004
    assert sample["data_samples"].img_shape == box.inner_hw
    exact = (w / rgb.shape[1], h / rgb.shape[0])
    assert sample["data_samples"].scale_factor == exact == pytest.approx(box.scale_xy, rel=0.01)
    assert letterbox(rgb, canvas)[1] == box


def test_boxes_are_divided_by_the_scale_that_the_pixels_have(root):
    """2448x2048 px, ARMBench's, on 1024: 857 rows; the fitting scale would be .77 px off."""
    data = ToteData(str(root), canvas_hw=(1024, 1024))
    record = replace(data.records[0], hw=(2048, 2448), instances=())
    _, sample = data._truth(record, np.zeros((2048, 2448, 3), np.uint8))
    assert sample.img_shape == (857, 1024)
    assert sample.scale_factor == (1024 / 2448, 857 / 2048)


def test_a_view_with_ignored_instances_alone_is_drawn_again_or_replaced(root, tmp_path):
    def shrink(data):
        for a in data["annotations"]:
            a["area"] = 1.0 if a["image_id"] == 1 else a["area"]

    here = edited(root, tmp_path, shrink)
    data = ToteData(str(here), canvas_hw=HW, min_area=50.0, classes="object")
    sample = data[Draw(0, 0)]
    assert sample["problems"][0].kind == "only_ignored"
    assert "train0.jpg" in sample["problems"][0].what
    assert len(data[Draw(0, 3)]["data_samples"].gt_instances) == 0  # truly empty: it stays
    wide = {"scale": (0.05, 1.0), "flip": 0.0}
    data = ToteData(str(root), canvas_hw=HW, min_visible=200.0, classes="object", jitter=wide)
    for i in range(20):
        sample = data[Draw(i, 1)]
        if sample["name"].endswith("train1.jpg"):
            truth = sample["data_samples"]
            assert len(truth.gt_instances) or not len(truth.ignored_instances)


def test_classes_are_read_from_the_file_and_not_from_numbers(root, tmp_path):
    def renumber(data):
        new = {1: 40, 2: 7}
        for c in data["categories"]:
            c["id"] = new[c["id"]]
        for a in data["annotations"]:
            a["category_id"] = new[a["category_id"]]

    here = edited(root, tmp_path, renumber)
    for classes, want in (("two", [0, 1, 1, 1, 1]), ("agnostic", [0] * 5), ("object", [0] * 4)):
        data = ToteData(str(here), canvas_hw=HW, classes=classes)
        assert data[Draw(0, 0)]["data_samples"].gt_instances.labels.tolist() == want


def first(change):
    return lambda data: change(data["annotations"][1])


BAD = {
    "unknown_category": first(lambda a: a.update(category_id=9)),
    "empty_segmentation": first(lambda a: a.update(segmentation=[])),
    "bad_segmentation": first(lambda a: a.update(segmentation=[[1, 2, 3, 4]])),
    "degenerate_box": first(lambda a: a.update(bbox=[5, 5, 0, 4])),
    "outside_box": first(lambda a: a.update(bbox=[500, 5, 9, 4])),
    "orphan_annotation": first(lambda a: a.update(image_id=99)),
    "missing_image": lambda d: d["images"][1].update(file_name="nowhere.jpg"),
    "repeated_image": lambda d: d["images"].append(dict(d["images"][0])),
    "bad_image_entry": lambda d: d["images"][1].pop("width"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_bad_is_named_and_counted_and_the_rest_is_used(root, tmp_path, kind):
    data, counts = problems_of(root, tmp_path, BAD[kind])
    assert counts == {kind: 1}
    (line,) = data.problems.lines()
    assert "train.json" in line
    left = sum(len(r.instances) for r in data.records)
    lost = {"missing_image": 5, "bad_image_entry": 5, "repeated_image": 0}.get(kind, 1)
    assert left == 15 - lost


def test_a_box_over_the_border_is_clipped_and_named(root, tmp_path):
    data, counts = problems_of(root, tmp_path, first(lambda a: a.update(bbox=[-8, 5, 30, 4])))
    assert counts == {"clipped_box": 1}
    assert "clipped" in data.problems.lines()[0]
    assert data.records[0].instances[1].box == (0, 5, 22, 9)


def test_a_category_of_another_name_is_named(root, tmp_path):
    def rename(data):
        data["categories"][1]["name"] = "Hand"

    data, counts = problems_of(root, tmp_path, rename)
    assert counts == {"unknown_category": 12}
    assert "used" in data.problems.lines()[0]
    assert data[Draw(0, 0)]["data_samples"].gt_instances.labels.tolist() == [0] * 5
    assert [t["category"] for t in data[0]["data_samples"].instances] == ["tote"] + ["other"] * 4


@pytest.mark.parametrize("classes", ["two", "object"])
def test_a_class_without_any_instance_is_refused_and_can_be_named(root, tmp_path, classes):
    def rename(data):
        for category, name in zip(data["categories"], ("Container", "Item"), strict=True):
            category["name"] = name

    here = edited(root, tmp_path, rename)
    with pytest.raises(ConfigError, match="Container, Item"):
        ToteData(str(here), canvas_hw=HW, classes=classes)
    names = {"Item": "object", "container": "tote"}
    data = ToteData(str(here), canvas_hw=HW, classes=classes, names=names)
    want = {"two": [0, 1, 1, 1, 1], "object": [0] * 4}[classes]
    assert data[Draw(0, 0)]["data_samples"].gt_instances.labels.tolist() == want
    assert not len(data.problems)


@pytest.mark.parametrize(
    "polygon",
    ["text", [1, 2, 3, 4, 5, "6"], [1, 2, 3, 4, 5, None], [1, 2, 3, 4, 5, 1e39], [1] * 7,
     [[1, 2], [3, 4], [5, 6]], [[1, 2, 3], [4]], [1, 2, 3, 4, 5, float("nan")], 5, {}],
)  # fmt: skip
def test_a_polygon_that_is_none_is_named(root, tmp_path, polygon):
    change = first(lambda a: a["segmentation"].append(polygon))
    _, counts = problems_of(root, tmp_path, change)
    assert counts == {"bad_segmentation": 1}


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-400]), "truncated_image"),
        (lambda f: f.write_bytes(b"no picture"), "corrupt_image"),
        (lambda f: f.unlink(), "missing_image"),
    ],
)
def test_a_damaged_picture_is_replaced_in_training_and_left_out_in_evaluation(
    tmp_path, damage, kind
):
    folder = write_totes(tmp_path, images=2)
    data = ToteData(str(tmp_path), canvas_hw=HW)
    damage(folder / "images" / "train0.jpg")
    sample = data[Draw(0, 0)]
    assert sample["name"] != str(folder / "images" / "train0.jpg")
    assert sample["problems"][0].kind == kind
    assert "train0.jpg" in sample["problems"][0].what
    assert isinstance(data[0], Void)
    assert data[0].problem.kind == kind
    assert len(collate([data[0], data[1]])["data_samples"]) == 1


def test_a_picture_of_another_size_is_refused(root, tmp_path):
    data, _ = problems_of(root, tmp_path, lambda d: d["images"][0].update(width=130))
    assert data[0].problem.kind == "wrong_size"


@pytest.mark.parametrize("counts", ["zz", "5", [3, 4], "0P", [96 * 128 + 1]])
def test_run_lengths_that_do_not_add_up_are_refused(root, tmp_path, counts):
    def spoil(data):
        data["annotations"][1]["segmentation"] = {"size": list(HW), "counts": counts}

    data, counts = problems_of(root, tmp_path, spoil)
    assert not counts
    assert data[Draw(0, 0)]["problems"][0].kind == "bad_segmentation"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"masks": "best"}, "masks"),
        ({"subset": "all"}, "subset"),
        ({"classes": "three"}, "classes"),
        ({"names": {"Item": "thing"}}, "thing"),
        ({"fraction": 0}, "fraction"),
        ({"canvas_hw": (8, 8)}, "canvas"),
        ({"jitter": {"scale": (2, 1)}}, "scale"),
        ({"split": "tset"}, "tset.json"),
    ],
)
def test_a_wrong_setting_is_named(root, settings, word):
    with pytest.raises(ConfigError, match=word):
        ToteData(str(root), **settings)


def test_a_fraction_is_the_same_for_the_same_seed_and_limits_count(root):
    names = [
        [r.path.name for r in ToteData(str(root), fraction=0.5, choice_seed=s).records]
        for s in (0, 0, 1, 2, 3)
    ]
    assert names[0] == names[1]
    assert len({tuple(n) for n in names}) > 1
    assert all(len(n) == 2 for n in names)
    assert len(ToteData(str(root), limit=1)) == 1


def test_small_masks_and_crowds_are_ignored_not_negatives(root, tmp_path):
    def crowd(data):
        data["annotations"][1]["iscrowd"] = 1

    data = ToteData(str(edited(root, tmp_path, crowd)), canvas_hw=HW, min_area=400.0)
    sample = data[Draw(0, 0)]["data_samples"]
    small = sum(i.area < 400 or i.crowd for i in data.records[0].instances)
    assert len(sample.ignored_instances) == small >= 1
    assert len(sample.gt_instances) == 5 - small
    flags = [(t["crowd"], t["ignore"]) for t in data[0]["data_samples"].instances]
    assert flags[1][0]
    assert sum(c or i for c, i in flags) == small


def test_the_reader_counts_into_what_it_is_given(root):
    file = root / "armbench-segmentation-0.1" / MIX / "train.json"
    problems = Problems()
    records = read_instances(file, problems, images=root)
    assert records == []
    assert problems.counts == {"missing_image": 4}


def test_exact_run_lengths_are_those_of_the_file(root):
    data = ToteData(str(root), canvas_hw=HW, masks="rle")
    _, labels = scene(0)
    for value, one in enumerate(data.records[0].instances, start=1):
        assert np.array_equal(decoded(exact_rle(one, HW)), labels == value)
