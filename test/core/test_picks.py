from __future__ import annotations

import gc
import weakref

import pytest

from robollm.core.errors import FrameError, MessageError
from robollm.core.picks import ASSIGNED, HELD, Pick, PickBook, refuse_future

MS = 1_000_000


def pick(number, stamp_ms):
    return Pick(f"p{number}", stamp_ms * MS, "tote", (0.0, 0.0, 9.0, 9.0), "tote-A")


def book(*expected, timeout_s=2.0, **options):
    return PickBook(expected or ("low", "wall"), timeout_s, **options)


def test_a_pick_with_all_views_is_due_at_once():
    b = book()
    b.open(pick(1, 100), 0.0)
    assert b.add_view("low", 150 * MS, "L", 0.1) == ASSIGNED
    assert b.due(0.1) == []
    assert b.add_view("wall", 151 * MS, "W", 0.2) == ASSIGNED
    (case,) = b.due(0.2)
    assert (case.pick, case.views) == (pick(1, 100), {"low": "L", "wall": "W"})
    assert not case.timed_out
    assert len(b) == 0
    assert b.due(99.0) == []


def test_a_pick_without_expected_views_is_due_at_once():
    b = PickBook((), 2.0)
    b.open(pick(1, 100), 0.0)
    (case,) = b.due(0.0)
    assert not case.timed_out


def test_a_pick_is_due_exactly_at_its_time_limit_with_what_there_is():
    b = book(timeout_s=2.0)
    b.open(pick(1, 100), 10.0)
    b.add_view("low", 150 * MS, "L", 10.5)
    assert b.due(11.999) == []
    (case,) = b.due(12.0)
    assert case.timed_out
    assert case.views == {"low": "L"}


def test_a_view_before_its_pick_waits_for_it():
    b = book()
    assert b.add_view("low", 150 * MS, "L", 0.0) == HELD
    b.open(pick(1, 100), 0.1)
    b.add_view("wall", 151 * MS, "W", 0.2)
    assert b.due(0.2)[0].views == {"low": "L", "wall": "W"}


def test_a_view_not_younger_than_the_tote_image_is_nobodys():
    b = book()
    b.open(pick(1, 100), 0.0)
    assert b.add_view("low", 100 * MS, "L", 0.1) == HELD
    assert b.add_view("low", 99 * MS, "L", 0.1) == HELD
    assert b.due(2.0)[0].views == {}


def test_a_view_sooner_than_the_delay_still_shows_the_arm_on_its_way():
    b = book(delay_s=0.5)
    b.open(pick(1, 100), 0.0)
    assert b.add_view("low", 600 * MS, "early", 0.1) == HELD
    assert b.add_view("low", 600 * MS + 1, "good", 0.2) == ASSIGNED
    assert b.due(2.0)[0].views == {"low": "good"}


def test_the_first_of_two_images_of_a_view_is_kept():
    b = book()
    b.open(pick(1, 100), 0.0)
    b.add_view("low", 150 * MS, "first", 0.1)
    assert b.add_view("low", 160 * MS, "second", 0.2) == HELD
    assert b.due(2.0)[0].views == {"low": "first"}
    assert b.drop_unclaimed(9.0) == 1


def test_a_view_filed_under_an_older_pick_moves_when_its_own_is_announced():
    b = book()
    b.open(pick(1, 100), 0.0)
    assert b.add_view("low", 250 * MS, "two", 0.1) == ASSIGNED
    assert b.moved == 0
    b.open(pick(2, 200), 0.2)
    assert b.moved == 1
    b.add_view("wall", 260 * MS, "two", 0.3)
    (second,) = b.due(0.4)
    assert (second.pick.pick_id, second.views) == ("p2", {"low": "two", "wall": "two"})
    (first,) = b.due(5.0)
    assert (first.pick.pick_id, first.views) == ("p1", {})


@pytest.mark.parametrize(("delay_s", "right"), [(0.0, False), (0.5, True)])
def test_an_arm_that_works_ahead_needs_a_delay_between_its_picks(delay_s, right):
    b = book(delay_s=delay_s)
    b.open(pick(1, 10_000), 0.0)
    b.add_view("low", 11_000 * MS, "one", 1.0)
    b.open(pick(2, 10_800), 1.05)  # its tote image is older than the views of the pick before
    b.add_view("wall", 11_100 * MS, "one", 1.1)
    b.add_view("low", 13_000 * MS, "two", 3.0)
    b.add_view("wall", 13_100 * MS, "two", 3.1)
    done = {c.pick.pick_id: set(c.views.values()) for c in b.due(9.0)}
    assert (done == {"p1": {"one"}, "p2": {"two"}}) is right
    assert b.moved == (0 if right else 1), "and it is told"


def test_an_image_from_the_future_is_refused_beyond_a_lead():
    refuse_future(1_400 * MS, 1_000 * MS, 0.5)
    refuse_future(900 * MS, 1_000 * MS, 0.5)
    refuse_future(9_000 * MS, 1_000 * MS, 0.0)  # any
    with pytest.raises(FrameError, match=r"stamped 0.60 s in the future, want at most 0.5 s") as e:
        refuse_future(1_600 * MS, 1_000 * MS, 0.5)
    assert e.value.kind == "future_view"


def test_a_second_image_of_a_view_goes_to_the_pick_that_is_announced_later():
    b = book()
    b.open(pick(1, 100), 0.0)
    b.add_view("low", 150 * MS, "one", 0.1)
    b.add_view("low", 250 * MS, "two", 0.2)
    b.open(pick(2, 200), 0.3)
    assert {c.pick.pick_id: c.views for c in b.due(9.0)} == {
        "p1": {"low": "one"},
        "p2": {"low": "two"},
    }


def test_two_picks_on_one_tote_image_take_turns():
    b = book("low")
    b.open(pick(1, 100), 0.0)
    assert b.add_view("low", 150 * MS, "one", 0.1) == ASSIGNED
    b.open(pick(2, 100), 0.2)
    assert b.add_view("low", 250 * MS, "two", 0.3) == ASSIGNED
    assert [(c.pick.pick_id, c.views["low"]) for c in b.due(0.3)] == [("p1", "one"), ("p2", "two")]


def test_a_late_view_is_not_given_to_the_next_pick_on_the_same_tote_image():
    b = book("low", "wall")
    b.open(pick(1, 100), 0.0)
    b.add_view("low", 150 * MS, "one", 0.1)
    assert b.due(2.0)[0].views == {"low": "one"}
    assert b.add_view("wall", 160 * MS, "one, late", 2.1) == HELD
    b.open(pick(2, 100), 2.2)
    b.add_view("low", 2300 * MS, "two", 2.3)
    b.add_view("wall", 2310 * MS, "two", 2.3)
    assert b.due(2.4)[0].views == {"low": "two", "wall": "two"}


def test_a_late_view_of_an_answered_pick_is_not_given_to_the_next_one():
    b = book("low")
    b.open(pick(1, 100), 0.0)
    assert b.due(2.0)[0].views == {}
    b.open(pick(2, 200), 2.1)
    assert b.add_view("low", 150 * MS, "late", 2.2) == HELD
    assert b.due(4.5)[0].views == {}
    assert b.drop_unclaimed(4.5) == 1


def test_the_same_pick_twice_is_refused_while_open_and_after():
    b = book()
    b.open(pick(1, 100), 0.0)
    with pytest.raises(MessageError) as e:
        b.open(pick(1, 100), 0.1)
    assert e.value.kind == "duplicate_pick"
    assert len(b) == 1
    assert len(b.due(2.0)) == 1
    with pytest.raises(MessageError):
        b.open(pick(1, 100), 2.1)


def test_an_id_that_is_used_again_on_another_image_is_another_pick():
    b = book()
    b.open(pick(1, 100), 0.0)
    b.open(pick(1, 200), 0.1)
    assert len(b) == 2


def test_held_views_are_forgotten_and_counted_after_the_time_limit():
    b = book(timeout_s=2.0)
    b.add_view("low", 150 * MS, "L", 0.0)
    b.add_view("wall", 150 * MS, "W", 1.0)
    assert b.drop_unclaimed(1.9) == 0
    assert b.drop_unclaimed(2.0) == 1
    b.open(pick(1, 100), 2.1)
    assert b.due(4.5)[0].views == {"wall": "W"}
    assert b.drop_unclaimed(9.0) == 0


def test_held_views_that_are_too_many_for_their_pick_are_counted():
    b = book("low")
    for i in range(3):
        b.add_view("low", (150 + i) * MS, i, 0.0)
    b.open(pick(1, 100), 0.1)
    assert b.due(0.1)[0].views == {"low": 0}
    assert b.drop_unclaimed(9.0) == 2


def test_flushing_hands_out_what_waits_and_forgets_the_rest():
    b = book()
    b.open(pick(1, 100), 0.0)
    b.open(pick(2, 200), 0.0)
    b.add_view("low", 50 * MS, "nobody's", 0.0)
    b.add_view("low", 250 * MS, "two", 0.0)
    cases = b.flush()
    assert [c.pick.pick_id for c in cases] == ["p1", "p2"]
    assert all(c.timed_out for c in cases)
    assert cases[1].views == {"low": "two"}
    assert len(b) == 0
    assert b.flush() == []
    b.open(pick(1, 100), 1.0)  # no duplicate: time may have jumped back, a bag plays again
    b.add_view("low", 150 * MS, "new", 1.0)
    assert b.due(3.0)[0].views == {"low": "new"}


# bounds on memory


class Photo:
    """Stands for six megabytes."""


def alive(references):
    gc.collect()
    return sum(r() is not None for r in references)


def test_a_camera_that_streams_between_picks_fills_no_memory():
    b, seen = book(), []
    for i in range(200):
        photo = Photo()
        seen.append(weakref.ref(photo))
        assert b.add_view("low", (i + 1) * MS, photo, 0.0) == HELD
        del photo
    assert alive(seen) == PickBook.HELD_MAX
    assert [r() is not None for r in seen[-PickBook.HELD_MAX :]] == [True] * PickBook.HELD_MAX
    assert b.drop_unclaimed(0.0) == 200 - PickBook.HELD_MAX
    assert b.drop_unclaimed(99.0) == PickBook.HELD_MAX
    assert alive(seen) == 0


def test_answered_picks_leave_no_images_behind():
    b, seen = book("low"), []
    for i in range(50):
        photo = Photo()
        seen.append(weakref.ref(photo))
        b.open(pick(i, 100 * i + 1), float(i))
        b.add_view("low", (100 * i + 50) * MS, photo, float(i))
        assert len(b.due(float(i))) == 1
        del photo
    assert alive(seen) == 0


@pytest.mark.parametrize("memory", [0, 1, 5])
def test_so_many_answered_picks_are_remembered_and_no_more(memory):
    def remembers(i):
        b = PickBook((), 2.0, memory=memory)
        for n in range(10):
            b.open(pick(n, 100), 0.0)
            b.due(0.0)
        b.open(pick(10, 100), 0.0)  # forgetting happens when a pick is opened
        try:
            b.open(pick(i, 100), 0.0)
        except MessageError:
            return True
        return False

    assert [i for i in range(10) if remembers(i)] == list(range(10 - memory, 10))


def test_an_open_pick_is_never_forgotten_however_many_come_and_go():
    b = book("low", timeout_s=1000.0, memory=2)
    b.open(pick(0, 1000), 0.0)
    b.open(pick(99, 2000), 0.0)
    b.add_view("low", 2500 * MS, "99", 0.0)
    for i in range(1, 9):
        b.open(pick(i, i), 0.0)
        b.add_view("low", i * MS + 1, i, 0.0)
        b.due(0.0)
    with pytest.raises(MessageError):
        b.open(pick(0, 1000), 0.0)
    assert b.add_view("low", 1500 * MS, "zero", 0.0) == ASSIGNED
