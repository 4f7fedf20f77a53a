from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.core.masks import decode_rle, encode_rle
from robollm.data import armbench_defects, armbench_identification, jpeg
from robollm.data.armbench_files import VIEWS, read_object
from robollm.data.armbench_segmentation import (
    MIX,
    OBJECT,
    SAME_OBJECT,
    TOTE,
    ZOOMED_OUT,
    compress_rle,
)
from robollm.sim.bodies import body_of
from robollm.sim.dataset.evidence import broken_px, second_px, whole_again
from robollm.sim.dataset.jobs import Studio
from robollm.sim.dataset.jobs_choice import (
    choose_manifest,
    choose_products,
    choose_tote,
    item_count,
    that_fit,
)
from robollm.sim.dataset.jobs_totes import (
    MIN_VISIBLE_PX,
    annotated,
    photograph,
    shots_of,
)
from robollm.sim.dataset.plan import DatasetSettings, Job
from robollm.sim.physics import totes
from robollm.sim.products import damage
from robollm.sim.products.catalogue import make_catalogue
from robollm.sim.products.multipack import units
from robollm.sim.render.renderers import make_renderer
from robollm.sim.world import TOTE_LABEL, WHOLE, Form, Item, Picture, Pose, Scene

SETTINGS = DatasetSettings(
    totes=4, variants=2, picks=4, products=30, size="160x128", view_size="96x96", max_items=7,
    seed=3, task=("segmentation", "identification", "defects"),
)  # fmt: skip
PICKS = {
    event: Job("pick", number, "train", event=event)
    for number, event in enumerate(("nominal", "multi_pick", "open", "deconstruction"))
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """The simulator, writing into a folder of its own."""
    with contextlib.closing(Studio(tmp_path_factory.mktemp("jobs"), SETTINGS)) as made:
        yield made


@pytest.fixture(scope="module")
def picked(studio):
    """One pick of each event, done."""
    return {event: studio.run(job) for event, job in PICKS.items()}


def digest(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


# totes


@pytest.mark.parametrize("subset", [MIX, ZOOMED_OUT, SAME_OBJECT])
def test_masks_boxes_and_areas_are_those_of_the_rendered_ids(studio, subset):
    views = shots_of(studio, Job("tote", 1, "test", subset))
    assert len(views) == SETTINGS.variants
    for view, picture in zip(views, photograph(studio, views), strict=True):
        rows, left_out = annotated(picture.labels, view.scene, view.shot.camera)
        values, counts = np.unique(picture.labels, return_counts=True)
        shown = [v for v, n in zip(values, counts, strict=True) if v and n >= MIN_VISIBLE_PX]
        assert left_out == sum(0 < n < MIN_VISIBLE_PX for n in counts[values > 0])
        assert len(rows) == len(shown)
        for value, row in zip(shown, rows, strict=True):
            mask = picture.labels == value
            assert row["rle"]["counts"] == compress_rle(encode_rle(mask))
            assert (decode_rle(encode_rle(mask), mask.shape) == mask).all()
            assert row["area"] == mask.sum()
            assert row["category_id"] == (TOTE if value == TOTE_LABEL else OBJECT)
            if value != TOTE_LABEL:
                assert 0 < row["visibility"] <= 1
                x, y, w, h = row["bbox"]
                ax, ay, aw, ah = row["amodal_bbox"]
                assert ax - 1.5 <= x <= x + w <= ax + aw + 1.5
                assert ay - 1.5 <= y <= y + h <= ay + ah + 1.5


def test_copies_of_one_product_fill_a_same_object_tote(studio):
    [view, *_] = shots_of(studio, Job("tote", 2, "train", SAME_OBJECT))
    assert len(view.scene.items) >= 2
    assert len({i.product.id for i in view.scene.items}) == 1


def test_a_job_is_the_same_bytes_whatever_was_done_before(studio, tmp_path):
    job = Job("tote", 3, "val", MIX)
    record = studio.run(job)
    with contextlib.closing(Studio(tmp_path, SETTINGS)) as fresh:
        assert fresh.run(job) == record
    names = {i["file_name"] for i in record["images"]}
    one, other = (digest(root / "armbench-segmentation-0.1" / MIX / "images")
                  for root in (studio.root, tmp_path))  # fmt: skip
    assert set(other) == names
    assert {n: one[n] for n in names} == other


# picks


@pytest.mark.parametrize("event", ["nominal", "open"])
def test_a_picks_manifest_has_its_truth_and_the_truths_family(studio, picked, event):
    root = studio.root / armbench_identification.ROOT
    pick = armbench_identification.read_pick(root, picked[event]["id"])
    products = studio.products["train"]
    target = next(p for p in products if p.id == pick.truth)
    assert pick.truth in pick.manifest
    assert "PickRGB" in pick.views
    assert set(pick.views) <= set(VIEWS)
    assert set(pick.manifest) <= {p.id for p in products}
    assert list(pick.manifest) == sorted(pick.manifest)
    family = {p.id for p in products if p.family == target.family}
    assert family <= set(pick.manifest) or len(pick.manifest) < SETTINGS.manifest
    row = read_object(root / "Picks" / pick.id / "container.json")[pick.truth]
    assert row["description"]
    assert row["weight_kg"] > 0
    annotation = read_object(root / "Picks" / pick.id / "annotation.json")
    assert set(annotation["segmentation"]) == set(pick.views)


def test_every_event_is_what_the_simulator_says_and_a_multi_pick_is_not_identified(picked):
    for event, record in picked.items():
        assert record["event"] == event
    assert not picked["multi_pick"].get("identification")


def test_images_of_an_induct_have_labels_boxes_and_pictures(studio, picked):
    root = studio.root / armbench_defects.IMAGE_ROOT
    for event, record in picked.items():
        images = list(armbench_defects.read_images(root, [record["id"]]))
        assert [i.label for i in images] == record["labels"]
        assert 2 <= len(images) <= 4
        for image in images:
            assert jpeg.decode(image.path.read_bytes()).shape == (96, 96, 3)
        if event == "nominal":
            assert {i.label for i in images} == {"nominal"}


def test_an_image_without_the_second_product_is_nominal():
    labels = np.zeros((60, 60), np.uint16)
    labels[:40] = 4
    assert second_px(labels, 4) == (0, False)
    labels[50, :39] = 9
    assert second_px(labels, 4) == (39, False)
    labels[50:52] = 9
    assert second_px(labels, 4) == (120, True)


def test_a_broken_package_shows_where_a_whole_one_would_look_otherwise():
    labels = np.zeros((60, 60), np.uint16)
    labels[10:50, 10:50] = 4
    whole = Picture(np.zeros((60, 60, 3), np.uint8), labels, np.full((60, 60), 0.7, np.float32))
    assert broken_px(whole, whole, 4) == (0, False)
    depth = whole.depth.copy()
    depth[:20, :20] += 0.05  # a hole of 10 x 10 px in the package; what is beside it doesn't count
    assert broken_px(replace(whole, depth=depth), whole, 4) == (100, True)
    torn = labels.copy()
    torn[10:14, 10:16] = 0
    assert broken_px(replace(whole, labels=torn), whole, 4) == (24, False)
    outline = labels.copy()
    outline[10:12, 10:50] = 0  # a seam drawn a little otherwise
    assert broken_px(replace(whole, labels=outline), whole, 4) == (0, False)


@pytest.mark.parametrize("event", ["open", "deconstruction"])
def test_an_image_of_a_broken_package_says_how_much_of_it_can_be_seen(picked, event):
    record = picked[event]
    for image in record["images"]:
        seen = image["evidence_px"] >= 25
        assert image["label"] in ("nominal", image["state"])
        assert seen or image["label"] == "nominal"
    whole = picked["nominal"]["images"]
    assert {i["evidence_px"] for i in whole} == {0}
    assert record["labels"] == [i["label"] for i in record["images"]]


def test_the_whole_package_of_a_broken_one_is_the_same_one_shut():
    product = next(
        p for p in make_catalogue(3, 60, "train") if p.kind == "carton" and units(p) == 1
    )
    form = Form("open", 1 + damage.VARIANT, 1.0)
    body = body_of(product, form)
    broken = Item(2, product, damage.rest_poses(body, Pose((0, 0, 1))), form)
    piece = Item(2, product, (Pose(),), Form("content", 1 + damage.VARIANT, 1.0, 0))
    other = Item(3, product, (Pose((1, 0, 0)),), WHOLE)
    made = whole_again(Scene((broken, piece, other)), 2)
    shut = Form("closed", 1 + damage.VARIANT, 1.0)
    assert made.items == (Item(2, product, (Pose((0, 0, 1)),), shut), other)


# choices


def test_counts_have_a_long_tail_and_keep_their_limits():
    rng = np.random.default_rng(0)
    counts = [item_count(rng, 40) for _ in range(2000)]
    assert min(counts) >= 1
    assert max(counts) == 40
    assert 8 <= np.mean(counts) <= 16
    assert 8 <= np.median(counts) <= 13


def test_a_tote_of_the_zoomed_out_set_is_in_no_other():
    rng = np.random.default_rng(0)
    far = {choose_tote(rng, ZOOMED_OUT, 5).name for _ in range(60)}
    near = {choose_tote(rng, MIX, 5).name for _ in range(60)}
    assert far == set(totes.ZOOMED_OUT)
    assert near == set(totes.TOTES)
    assert not any(choose_tote(rng, MIX, 30).name.endswith("small") for _ in range(30))


def test_a_manifest_holds_what_is_inside_and_the_family_and_mostly_twenty():
    products = make_catalogue(5, 200, "train")
    rng = np.random.default_rng(1)
    sizes = []
    for _ in range(200):
        present = choose_products(rng, products, 9)
        target = present[0]
        found = choose_manifest(rng, products, target, present, 20)
        ids = [p.id for p in found]
        assert len(set(ids)) == len(ids)
        assert {p.id for p in present} <= set(ids)
        sizes.append(len(ids))
        if len(ids) >= 20:
            family = {p.id for p in products if p.family == target.family}
            assert family <= set(ids)
    assert 0.5 < np.mean([s == 20 for s in sizes]) < 0.8
    assert min(sizes) < 12
    assert max(sizes) > 60


def test_a_renderer_that_is_unknown_or_missing_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="no renderer 'pencil'"):
        make_renderer("pencil")
    monkeypatch.setattr(
        "robollm.sim.render.renderers.RENDERERS", {"chalk": ("robollm.sim.chalk", "Chalk")}
    )
    with pytest.raises(ConfigError, match=r"no renderer 'chalk': robollm.sim.chalk is not there"):
        make_renderer("chalk")


def test_products_for_a_crowded_tote_are_exchanged_for_smaller_ones_until_they_fit():
    products = make_catalogue(3, 120, "train")
    tote = totes.TOTES["grey_large"]
    large = sorted(products, key=lambda p: -np.prod(p.size_m))[:30]
    chosen = that_fit(np.random.default_rng(0), large, products, tote)
    assert len(chosen) == 30
    assert sum(np.prod(p.size_m) for p in chosen) <= 0.33 * np.prod(tote.inner_m)
    few = large[-2:]
    assert that_fit(np.random.default_rng(0), few, products, tote) == few
