"""What is read of a defect folder: splits, boxes, and everything that can be wrong with it."""

from __future__ import annotations

import json

import pytest
from defect_folders import DAMAGED, MULTI, NOMINAL, annotation, many, write

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects as files
from robollm.data.armbench_defects_scan import read_split, scan_images, split_inducts, worst
from robollm.data.problems import Problems

# splits


def test_the_split_does_not_depend_on_the_order_of_the_list():
    labels = {f"{n}": files.LABELS[n % 3] for n in range(45)}
    train, val = split_inducts(labels, 0.2, 4)
    assert sorted(train + val) == sorted(labels)
    backwards = split_inducts(dict(reversed(labels.items())), 0.2, 4)
    assert [sorted(part) for part in backwards] == [sorted(train), sorted(val)]


def test_nobody_changes_the_split_when_another_induct_comes_or_goes():
    labels = {f"{n:021d}": files.LABELS[n % 3] for n in range(3000)}
    val = split_inducts(labels, 0.1, 0)[1]
    assert len(val) == pytest.approx(300, abs=50)
    other = set(split_inducts(labels, 0.1, 1)[1])
    assert len(other & set(val)) == pytest.approx(30, abs=20)
    for gone in (val[:1], list(labels)[:1], list(labels)[::7]):
        left = {one: its for one, its in labels.items() if one not in gone}
        assert split_inducts(left, 0.1, 0)[1] == [one for one in val if one not in gone]
    relabelled = {**labels, val[0]: files.LABELS[DAMAGED]}
    assert split_inducts(relabelled, 0.1, 0)[1] == val


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_both_sides_get_an_induct_of_every_label_that_has_two(share):
    labels = {f"{n}": files.LABELS[n % 2] for n in range(4)}
    for part in split_inducts(labels, share, 0):
        assert {labels[one] for one in part} == set(files.LABELS[:2])
    parts = split_inducts({"1": files.NOMINAL}, share, 0)
    assert [len(part) for part in parts] == [share < 0.5, share > 0.5]


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


# boxes


def test_a_box_of_zeros_is_the_whole_image_and_one_beyond_the_border_is_clipped(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 2, "2": [NOMINAL]}, box=(0, 0, 0, 0))
    annotation(root, "1", 1, {"box": [40, 20, 90, 99]})
    problems = Problems()
    found = scan_images(root, ["1", "2"], problems)
    assert [i.box for i in found["1"]] == [None, (40, 20, 60, 40)]
    assert "[40, 20, 90, 99] is not within the image of 60x40 px" in problems.lines()[0]
    assert "(clipped_box, cut at the border)" in problems.lines()[0]


def test_the_box_is_that_of_the_polygons_where_there_is_none(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL] * 2})
    for k, polygons in enumerate(([[4.5, 3, 9, 3, 9, 8.2], [20, 5, 22, 5, 22, 6]], [])):
        file = root / "data" / "1" / f"1_{k}.json"
        file.write_text(json.dumps({"label": "nominal", "polygons": polygons}))
    problems = Problems()
    assert [i.box for i in scan_images(root, ["1"], problems)["1"]] == [(4, 3, 22, 9), None]
    assert problems.counts == {"no_box": 1}


@pytest.mark.parametrize(
    "box", [None, [30, 5, 20, 35], [1, 2, 3], "1234", {}, [60, 5, 70, 35]], ids=repr
)
def test_the_box_is_that_of_the_polygons_where_it_is_of_no_use(tmp_path, box):
    root = write(tmp_path, {"1": [NOMINAL] * 2})
    annotation(root, "1", 0, {"box": box})
    annotation(root, "1", 1, {"box": box, "polygons": [[3, 3, 3, 3, 3, 3]]})
    problems = Problems()
    assert [i.box for i in scan_images(root, ["1"], problems)["1"]] == [(10, 5, 49, 34)]
    lines = "\n".join(problems.lines())
    assert lines.count("(box_of_polygons, that of the polygons taken)") == (0 if box is None else 2)
    assert "1_1.json: the box is that of the polygons, without an area" in lines


def test_a_box_of_fractions_covers_every_pixel_it_touches(tmp_path):
    root = write(tmp_path, {"1": [NOMINAL]}, box=(9.9, 4.5, 50.1, 34.2))
    want = (9, 4, 51, 35)
    assert scan_images(root, ["1"], Problems())["1"][0].box == want
    assert [i.box for i in files.read_images(root, ["1"])] == [want]


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
    annotation(root, "1", 6, {"box": [60, 5, 70, 35], "polygons": []})
    annotation(root, "1", 7, {"box": [30, 5, 20, 35], "polygons": []})
    (root / "data" / "5").mkdir()
    problems = Problems()
    found = scan_images(root, ["1", "2", "3", "5"], problems)
    assert [i.path.stem for i in found["1"]] == ["1_8"]
    assert list(found) == ["1", "2"]
    assert problems.counts == {
        "bad_box": 2, "bad_json": 1, "corrupt_image": 1, "empty_induct": 1, "missing_image": 1,
        "missing_induct": 1, "no_annotation": 1, "no_label": 1,
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
