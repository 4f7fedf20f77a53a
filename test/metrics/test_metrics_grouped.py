"""Scenes: pictures of one drop of items are drawn as one."""

from __future__ import annotations

import numpy as np
import pytest

from robollm.eval.thresholds.parts import Shares
from robollm.metrics.bootstrap import intervals
from robollm.metrics.grouped import Grouped

PICTURES = tuple("abcdef")
SCENES = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "2", "f": ""}


def tally():
    return Shares(PICTURES, {"found": ([1, 0, 2, 2, 1, 3], [1, 2, 2, 3, 4, 4])})


def test_a_scene_is_drawn_with_all_of_its_pictures():
    one, grouped = tally(), Grouped(tally(), SCENES)
    assert grouped.units == ("scene 1", "scene 2", "f")
    assert grouped.figures() == one.figures()
    drawn = grouped.figures(np.array([2, 0, 1]))
    assert drawn == one.figures(np.array([2, 2, 0, 0, 0, 1])) == {"found": pytest.approx(5 / 10)}


def test_hits_and_cases_of_a_scene_are_those_of_its_pictures():
    hits, cases = Grouped(tally(), SCENES).share("found")
    assert (hits.tolist(), cases.tolist()) == ([1, 5, 3], [3, 9, 4])


def test_a_picture_named_like_a_scene_stays_alone():
    grouped = Grouped(Shares(("1", "x"), {"found": ([1, 0], [1, 1])}), {"1": "", "x": "1"})
    assert grouped.units == ("1", "scene 1")


def test_six_equal_pictures_of_each_scene_tell_no_more_than_one():
    rng = np.random.default_rng(2)
    right = rng.integers(0, 2, 40)
    alone = Shares([f"{i}" for i in range(40)], {"found": (right, np.ones(40))})
    names = [f"{i}/{k}" for i in range(40) for k in range(6)]
    six = Shares(names, {"found": (np.repeat(right, 6), np.ones(240))})
    of = {name: name.split("/")[0] for name in names}

    def width(of_tally):
        found = intervals(of_tally, draws=2000)["found"]
        return found.high - found.low

    assert width(Grouped(six, of)) == pytest.approx(width(alone), rel=0.08)
    assert width(six) < 0.5 * width(alone)
