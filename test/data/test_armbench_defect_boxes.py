"""The annotated box of a defect's image: no document says its form, so the split itself must."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects as layout
from robollm.data.armbench_defects_scan import scan_images
from robollm.data.jpeg import encode
from robollm.data.problems import Problems

PICTURE = encode(np.full((60, 80, 3), 99, np.uint8))


def folder(tmp_path, notes, label="nominal"):
    """One induct per annotation."""
    root = tmp_path / layout.IMAGE_ROOT
    for n, note in enumerate(notes):
        layout.write_images(root, f"{n:04}", [(PICTURE, {"label": label, **note})])
    return root


def around(x1, y1, x2, y2):
    return {"polygons": [[x1, y1, x2, y1, x2, y2, x1, y2]]}


def scan(root, **more):
    problems = Problems()
    ids = sorted(one.name for one in (root / "data").iterdir())
    found = scan_images(root, ids, problems, **more)
    return [image for images in found.values() for image in images], problems


def test_corners_are_corners(tmp_path):
    images, problems = scan(folder(tmp_path, [{"box": [20, 10, 70, 55]}] * 4))
    assert [i.box for i in images] == [(20, 10, 70, 55)] * 4
    assert {i.box_form for i in images} == {"x1, y1, x2, y2"}
    assert problems.counts == {}


def test_a_width_and_a_height_are_found_by_what_leaves_the_image_as_corners(tmp_path):
    notes = [{"box": [40, 30, 20, 25]}, {"box": [50, 5, 30, 20]}, {"box": [10, 5, 30, 40]}]
    images, problems = scan(folder(tmp_path, notes))
    assert [i.box for i in images] == [(40, 30, 60, 55), (50, 5, 80, 25), (10, 5, 40, 45)]
    assert {i.box_form for i in images} == {"x, y, width, height"}
    (line,) = problems.lines()
    assert "2 boxes fit x, y, width, height alone, 0 x1, y1, x2, y2 alone, 1 both" in line
    assert "(box_form, read as x, y, width, height)" in line


def test_polygons_decide_where_both_forms_lie_in_the_image(tmp_path):
    note = {"box": [10, 5, 40, 35], **around(10, 5, 50, 40)}
    images, problems = scan(folder(tmp_path / "wh", [note]))
    assert images[0].box == (10, 5, 50, 40)
    assert problems.counts == {"box_form": 1}
    note = {"box": [10, 5, 40, 35], **around(11, 6, 39, 34)}
    images, problems = scan(folder(tmp_path / "corners", [note]))
    assert (images[0].box, problems.counts) == ((10, 5, 40, 35), {})


def test_what_nothing_decides_is_read_as_corners_and_said(tmp_path):
    images, problems = scan(folder(tmp_path, [{"box": [10, 5, 40, 35]}] * 3))
    assert [i.box for i in images] == [(10, 5, 40, 35)] * 3
    assert "0 x1, y1, x2, y2 alone, 3 both" in problems.lines()[0]
    assert "(box_form, read as x1, y1, x2, y2)" in problems.lines()[0]


def test_a_stray_box_of_the_other_form_is_a_bad_one(tmp_path):
    notes = [{"box": [20, 10, 70, 55]}] * 9 + [{"box": [40, 30, 20, 25]}]
    images, problems = scan(folder(tmp_path, notes))
    assert len(images) == 9
    assert problems.counts == {"bad_box": 1, "empty_induct": 1}
    notes[-1] |= around(42, 31, 59, 54)
    images, problems = scan(folder(tmp_path / "outlined", notes))
    assert images[-1].box == (42, 31, 59, 54)
    assert problems.counts == {"box_of_polygons": 1}


@pytest.mark.parametrize("strange", [1, 4])
def test_two_forms_in_one_split_are_an_error_with_a_file_of_each(tmp_path, strange):
    notes = [{"box": [20, 10, 70, 55]}] * strange + [{"box": [40, 30, 20, 25]}] * strange
    root = folder(tmp_path, notes)
    with pytest.raises(ConfigError, match="written in two ways") as e:
        scan(root)
    assert "0000_0.json" in e.value.what
    assert f"{strange:04}_0.json" in e.value.what
    assert "whole" in e.value.fix
    images, problems = scan(root, boxes=False)
    assert {i.box for i in images} == {None}
    assert problems.counts == {}


def test_a_folder_without_boxes_has_no_form(tmp_path):
    notes = [{"box": [0, 0, 0, 0]}, around(5, 5, 20, 20)]
    images, problems = scan(folder(tmp_path, notes))
    assert [i.box for i in images] == [None, (5, 5, 20, 20)]
    assert {i.box_form for i in images} == {""}
    assert json.dumps(problems.counts) == "{}"
