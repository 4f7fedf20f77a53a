"""Samples of the defect task: splits, crops, sequences, references, and bad files."""

from __future__ import annotations

import numpy as np
import pytest
from defect_folders import DAMAGED, MULTI, NOMINAL, many, picture, write

from robollm.core.errors import ConfigError, FrameError
from robollm.data import armbench_identification as identification
from robollm.data.armbench_defects_scan import read_products
from robollm.data.problems import Problems
from robollm.train.defects.data import DefectData
from robollm.train.engine.draws import Draw, Void, collate


def colour(image):
    """The middle pixel of a (3, S, S) image."""
    return image[:, image.shape[1] // 2, image.shape[2] // 2].tolist()


# splits


def test_an_induct_is_in_one_split_only_and_every_split_has_every_label(tmp_path):
    write(tmp_path, many(), test=[f"{n:021d}" for n in range(6)])
    parts = {s: DefectData(str(tmp_path), s, size=16) for s in ("train", "val", "test")}
    sets = [set(p.inducts) for p in parts.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 30
    for part in parts.values():
        assert set(part.labels) == {MULTI, NOMINAL, DAMAGED}
    again = DefectData(str(tmp_path), "val", size=16)
    assert again.inducts == parts["val"].inducts
    other = DefectData(str(tmp_path), "val", size=16, split_seed=1)
    assert other.inducts != parts["val"].inducts


def test_a_validation_list_is_taken_as_it_is(tmp_path):
    ids = list(many())
    write(tmp_path, many(), val=ids[3:7])
    assert set(DefectData(str(tmp_path), "val", size=16).inducts) == set(ids[3:7])
    assert set(DefectData(str(tmp_path), "train", size=16).inducts) == {*ids[:3], *ids[7:]}


# crops


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 1.0),
        ({"crop": "mask"}, 1.0),
        ({"crop": "image"}, 0.5),
        ({"margin": 0.1}, 40 * 30 / (48 * 36)),
        ({"margin": 0.25}, 0.5),  # clipped at the border: the whole image
    ],
)
def test_a_crop_shows_its_share_of_what_is_held(tmp_path, options, share):
    write(tmp_path, {"1": [NOMINAL]})
    image = DefectData(str(tmp_path), size=60, **options).load(0, None)["inputs"]["images"][0]
    green = (image[1].float() > image[2].float()).float().mean().item()
    assert green == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("margin", [0, 0.0])  # a config may say either
def test_half_of_the_training_crops_are_wider_and_evaluation_is_not(tmp_path, margin):
    write(tmp_path, {"1": [NOMINAL]})
    data = DefectData(str(tmp_path), size=60, margin=margin, loose=1.0)

    def green(rng):
        image = data.load(0, rng)["inputs"]["images"][0].float()
        return (image[1] > image[2]).float().mean().item()

    shares = np.array([green(np.random.default_rng(seed)) for seed in range(60)])
    tight = shares > 0.98
    assert 18 <= tight.sum() <= 42
    assert shares[~tight].min() < 0.6, "up to the whole picture, half of which is the box"
    assert green(None) > 0.98


def test_what_is_outside_of_the_polygons_gets_the_mean_colour(tmp_path):
    write(tmp_path, {"1": [NOMINAL]}, polygons=[[10, 5, 29, 5, 29, 34, 10, 34]])
    image = DefectData(str(tmp_path), size=40, crop="mask").load(0, None)["inputs"]["images"][0]
    assert (image[:, :, 25:] == 128).all()
    assert image[1, :, :15].min() > 150


# bad data


def test_a_folder_without_anything_usable_is_refused(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL]})
    (root / "data" / "1" / "1_0.jpg").unlink()
    with pytest.raises(ConfigError, match=r"nothing usable; 2 problems, first"):
        DefectData(str(tmp_path), size=16)
    with pytest.raises(ConfigError, match=r"want a folder that holds armbench-defects"):
        DefectData(str(tmp_path / "no"), size=16)


@pytest.mark.parametrize(
    "bad",
    [
        {"crop": "circle"},
        {"margin": -1},
        {"frames": 0},
        {"val_share": 0},
        {"split": "dev"},
        {"loose": 1, "crop": "image"},
    ],
)
def test_a_setting_out_of_range_is_refused(tmp_path, bad):
    write(tmp_path, many(6))
    with pytest.raises(ConfigError, match=next(iter(bad))):
        DefectData(str(tmp_path), **bad)


def test_an_image_that_is_cut_off_is_void_in_evaluation(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL], "2": [NOMINAL]}, val=["2"])
    file = root / "data" / "1" / "1_0.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    data = DefectData(str(tmp_path), size=16)
    found = data[0]
    assert isinstance(found, Void)
    assert found.problem.kind == "truncated_image"
    with pytest.raises(FrameError, match=r"1_0\.jpg is cut off"):
        data.load(0, None)


# sequences


def test_a_sequence_has_the_images_of_an_induct_in_order_and_marks_what_is_absent(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL, DAMAGED] + [NOMINAL] * 9, "2": [NOMINAL] * 2}, val=["2"])
    for k in range(11):  # so that the order can be seen; 10 comes after 9
        (root / "data" / "1" / f"1_{k}.jpg").write_bytes(picture((20 * k, 200, 30)))
    sample = DefectData(str(tmp_path), size=16, frames=12).load(0, None)
    reds = [colour(i)[0] for i in sample["inputs"]["images"][:11]]
    assert np.abs(np.array(reds) - 20 * np.arange(11)).max() < 12
    assert sample["inputs"]["present"].tolist() == [True] * 11 + [False]
    assert not sample["inputs"]["images"][11].any()
    assert sample["data_samples"]["label"] == DAMAGED
    assert sample["data_samples"]["frame_labels"] == [NOMINAL, DAMAGED] + [NOMINAL] * 9
    few = DefectData(str(tmp_path), size=16, frames=3)
    assert few.load(0, None)["data_samples"]["images"] == ["1_0", "1_5", "1_10"]
    drawn = few.load(0, np.random.default_rng(0))["data_samples"]["images"]
    assert drawn == sorted(set(drawn), key=lambda name: int(name[2:]))
    short = DefectData(str(tmp_path), "val", size=16, frames=3).load(0, None)
    assert short["inputs"]["present"].tolist() == [True, True, False]


def test_a_frame_that_can_not_be_read_is_absent_and_noted(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 3}, val=["7"])
    folder = root / "data" / "1"
    data = DefectData(str(tmp_path), size=16, frames=4)
    (folder / "1_1.jpg").write_bytes(b"")
    sample = data[0]
    assert sample["data_samples"]["images"] == ["1_0", "1_2"]
    assert sample["inputs"]["present"].sum() == 2
    both = collate([sample, data[Draw(7, 0)]])["problems"]
    assert [p.kind for p in both] == ["empty_image"] * 2
    for k in (0, 2):
        (folder / f"1_{k}.jpg").write_bytes(b"")
    assert isinstance(data[0], Void)


def test_training_always_draws_a_frame_that_carries_the_label(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 9 + [DAMAGED]}, val=["7"])
    data = DefectData(str(tmp_path), size=16, frames=2)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        sample = data.load(0, rng)["data_samples"]
        assert sample["frame_labels"] == [NOMINAL, DAMAGED]
        seen.add(sample["images"][0])
    assert len(seen) > 5
    assert DefectData(str(tmp_path), size=16, frames=3).load(0, None)["data_samples"] == {
        "label": DAMAGED, "induct": "1", "induct_labels": [NOMINAL, DAMAGED],
        "images": ["1_0", "1_4", "1_9"], "frame_labels": [NOMINAL, NOMINAL, DAMAGED],
    }  # fmt: skip
    (root / "data" / "1" / "1_9.jpg").write_bytes(b"")
    with pytest.raises(FrameError, match=r"1_9\.jpg is empty"):
        data.load(0, rng)
    assert data.load(0, None)["data_samples"]["label"] == DAMAGED


# references


def references(folder, products):
    root = folder / identification.ROOT
    for product in products:
        identification.write_references(root, product, [picture((250, 0, 0), box=(0, 0, 60, 40))])
    return root


@pytest.mark.parametrize("way", ["annotation", "truth.jsonl", "pick"])
def test_the_reference_is_found_in_three_ways(tmp_path, way):
    more = {"product_id": "B1"} if way == "annotation" else {}
    write(tmp_path, {"1": [NOMINAL]}, **more)
    root = references(tmp_path, ["B1"])
    if way == "truth.jsonl":
        (tmp_path / way).write_text('{"id": "0"}\n{"id": "1", "product_id": "B1"}\n{oh\n')
        problems = Problems()
        assert read_products(tmp_path / way, problems) == {"1": "B1"}
        assert f"{way}:3" in problems.lines()[0]
    if way == "pick":
        identification.write_pick(root, "1", {}, {}, {"GT_ID": "B1"})
    data = DefectData(str(tmp_path), size=16, reference=True)
    assert data.references.sources == {**dict.fromkeys(data.references.sources, 0), way: 1}
    inputs = data.load(0, None)["inputs"]
    assert bool(inputs["has_reference"])
    assert colour(inputs["reference"])[0] > 230


def test_an_induct_without_reference_says_so(tmp_path):
    write(tmp_path, {"1": [NOMINAL], "2": [NOMINAL]}, val=["2"], product_id="B2")
    data = DefectData(str(tmp_path), size=16, reference=True)
    inputs = data.load(0, None)["inputs"]
    assert not inputs["has_reference"]
    assert not inputs["reference"].any()
    assert data.problems.counts == {"no_reference": 1}


def test_references_whose_presence_tells_the_label_are_pointed_out(tmp_path):
    write(tmp_path, {"1": [NOMINAL], "2": [MULTI], "3": [NOMINAL]}, val=["3"])
    identification.write_pick(references(tmp_path, ["B1"]), "1", {}, {}, {"GT_ID": "B1"})
    data = DefectData(str(tmp_path), size=16, reference=True)
    assert "multi_pick 0 %, nominal 100 %" in "\n".join(data.problems.lines())
    assert data.problems.counts == {"no_reference": 1, "telling_references": 1}


def test_training_leaves_references_out_as_often_as_asked(tmp_path):
    write(tmp_path, {"1": [NOMINAL]}, product_id="B1")
    references(tmp_path, ["B1"])
    data = DefectData(str(tmp_path), size=16, reference=True, drop_reference=0.5)
    rng = np.random.default_rng(3)
    has = [bool(data.load(0, rng)["inputs"]["has_reference"]) for _ in range(60)]
    assert 15 < sum(has) < 45


def test_a_reference_that_can_not_be_read_is_absent_and_noted(tmp_path):
    write(tmp_path, {"1": [NOMINAL]}, product_id="B1")
    root = references(tmp_path, ["B1"])
    (root / "Reference_Images" / "B1" / "1.jpg").write_bytes(b"")
    sample = DefectData(str(tmp_path), size=16, reference=True)[0]
    assert not bool(sample["inputs"]["has_reference"])
    assert [p.kind for p in sample["problems"]] == ["empty_image"]
