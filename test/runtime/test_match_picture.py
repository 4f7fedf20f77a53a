from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robollm.runtime import lettering
from robollm.runtime.lettering import drawable, shorten, width_of, wrap
from robollm.runtime.match_picture import Candidate, View, draw_matches

GREEN, GREY = (78, 140, 34), (105, 96, 90)  # BGR, as in the module


def noise(seed, hw=(224, 224)):
    """A picture that no other part of the drawing looks like."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC)


def candidate(name, picture, **more):
    values = {"similarity": 0.9, "probability": 0.8, "title": f"title of {name}"} | more
    return Candidate(
        product_id=name, source=f"{name}/1.jpg", picture=picture, **values
    )  # fmt: skip


def draw(views, candidates, **more):
    values = {"decision": "identified", "headline": "IDENTIFIED", "reason": "why", "footer": "f"}
    return draw_matches(views, candidates, **values | more)


def contains(page, picture):
    """Whether the picture is somewhere in the page, pixel for pixel but for rounding."""
    score = cv2.matchTemplate(page, picture, cv2.TM_SQDIFF)
    return score.min() / picture.size < 4.0


def test_the_pixels_of_query_and_references_are_in_the_picture():
    references = [noise(i) for i in range(5)]  # 224 px: shown at their own size
    query = noise(99, (400, 500))
    page = draw([View("q", query)], [candidate(f"P{i}", r) for i, r in enumerate(references)])
    assert page.dtype == np.uint8
    for i, reference in enumerate(references):
        inner = reference[30:]  # the rank covers a corner of the place
        assert contains(page, inner), f"reference {i} is not in the picture"
    assert contains(page, query), "the query is not in the picture"
    assert not contains(page, noise(7777)), "or this test proves nothing"


def test_references_stand_in_the_order_of_their_rank():
    references = [noise(i) for i in range(4)]
    page = draw([View("q", noise(9))], [candidate(f"P{i}", r) for i, r in enumerate(references)])
    at = []
    for reference in references:
        score = cv2.matchTemplate(page, reference[30:], cv2.TM_SQDIFF)
        x, y = cv2.minMaxLoc(score)[2]
        at.append((y, x))
    assert at == sorted(at)
    assert len(set(at)) == 4


def test_the_box_of_the_query_is_outlined_and_its_inside_is_left_alone():
    query = np.full((300, 500, 3), (200, 0, 0), np.uint8)
    plain = draw([View("q", query)], [candidate("P", noise(1))])
    boxed = draw([View("q", query, (100, 100, 200, 200))], [candidate("P", noise(1))])
    blue = lambda page: int((page == (200, 0, 0)).all(axis=2).sum())  # noqa: E731
    assert blue(plain) == 300 * 500
    assert 90 * 90 < blue(boxed) <= 100 * 100, "outside is paler, inside is as it was"
    assert ((boxed == (40, 200, 255)).all(axis=2)).sum() > 300, "the outline"


def test_the_decision_has_the_colour_of_the_banner_and_of_the_chosen_cards():
    cards = [candidate("A", noise(1), chosen=True), candidate("B", noise(2))]
    page = draw([View("q", noise(3))], cards)
    assert tuple(page[2, 2]) == GREEN
    below = (page[120:] == GREEN).all(axis=2)
    assert below.sum() > 2000, "the edge of the chosen card"
    nobody = draw([View("q", noise(3))], [candidate("A", noise(1)), candidate("B", noise(2))])
    assert not (nobody[120:] == GREEN).all(axis=2).any()


def test_random_weights_take_the_colour_away_and_leave_a_mark():
    page = draw([View("q", noise(3))], [candidate("A", noise(1), chosen=True)], trained=False)
    trained = draw([View("q", noise(3))], [candidate("A", noise(1), chosen=True)])
    assert page.shape[0] > trained.shape[0]
    assert not (page == GREEN).all(axis=2).any()


def test_a_missing_reference_is_drawn_as_a_frame_with_its_name_and_the_reason():
    there = draw([View("q", noise(3))], [candidate("A", noise(1))])
    gone = draw([View("q", noise(3))], [candidate("A", None, problem="No such file")])
    other = draw([View("q", noise(3))], [candidate("A", None, problem="cut off: 12 bytes")])
    assert gone.shape == there.shape
    assert (gone != other).any(), "the reason is drawn"
    assert (gone != there).any()


def test_a_product_outside_the_manifest_is_marked():
    inside = draw([View("q", noise(3))], [candidate("A", noise(1))])
    outside = draw([View("q", noise(3))], [candidate("A", noise(1), outside=True)])
    red = (60, 60, 190)
    assert not (inside == red).all(axis=2).any()
    assert (outside == red).all(axis=2).sum() > 1000


def test_the_mark_of_the_manifests_threshold_is_on_products_of_the_manifest_only():
    def marked(outside):
        cards = [candidate("A", noise(1), outside=outside)]
        plain = draw([View("q", noise(3))], cards)
        return (draw([View("q", noise(3))], cards, accept=0.5) != plain).any()

    assert marked(outside=False)
    assert not marked(outside=True)


def test_no_match_at_all_is_a_picture_too():
    page = draw([View("q", noise(3))], [], decision="unknown")
    assert tuple(page[2, 2]) == GREY


@settings(max_examples=25)
@given(
    views=st.lists(
        st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=9
    ),
    cards=st.lists(
        st.tuples(st.integers(1, 500), st.integers(1, 500), st.text(max_size=80),
                  st.floats(-1, 1)), max_size=8,
    ),
    words=st.text(max_size=400),
    box=st.none() | st.tuples(*[st.floats(-50, 1000)] * 4),
)  # fmt: skip
def test_any_sizes_texts_and_boxes_make_a_picture(views, cards, words, box):
    shown = [View("v", np.zeros((h, w, 3), np.uint8), box) for h, w in views]
    found = [
        candidate("P", np.zeros((h, w, 3), np.uint8), title=title, similarity=cosine, outside=True)
        for h, w, title, cosine in cards
    ]
    page = draw(shown, found, headline=words, reason=words, footer=words, accept=0.5)
    assert page.shape[2] == 3


# lettering


@given(st.text(max_size=200), st.integers(20, 600), st.integers(9, 24), st.integers(1, 4))
def test_wrapped_lines_fit_and_say_what_they_can(text, width, height, lines):
    text = drawable(text)
    out = wrap(text, width, height, lines=lines)
    assert len(out) <= lines
    dots = width_of("...", height)
    assert all(width_of(line, height) <= max(width, dots) for line in out)
    if " ".join(out) != " ".join(text.split()):
        assert out[-1].endswith("...")


def test_short_text_is_left_alone_and_long_text_ends_in_dots():
    assert shorten("short", 500, 12) == "short"
    cut = shorten("a text that is far too long for this", 120, 12)
    assert cut.startswith("a t")
    assert cut.endswith("...")
    assert width_of(cut, 12) <= 120


def test_capitals_are_about_as_high_as_asked_for():
    for height in (9, 13, 22):
        image = np.zeros((80, 80, 3), np.uint8)
        lettering.put(image, "H", (10, 60), (255, 255, 255), height, bold=True)
        rows = np.flatnonzero((image > 128).any(axis=(1, 2)))
        assert 0.7 * height <= len(rows) <= 1.1 * height


@pytest.mark.parametrize("unicode", [True, False])
def test_accents_are_kept_or_folded_by_what_opencv_can_draw(monkeypatch, unicode):
    monkeypatch.setattr(lettering, "_UNICODE", unicode)
    assert drawable("Größe\n é\t\x00") == ("Größe é" if unicode else "Große e")
