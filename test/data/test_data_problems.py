"""What is wrong with a dataset, counted."""

from __future__ import annotations

import pytest

from robollm.core.errors import ConfigError
from robollm.data.problems import Problem, Problems


def test_a_problem_tells_place_fact_kind_and_what_was_done():
    problem = Problems().note("outside_box", "a.json", "the box is outside", "clipped")
    assert str(problem) == "a.json: the box is outside (outside_box, clipped)"


def test_all_are_counted_and_the_first_are_kept():
    problems = Problems(keep=2)
    for number in range(5):
        problems.note("missing_image", f"{number}.jpg", "not there")
    problems.note("bad_json", "x.json", "not readable")
    assert len(problems) == 6
    assert problems.counts == {"bad_json": 1, "missing_image": 5}
    assert problems.lines() == [
        "x.json: not readable (bad_json, skipped)",
        "0.jpg: not there (missing_image, skipped)",
        "1.jpg: not there (missing_image, skipped)",
        "and 3 more of missing_image",
    ]


def test_problems_of_others_are_counted_too():
    problems, others = Problems(keep=2), Problems()
    found = [Problem("a", str(n), "bad") for n in range(3)]
    problems.extend(found[:1])
    others.extend(found[1:])
    others.note("b", "3", "worse")
    problems.merge(others)
    assert problems.counts == {"a": 3, "b": 1}
    assert problems.lines()[:3] == [
        "0: bad (a, skipped)",
        "1: bad (a, skipped)",
        "and 1 more of a",
    ]


def test_nothing_left_is_refused_with_the_first_problem():
    problems = Problems()
    problems.refuse_if_empty(1, "a folder", "fetch it")
    with pytest.raises(ConfigError, match=r"^a folder: nothing usable\n  fix: fetch it$"):
        problems.refuse_if_empty(0, "a folder", "fetch it")
    problems.note("missing_image", "7.jpg", "not there")
    with pytest.raises(ConfigError, match=r"1 problems, first: 7\.jpg: not there"):
        problems.refuse_if_empty(0, "a folder", "fetch it")
