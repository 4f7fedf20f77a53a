"""Samples and splits of the defect task, and everything that can be wrong with its data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robollm.core.errors import ConfigError, FrameError
from robollm.data import armbench_defects as files
from robollm.data import armbench_identification as identification
from robollm.data import jpeg
from robollm.data.armbench_defects_scan import (
    read_products,
    read_split,
    scan_images,
    split_inducts,
    worst,
)
from robollm.data.problems import Problems
from robollm.train.defects.data import DefectData
from robollm.train.engine.draws import Draw, Void, collate

MULTI, NOMINAL, DAMAGED = 0, 1, 2
GREEN, BLUE = (20, 200, 30), (20, 30, 200)


def picture(inner=GREEN, hw=(40, 60), box=(10, 5, 50, 35)):
    """A blue picture with a box of one colour, as JPEG."""
    rgb = np.full((*hw, 3), BLUE, np.uint8)
    x1, y1, x2, y2 = box
    rgb[y1:y2, x1:x2] = inner
    return jpeg.encode(rgb, quality=98)


def write(folder, inducts, *, val=(), test=("9" * 21,), box=(10, 5, 50, 35), **more):
    """Write inducts -> labels of their images; `more` goes into every annotation."""
    root = folder / files.IMAGE_ROOT
    note = {"box": list(box), "polygons": [[10, 5, 49, 5, 49, 34, 10, 34]], **more}
    for induct, labels in inducts.items():
        rows = [(picture(), {"label": files.LABELS[label], **note}) for label in labels]
        files.write_images(root, induct, rows)
    train = [one for one in inducts if one not in (*val, *test)]
    files.write_lists(root, {"train": train, "val": list(val), "test": list(test)})
    if not val:
        (root / "val.csv").unlink()
    return root


def many(count=30):
    """Inducts of 1 to 3 images; two of three are nominal."""
    return {
        f"{n:021d}": [(MULTI, NOMINAL, NOMINAL, DAMAGED, NOMINAL, NOMINAL)[n % 6]] * (1 + n % 3)
        for n in range(count)
    }


def colour(image):
    """The middle pixel of a (3, S, S) image."""
    return image[:, image.shape[1] // 2, image.shape[2] // 2].tolist()


def annotation(root, induct, k, change):
    file = root / "data" / induct / f"{induct}_{k}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    return file


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


def test_the_split_does_not_depend_on_the_order_of_the_list():
    labels = {f"{n}": files.LABELS[n % 3] for n in range(45)}
    train, val = split_inducts(labels, 0.2, 4)
    assert (len(train), len(val)) == (36, 9)
    backwards = split_inducts(dict(reversed(labels.items())), 0.2, 4)
    assert [sorted(part) for part in backwards] == [sorted(train), sorted(val)]
    assert split_inducts({"1": files.NOMINAL}, 0.5, 0) == (["1"], [])


@pytest.mark.parametrize("name", ["train", "val"])
def test_an_induct_in_two_splits_is_refused_with_its_id(tmp_path, name):
    root = write(tmp_path, many(8), val=[f"{1:021d}"])
    both = f"{1 if name == 'val' else 4:021d}"
    with (root / "test.csv").open("a") as f:
        f.write(f"{both}\n")
    with pytest.raises(ConfigError, match=rf"induct {both} is in {name}\.csv and in test\.csv"):
        read_split(root, "train", Problems())


def test_an_induct_that_is_listed_twice_is_read_once(tmp_path):
    root = write(tmp_path, many(8))
    with (root / "train.csv").open("a") as f:
        f.write(f"{2:021d}\n")
    problems = Problems()
    ids, final = read_split(root, "train", problems)
    assert len(ids) == 8
    assert not final
    assert problems.counts == {"repeated_induct": 1}


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ([NOMINAL, NOMINAL], NOMINAL),
        ([NOMINAL, DAMAGED, NOMINAL], DAMAGED),
        ([MULTI, DAMAGED, DAMAGED, NOMINAL], DAMAGED),
        ([DAMAGED, MULTI], MULTI),
    ],
)
def test_the_label_of_an_induct_is_its_worst(labels, want):
    assert worst([files.LABELS[n] for n in labels]) == files.LABELS[want]


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


def test_what_is_outside_of_the_polygons_gets_the_mean_colour(tmp_path):
    write(tmp_path, {"1": [NOMINAL]}, polygons=[[10, 5, 29, 5, 29, 34, 10, 34]])
    image = DefectData(str(tmp_path), size=40, crop="mask").load(0, None)["inputs"]["images"][0]
    assert (image[:, :, 25:] == 128).all()
    assert image[1, :, :15].min() > 150


def test_a_box_of_zeros_is_the_whole_image_and_one_beyond_the_border_is_clipped(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 2, "2": [NOMINAL]}, box=(0, 0, 0, 0))
    annotation(root, "1", 1, {"box": [40, 20, 90, 99]})
    problems = Problems()
    found = scan_images(root, ["1", "2"], problems)
    assert [i.box for i in found["1"]] == [None, (40, 20, 60, 40)]
    assert "[40, 20, 90, 99] is not within the image of 60x40 px" in problems.lines()[0]
    assert "(outside_box, clipped)" in problems.lines()[0]


def test_the_box_is_that_of_the_polygons_where_there_is_none(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 2})
    for k, polygons in enumerate(([[4.5, 3, 9, 3, 9, 8.2], [20, 5, 22, 5, 22, 6]], [])):
        file = root / "data" / "1" / f"1_{k}.json"
        file.write_text(json.dumps({"label": "nominal", "polygons": polygons}))
    problems = Problems()
    assert [i.box for i in scan_images(root, ["1"], problems)["1"]] == [(4, 3, 22, 9), None]
    assert problems.counts == {"no_box": 1}


# bad data


def test_every_kind_of_bad_file_is_named_counted_and_skipped(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 9, "2": [MULTI]}, test=["8"])
    folder = root / "data" / "1"
    (folder / "1_0.json").write_text('{\n "label": "nominal",\n "box": [1, 2,\n}')
    (folder / "1_1.jpg").unlink()
    (folder / "1_2.jpg").write_bytes(b"<html>not found</html>")
    (folder / "1_3.json").write_text('{"box": [0, 0, 0, 0]}')
    (folder / "1_4.json").unlink()
    annotation(root, "1", 5, {"label": "open"})
    annotation(root, "1", 6, {"box": [60, 5, 70, 35]})
    annotation(root, "1", 7, {"box": [30, 5, 20, 35]})
    (root / "data" / "5").mkdir()
    problems = Problems()
    found = scan_images(root, ["1", "2", "3", "5"], problems)
    assert [i.path.stem for i in found["1"]] == ["1_8"]
    assert list(found) == ["1", "2"]
    assert problems.counts == {
        "bad_box": 1, "bad_json": 1, "corrupt_image": 1, "empty_induct": 1, "missing_image": 1,
        "missing_induct": 1, "no_annotation": 1, "no_label": 1, "outside_box": 1,
        "unknown_label": 1,
    }  # fmt: skip
    lines = "\n".join(problems.lines())
    for seen in ("1_0.json:4: not readable JSON", "induct 3: there is no", "label 'open', want one",
                 "1_1.jpg can't be read", "1_7.json: the box is [30, 5, 20, 35]"):  # fmt: skip
        assert seen in lines


def test_a_json_file_that_is_no_text_or_a_list_is_bad(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 2})
    (root / "data" / "1" / "1_0.json").write_bytes(b"\xff\xfe\x00")
    (root / "data" / "1" / "1_1.json").write_text("[1]")
    problems = Problems()
    assert scan_images(root, ["1"], problems) == {}
    assert problems.counts == {"bad_json": 1, "empty_induct": 1, "no_label": 1}


def test_a_folder_without_anything_usable_is_refused(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL]})
    (root / "data" / "1" / "1_0.jpg").unlink()
    with pytest.raises(ConfigError, match=r"nothing usable; 2 problems, first"):
        DefectData(str(tmp_path), size=16)
    with pytest.raises(ConfigError, match=r"want a folder that holds armbench-defects"):
        DefectData(str(tmp_path / "no"), size=16)


@pytest.mark.parametrize(
    "bad", [{"crop": "circle"}, {"margin": -1}, {"frames": 0}, {"val_share": 0}, {"split": "dev"}]
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
