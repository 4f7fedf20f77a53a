"""The truth of a bag, and what only one of truth and bag has."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from robollm.core.errors import BagError, EvalError
from robollm.data.bag import Topic
from robollm.data.bag_types import COMPRESSED, IMAGE, PICK, STRING
from robollm.data.problems import Problems
from robollm.eval.bag import Looked, data_card, find_bags
from robollm.eval.bag_topics import station_topics
from robollm.eval.label_map import found_in
from robollm.eval.settings import station_settings
from robollm.eval.truth import Bag, StationTruth, find_truth, read_truth

HEAD = {"format": "robollm-truth", "format_version": 1}


def write(path, **card):
    path.write_text(json.dumps({**HEAD, **card}))
    return path


def test_a_truth_is_read_as_far_as_it_goes(tmp_path):
    frames = {"on_arm_low": [{"stamp_ns": 5, "label": "nominal"}, {"stamp_ns": 9, "label": None}]}
    square = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]]
    tote = {"stamp_ns": 7, "hw": [8, 10], "instances": [
        {"category": "Object", "bbox": [1, 1, 4, 3], "segmentation": square}]}  # fmt: skip
    path = write(tmp_path / "truth.json", frames=[tote], picks=[
        {"id": "p1", "product_id": "A", "label": "nominal", "view_frames": frames},
        {"id": "p2"},
    ])  # fmt: skip
    truth = read_truth(path)
    assert truth.of("p1")["product_id"] == "A"
    assert truth.of("p2") == {
        "product_id": None, "in_manifest": None, "container": None, "label": None, "views": {},
        "view_frames": {},
    }  # fmt: skip
    assert truth.of("p3") is None
    assert truth.later == {("on_arm_low", 5): ("p1", "nominal")}
    (one,) = truth.frames[7].instances
    assert one["category"] == "object"
    rle = {**one["segmentation"], "counts": one["segmentation"]["counts"].encode()}
    assert coco_mask.area(rle) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not readable JSON"),
        (json.dumps([]), "has format 'list'"),
        (json.dumps({"format": "other"}), "has format 'other'"),
        (json.dumps({**HEAD, "format_version": 2}), "format_version 2"),
        (json.dumps({**HEAD, "picks": [{"id": "a"}, {"id": "a"}]}), "pick 'a' twice"),
        (json.dumps({**HEAD, "picks": [{"label": "nominal"}]}), "malformed"),
        (json.dumps({**HEAD, "picks": [{"id": "a", "label": "broken"}]}), "label 'broken'"),
        (json.dumps({**HEAD, "picks": [{"id": "a", "views": {"v": "torn"}}]}), "label 'torn'"),
    ],
)
def test_what_is_no_truth_is_refused_in_words(tmp_path, text, words):
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(EvalError, match=words):
        read_truth(path)


def test_truth_and_bag_are_compared_both_ways(tmp_path):
    truth = read_truth(write(tmp_path / "truth.json", picks=[{"id": "a"}, {"id": "b"}]))
    problems = Problems()
    truth.compare(["b", "c"], [], problems)
    assert problems.counts == {"pick_without_truth": 1, "truth_without_pick": 1}
    assert "pick a is not in the bag" in "".join(problems.lines())


def test_a_truth_of_another_bag_and_no_truth_at_all_are_said(tmp_path):
    truth = read_truth(write(tmp_path / "truth.json", picks=[{"id": "a"}]))
    problems = Problems()
    truth.compare(["x", "y"], [], problems)
    assert problems.counts["truth_of_another_bag"] == 1
    assert "none of the 2 picks of the bag is in it" in "".join(problems.lines())
    problems = Problems()
    StationTruth().compare(["x"], [], problems)
    assert problems.counts == {"bag_without_truth": 1}


def test_bags_find_their_truth_and_get_names_that_differ(tmp_path):
    for day in ("mon", "tue"):
        (tmp_path / day / "bag").mkdir(parents=True)
        write(tmp_path / day / "truth.json", picks=[{"id": day}])
    mon, tue = (tmp_path / day / "bag" for day in ("mon", "tue"))
    assert find_truth(mon) == tmp_path / "mon" / "truth.json"
    one, two = find_bags([mon, tue], [])
    assert (one.name, one.prefix, two.name) == ("mon/bag", "mon/bag/", "tue/bag")
    assert "tue" in two.truth.picks
    (tmp_path / "tue" / "late.mcap").touch()
    names = [b.name for b in find_bags([mon, tmp_path / "tue" / "late.mcap"], [])]
    assert names == ["mon/bag", "tue/late.mcap"]  # a report finds their pictures by that
    (alone,) = find_bags([mon], [])
    assert (alone.name, alone.prefix) == ("bag", "")
    with pytest.raises(EvalError, match="named twice"):
        find_bags([mon, mon], [])
    with pytest.raises(EvalError, match="2 truths for 1 bags"):
        find_bags([mon], [tmp_path / "a", tmp_path / "b"])


def topics(*rows):
    return [Topic(name, kind, 3) for name, kind in rows]


NS = "/cell"
USUAL = (
    (f"{NS}/pick", PICK), (f"{NS}/container", STRING), (f"{NS}/image/compressed", COMPRESSED),
    (f"{NS}/views/on_arm_low/image", IMAGE),
    (f"{NS}/views/on_arm_low/image/compressed", COMPRESSED),
    (f"{NS}/views/tote_wall/image/compressed", COMPRESSED), ("/tf", "tf2_msgs/msg/TFMessage"),
)  # fmt: skip


def find(rows, *parameters, **how):
    problems = Problems()
    how = {"namespace": "", "remaps": (), **how}
    settings = station_settings(None, parameters, {})
    found = station_topics(topics(*rows), settings, problems=problems, where="bag", **how)
    return found, problems.counts


def test_topics_are_found_as_the_nodes_resolve_them():
    found, problems = find(USUAL)
    assert problems == {}
    assert found == {
        f"{NS}/pick": ("pick", "pick", ""),
        f"{NS}/container": ("container", "container", ""),
        f"{NS}/image/compressed": ("image", "image", "compressed"),
        f"{NS}/views/on_arm_low/image": ("view", "on_arm_low", "raw"),
        f"{NS}/views/tote_wall/image/compressed": ("view", "tote_wall", "compressed"),
    }
    packed, _ = find(USUAL, "image_transport:=compressed")
    assert f"{NS}/views/on_arm_low/image/compressed" in packed
    moved, _ = find([*USUAL, ("/cam7", IMAGE)], "views:=['tote_wall=/cam7']")
    assert moved["/cam7"] == ("view", "tote_wall", "raw")
    other, _ = find([*USUAL, ("/cam8", IMAGE)], remaps=("image:=/cam8",))
    assert other["/cam8"] == ("image", "image", "raw")


def test_topics_that_are_missing_or_of_another_type_are_named():
    _, problems = find([USUAL[0], *USUAL[3:]])
    assert problems == {"no_container_topic": 1, "no_image_topic": 1}
    with pytest.raises(EvalError, match="no topics `pick`"):
        find(USUAL[1:])
    with pytest.raises(EvalError, match=r"2 topics `pick`.*/cell/pick, /other/pick"):
        find([*USUAL, ("/other/pick", PICK)])
    with pytest.raises(EvalError, match="has no message on /wrong/pick"):
        find(USUAL, namespace="/wrong")
    with pytest.raises(BagError, match=r"/cell/container is .*Image, want std_msgs"):
        find([USUAL[0], (f"{NS}/container", IMAGE)])
    with pytest.raises(EvalError, match="want FROM:=TO"):
        find(USUAL, remaps=("image",))
    _, problems = find([*USUAL, (f"{NS}/manifest", STRING)])
    assert problems == {"manifest_updates": 1}


def test_a_label_map_becomes_instances_with_the_pixels_that_they_kept():
    labels = np.zeros((6, 8), np.uint16)
    labels[1:4, 2:5] = 1
    one, hidden = found_in(labels, [(1, "Object", 0.9), (2, "Tote", 0.5)])
    assert (one["category"], one["bbox"], one["score"]) == ("object", [2.0, 1.0, 3.0, 3.0], 0.9)
    whole = coco_mask.encode(np.asfortranarray(labels == 1))
    assert one["segmentation"]["counts"].encode() == whole["counts"]
    assert hidden["bbox"] == [0.0, 0.0, 0.0, 0.0]


def test_corrected_truth_of_a_tote_image_is_another_run(tmp_path):
    def digest(width, label):
        one = {"category": "object", "bbox": [0, 0, width, 4],
               "segmentation": [[0, 0, width, 0, width, 4, 0, 4]]}  # fmt: skip
        frame = {"stamp_ns": 5, "hw": [8, 8], "instances": [one]}
        picks = [{"id": "a", "label": label}]
        truth = read_truth(write(tmp_path / "truth.json", picks=picks, frames=[frame]))
        bag = Bag(tmp_path / "bag", "bag", truth)
        return data_card([bag], [Looked({}, "", 1, 1, "0", "0")])["digest"]

    known = digest(4, "nominal")
    assert digest(4, "nominal") == known
    assert digest(6, "nominal") != known
    assert digest(4, "multi_pick") != known
