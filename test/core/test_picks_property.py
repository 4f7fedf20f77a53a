"""PickBook against a slow, obvious book that never forgets."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from robollm.core.errors import MessageError
from robollm.core.picks import ASSIGNED, HELD, Pick, PickBook

VIEWS = ("low", "wall")
TIMEOUT = 3
DELAY = 2


@dataclass
class Entry:
    pick: Pick
    opened: int
    views: dict = field(default_factory=dict)
    stamps: dict = field(default_factory=dict)
    out: bool = False


class SlowBook:
    """What PickBook promises, over the complete history and without any limit."""

    def __init__(self, delay):
        self.delay = delay
        self.entries, self.held = [], []

    def owner(self, stamp):
        older = [i for i, e in enumerate(self.entries) if stamp - e.pick.stamp_ns > self.delay]
        return max(older, key=lambda i: (self.entries[i].pick.stamp_ns, i), default=None)

    def place(self, view):
        name, stamp, item = view[:3]
        at = self.owner(stamp)
        if at is None or self.entries[at].out or name in self.entries[at].views:
            self.held.append((*view[:4], None if at is None else self.entries[at].pick))
            return HELD
        self.entries[at].views[name] = item
        self.entries[at].stamps[name] = stamp
        return ASSIGNED

    def open(self, pick, now):
        self.entries.append(Entry(pick, now))
        kept = [v for v in self.held if v[4] and v[4].stamp_ns == pick.stamp_ns]
        waiting, self.held = [v for v in self.held if v not in kept], kept
        new = len(self.entries) - 1
        for e in self.entries[:-1]:
            for name in [n for n in e.stamps if self.owner(e.stamps[n]) == new]:
                if not e.out and e.pick.stamp_ns < pick.stamp_ns:
                    waiting.append((name, e.stamps.pop(name), e.views.pop(name), now))
        for view in sorted(waiting, key=lambda v: v[1]):
            self.place(view)

    def due(self, now):
        ready = []
        for e in self.entries:
            complete = set(VIEWS) <= set(e.views)
            if not e.out and (complete or now - e.opened >= TIMEOUT):
                e.out = True
                ready.append((e.pick, dict(e.views), not complete))
        return ready

    def drop(self, now):
        old = [v for v in self.held if now - v[3] >= TIMEOUT]
        self.held = [v for v in self.held if v not in old]
        return len(old)


class BookMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.fast = PickBook(VIEWS, TIMEOUT, delay_s=DELAY / 1e9, memory=64)
        self.slow = SlowBook(DELAY)
        self.now = 0
        self.items = 0
        self.handed_out = []

    @rule(number=st.integers(0, 5), stamp=st.integers(1, 30))
    def open(self, number, stamp):
        pick = Pick(f"p{number}", stamp, "tote", (0.0, 0.0, 1.0, 1.0))
        if any(
            (e.pick.pick_id, e.pick.stamp_ns) == (f"p{number}", stamp) for e in self.slow.entries
        ):
            with pytest.raises(MessageError):
                self.fast.open(pick, self.now)
        else:
            self.fast.open(pick, self.now)
            self.slow.open(pick, self.now)

    # Leave room for views that an opened pick moves: the bound itself is tested elsewhere.
    @precondition(lambda self: len(self.slow.held) < PickBook.HELD_MAX // 2)
    @rule(name=st.sampled_from(VIEWS), stamp=st.integers(1, 36))
    def view(self, name, stamp):
        self.items += 1
        want = self.slow.place((name, stamp, self.items, self.now))
        assert self.fast.add_view(name, stamp, self.items, self.now) == want

    @rule(seconds=st.integers(0, TIMEOUT))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def due(self):
        got = [(c.pick, c.views, c.timed_out) for c in self.fast.due(self.now)]
        assert got == self.slow.due(self.now)
        self.handed_out += [g[0] for g in got]

    @rule()
    def drop(self):
        assert self.fast.drop_unclaimed(self.now) == self.slow.drop(self.now)

    @invariant()
    def counts_agree(self):
        assert len(self.fast) == sum(not e.out for e in self.slow.entries)

    def teardown(self):
        self.now += TIMEOUT
        self.due()
        assert len(self.fast) == 0
        keys = [(p.pick_id, p.stamp_ns) for p in self.handed_out]
        assert sorted(keys) == sorted((e.pick.pick_id, e.pick.stamp_ns) for e in self.slow.entries)


TestPickBook = BookMachine.TestCase
TestPickBook.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


@st.composite
def days(draw):
    """Picks one after the other: which views came, and in which order their messages arrived."""
    picks = []
    for n in range(draw(st.integers(1, 5))):
        came = draw(st.sets(st.sampled_from(VIEWS)))
        picks.append((n, came, draw(st.permutations(["pick", *sorted(came)]))))
    return picks


def assignment(day):
    """Play a day as the nodes do, one pick after the other; who got what."""
    book, now, got = PickBook(VIEWS, TIMEOUT), 0, {}
    for n, _, order in day:
        for message in order:
            if message == "pick":
                book.open(Pick(f"p{n}", 1000 * n + 100, "tote", (0.0, 0.0, 1.0, 1.0)), now)
            else:
                book.add_view(message, 1000 * n + 200, (n, message), now)
            for case in book.due(now):
                got[case.pick.pick_id] = case.views
        now += TIMEOUT
        for case in book.due(now):
            got[case.pick.pick_id] = case.views
    return got


@given(day=days())
def test_the_order_in_which_messages_arrive_changes_no_assignment(day):
    assert assignment(day) == {f"p{n}": {v: (n, v) for v in came} for n, came, _ in day}


@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.just("pick"), st.integers(0, 9), st.integers(1, 30)),
            st.tuples(st.sampled_from(VIEWS), st.integers(1, 36), st.just(0)),
            st.tuples(st.just("wait"), st.integers(0, 4), st.just(0)),
        ),
        max_size=80,
    ),
    memory=st.integers(0, 2),
)
def test_with_little_memory_every_pick_is_still_handed_out_once_and_every_view_ends_somewhere(
    events, memory
):
    book, now, opened, cases, views = PickBook(VIEWS, TIMEOUT, memory=memory), 0, 0, [], {}
    dropped = 0
    for kind, a, b in events:
        if kind == "pick":
            with suppress(MessageError):
                book.open(Pick(f"p{a}", b, "tote", (0.0, 0.0, 1.0, 1.0)), now)
                opened += 1
        elif kind == "wait":
            now += a
            cases += book.due(now)
            dropped += book.drop_unclaimed(now)
        else:
            views[len(views)] = kind
            book.add_view(kind, a, len(views) - 1, now)
    cases += book.due(now + TIMEOUT)
    dropped += book.drop_unclaimed(now + TIMEOUT)
    assert len(cases) == opened
    placed = [item for case in cases for item in case.views.values()]
    assert len(set(placed)) == len(placed)
    assert all(views[item] == name for case in cases for name, item in case.views.items())
    assert len(placed) + dropped == len(views)
