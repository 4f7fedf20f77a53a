"""Videos of defects: labels in every form, films as they are found, frames one by one."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from robollm.core.errors import FrameError
from robollm.data import armbench_defects as defects
from robollm.data.armbench_videos import Film, labels_of, planned, scan_videos
from robollm.data.problems import Problems

FRAMES = 20


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One film of 20 frames, 5 a second; frame k has the grey 10 k."""
    root = tmp_path_factory.mktemp("videos")
    frames = [np.full((*defects.VIDEO_HW, 3), 10 * k, np.uint8) for k in range(FRAMES)]
    defects.write_video(root, "1", frames, {"label": "open"})
    return root


def relabelled(root, tmp_path, value):
    (tmp_path / "videos").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "videos" / "1.mp4").write_bytes((root / "videos" / "1.mp4").read_bytes())
    (tmp_path / "annotations" / "1.json").write_text(value)
    problems, forms = Problems(), Counter()
    return scan_videos(tmp_path, ["1"], problems, forms), problems, forms


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("open", ("open",)),
        (" Nominal ", ("nominal",)),
        ("deconstruction, open", ("open", "deconstruction")),
        ("open+deconstruction", ("open", "deconstruction")),
        ("open and deconstruction", ("open", "deconstruction")),
        (["open", "nominal"], ("open",)),
        ({"open": 1, "deconstruction": 0}, ("open",)),
        ({"open": False, "deconstruction": False}, ("nominal",)),
        ("crushed", ()),
        ("", ()),
        (["open", "crushed"], ()),
        (3, ()),
        (None, ()),
        ({}, ()),
    ],
)
def test_a_label_is_understood_in_every_form_that_makes_sense(value, labels):
    assert labels_of(value) == labels


def test_a_video_with_both_defects_keeps_both(root, tmp_path):
    (video,), problems, forms = relabelled(root, tmp_path, '{"label": ["open", "deconstruction"]}')
    assert video.label == "open+deconstruction"
    assert not len(problems)
    assert forms == {"list": 1}


@pytest.mark.parametrize(
    ("text", "kind", "what"),
    [
        ('{"label": "crushed"}', "unknown_label", "want one of nominal, open, deconstruction"),
        ('{"id": "1"}', "no_label", "no label in"),
        ('{"label": \n', "bad_json", "not readable JSON"),
        ("[1]", "no_label", "no label in"),
    ],
)
def test_an_annotation_that_says_nothing_is_named_and_left_out(root, tmp_path, text, kind, what):
    found, problems, _ = relabelled(root, tmp_path, text)
    assert found == []
    assert problems.counts == {kind: 1}
    assert what in problems.lines()[0]


def test_films_and_annotations_that_are_missing_are_named(root, tmp_path):
    problems = Problems()
    assert scan_videos(root, ["2"], problems) == []
    assert problems.counts == {"missing_video": 1}
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "3.mp4").write_bytes(b"x")
    assert scan_videos(tmp_path, ["3"], problems) == []
    assert problems.counts == {"missing_annotation": 1, "missing_video": 1}


def test_an_id_may_have_its_suffix_in_the_list(root):
    (video,) = scan_videos(root, ["1.mp4"], Problems())
    assert (video.id, video.path.name) == ("1", "1.mp4")


def test_frames_are_spread_evenly_and_have_their_times(root):
    film, problems = root / "videos" / "1.mp4", Problems()
    assert planned(film, per_second=1, most=99, problems=problems) == [
        (0, 0.0), (5, 1.0), (10, 2.0), (15, 3.0),
    ]  # fmt: skip
    everything = planned(film, per_second=30, most=99, problems=problems)
    assert [n for n, _ in everything] == list(range(FRAMES))
    few = planned(film, per_second=30, most=3, problems=problems)
    assert [n for n, _ in few] == [0, 6, 13]
    assert not len(problems)


def test_a_head_that_promises_endless_frames_is_planned_at_once(root, monkeypatch):
    head = {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FRAME_COUNT: 2.0**40}

    def opened(film):
        film._film = SimpleNamespace(get=head.__getitem__, release=lambda: None)

    monkeypatch.setattr(Film, "_open", opened)
    frames = planned(root, per_second=2, most=8, problems=Problems())
    assert [n for n, _ in frames] == [k * 2**37 for k in range(8)]


def test_each_frame_is_the_one_that_was_asked_for_in_any_order(root):
    with closing(Film(root / "videos" / "1.mp4")) as film:
        for number in (3, 4, 12, 2, 19):
            grey = film.frame(number)
            assert grey.shape == (*defects.VIDEO_HW, 3)
            assert abs(float(grey.mean()) - 10 * number) < 4


def test_a_film_that_ends_early_says_where(root):
    with (
        closing(Film(root / "videos" / "1.mp4")) as film,
        pytest.raises(FrameError, match="ends after 20 frames, want frame 25") as e,
    ):
        film.frame(25)
    assert e.value.kind == "truncated_video"


def test_a_file_that_is_no_film_is_refused(tmp_path):
    file = tmp_path / "x.mp4"
    file.write_text(json.dumps({"no": "film"}))
    with pytest.raises(FrameError, match="no film that can be read") as e:
        Film(file)
    assert e.value.kind == "unreadable_video"
