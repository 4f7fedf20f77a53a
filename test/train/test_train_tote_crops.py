"""Training pictures of products out of totes."""

import json

import cv2
import numpy as np
import pytest
from pick_folders import THREE, product_id, write

from robollm.core.errors import ConfigError, FrameError
from robollm.data import armbench_identification as armbench
from robollm.data import jpeg
from robollm.data.armbench_segmentation import MIX, ROOT
from robollm.train.engine.draws import Draw
from robollm.train.identification.batches import ProductBatches
from robollm.train.identification.crops import ToteCrops, outlined
from robollm.train.identification.data import PickData

HW = (96, 128)
BOXES = {  # of products 0 to 3: x, y, width, height, visibility
    0: (8, 8, 40, 32, 1.0),
    1: (64, 8, 32, 40, 0.31),
    2: (8, 60, 40, 32, 0.29),  # mostly covered
    3: (64, 60, 40, 20, 1.0),  # too small
    16: (104, 60, 24, 30, 1.0),  # of the test split
}


def tote(named=True):
    """A grey tote; each product's box is a grey level of its own."""
    image, annotations = np.full((*HW, 3), 10, np.uint8), []
    for number, (x, y, w, h, seen) in BOXES.items():
        image[y : y + h, x : x + w] = 50 + 10 * number
        one = {"id": number, "image_id": 1, "category_id": 2, "bbox": [x, y, w, h]}
        about = {"product_id": product_id(number), "visibility": seen} if named else {}
        annotations.append({**one, **about})
    return image, annotations


def put_tote(folder, named=True):
    image, annotations = tote(named)
    root = folder / ROOT / MIX
    (root / "images").mkdir(parents=True)
    (root / "images" / "a.jpg").write_bytes(jpeg.encode(image, 100))
    images = [{"id": 1, "file_name": "a.jpg", "height": HW[0], "width": HW[1]}]
    categories = [{"id": 1, "name": "Tote"}, {"id": 2, "name": "Object"}]
    file = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(file))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, picks=1)
    put_tote(tmp_path)
    return tmp_path


def data(folder, **settings):
    return PickData(folder, "train", size=16, views=THREE, crop="segment", **settings)


def test_each_product_that_can_be_seen_in_a_tote_gives_as_many_samples_as_asked(folder):
    plain, more = data(folder), data(folder, tote_samples=3)
    assert more.of_totes == [product_id(0)] * 3 + [product_id(1)] * 3
    assert len(more) == len(plain) + 6
    assert more.labels.tolist() == [*plain.labels.tolist(), 0, 0, 0, 1, 1, 1]


def test_a_sample_of_a_tote_is_the_box_with_its_margin_as_the_view_before_the_pick(folder):
    train = data(folder, tote_samples=1)
    sample = train[Draw(0, len(train.picks))]
    assert sample["inputs"]["present"].tolist() == [True, False, False]
    image, _ = tote()
    x, y, w, h, _ = BOXES[0]
    dx, dy = 2, 2  # 5 % of 40 and, rounded outwards, of 32
    crop = image[y - dy : y + h + dy, x - dx : x + w + dx]
    want = cv2.resize(crop, (16, 16), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    got = np.asarray(sample["inputs"]["views"])
    assert np.abs(got[0].astype(int) - want).max() <= 3  # JPEG
    assert not got[1:].any()
    about = sample["data_samples"]
    assert (about["product_id"], about["product"], about["pick"]) == (product_id(0), 0, "a.jpg")


def test_an_epoch_takes_samples_of_totes_like_picks(folder):
    train = data(folder, tote_samples=2)
    plan = ProductBatches(train, 4)
    seen = {i for step in range(len(plan)) for i in plan.indices(step)}
    assert seen == set(range(len(train)))


def test_annotations_that_name_no_product_are_refused(tmp_path):
    write(tmp_path, picks=1)
    put_tote(tmp_path, named=False)
    with pytest.raises(ConfigError, match="names no product in any of its 5 annotations"):
        data(tmp_path, tote_samples=1)


@pytest.mark.parametrize("settings", [{"split": "val"}, {"views": THREE[1:]}, {"tote_samples": -1}])
def test_samples_of_totes_are_for_training_with_the_view_before_the_pick(folder, settings):
    settings = {"split": "train", "views": THREE, "tote_samples": 1, **settings}
    with pytest.raises(ConfigError, match="tote_samples is"):
        PickData(folder, size=16, **settings)


def test_a_box_outside_of_its_picture_is_named_and_not_learned(tmp_path, monkeypatch):
    monkeypatch.setitem(BOXES, 0, (300, 8, 40, 32, 1.0))
    put_tote(tmp_path)
    crops = ToteCrops(tmp_path, [product_id(0)])
    with pytest.raises(FrameError, match=r"box \(300.*128x96 px") as e:
        crops.draw(product_id(0), np.random.default_rng(0))
    assert e.value.kind == "outside_box"


def test_an_outline_is_cut_wider_by_shares_of_its_own_side(tmp_path):
    root = write(tmp_path, picks=1)
    pick = armbench.read_pick(root, "0000")
    rgb = np.zeros((40, 48, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.arange(40)[:, None], np.arange(48)
    for wider, rows, columns in (
        ((0, 0, 0, 0), (2, 37), (6, 41)),  # 8 to 40 and 4 to 36, 5 % around it
        ((0.1, 0, 0, 0), (2, 37), (3, 41)),
        ((0, 0.05, 0, 0), (0, 37), (6, 41)),
        ((0, 0, 0.1, 0.05), (2, 39), (6, 44)),
        ((9, 9, 9, 9), (0, 39), (0, 47)),
    ):
        out = outlined(rgb, root, pick, "PickRGB", wider)
        assert (out[0, 0, 0], out[-1, 0, 0]) == rows
        assert (out[0, 0, 1], out[0, -1, 1]) == columns


def test_half_of_the_views_after_the_pick_are_cut_wider_none_before_it(folder):
    train = data(folder, loose=0.5)
    rng = np.random.default_rng(0)
    drawn = [train._wider("ToteWallRGB", rng) for _ in range(200)]
    some = np.array([d for d in drawn if any(d)])
    assert 80 <= len(some) <= 120
    assert 0 <= some.min() < 0.02 < 0.48 < some.max() <= 0.5
    assert all(train._wider("PickRGB", rng) == (0, 0, 0, 0) for _ in range(20))
    with pytest.raises(ConfigError, match="loose is 1 with crop 'image'"):
        PickData(folder, "train", size=16, views=THREE, loose=1)


def test_data_without_totes_is_refused_with_what_to_do(tmp_path):
    write(tmp_path, picks=1)
    with pytest.raises(ConfigError, match=r"has no train\.json"):
        data(tmp_path, tote_samples=1)
