"""`robollm eval bag`, `picks` and `make-bag` from the shell: what they refuse and say."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from robollm.data import armbench_identification as picks
from robollm.data.jpeg import encode

WRONG = [
    (("eval", "bag", "nowhere", "--out", "run", "--bundle", "B", "--attach"), "with --ros only"),
    (("eval", "bag", "b", "--out", "r", "--bundle", "B", "--ros", "--ray", "auto"), "--ray"),
    (("eval", "bag", "nowhere", "--out", "run", "--bundle", "B"), "no bag at nowhere"),
    (("eval", "bag", "b", "--out", "r", "--bundle", "B", "--truth", "t"), "not readable JSON"),
    (("eval", "bag", "b", "--out", "r", "--bundle", "B", "-p", "min_view:=1"), "min_views"),
    (("eval", "picks", "nowhere", "--out", "run", "--bundle", "B"), "train-test-split.pickle"),
    (("eval", "make-bag", "nowhere", "--out", "made"), "train-test-split.pickle"),
]


@pytest.mark.parametrize(("words", "text"), WRONG)
def test_what_does_not_fit_is_refused_in_words(robollm, tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    said = robollm(*words)
    assert said.code == 2
    assert re.search(re.escape(text), said.err)
    assert "fix:" in said.err
    assert not (tmp_path / "run").exists()


def test_a_folder_without_bag_and_a_ros_1_bag_are_told_apart(robollm, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    for path, text in ((tmp_path / "empty", "no metadata.yaml"), (tmp_path / "old.bag", "ROS 1")):
        said = robollm("eval", "bag", path, "--out", tmp_path / "run", "--bundle", "B")
        assert said.code == 2
        assert text in said.err


def test_make_bag_says_what_it_wrote(robollm, tmp_path):
    folder = tmp_path / picks.ROOT
    shot = encode(np.zeros((8, 8, 3), np.uint8))
    picks.write_pick(folder, "p1", {"PickRGB": shot}, {"A": {"title": "thing"}}, {"GT_ID": "A"})
    picks.write_split(
        folder, {"train": [], "val": [], "test": ["p1"]}, {"train": [], "val": [], "test": ["A"]}
    )
    said = robollm("eval", "make-bag", tmp_path, "--out", tmp_path / "made", "--json")
    card = json.loads(said.out)
    assert (card["picks"], card["problems"]) == (1, {})
    assert set(card) == {"bag", "manifest", "truth", "picks", "problems"}
