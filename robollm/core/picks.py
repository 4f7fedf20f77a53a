"""Which post-pick images belong to which pick, and when a pick's answer is due.

A view image belongs to the item in the gripper: to the latest known pick that was planned on a
tote image older than the view. Only stamps decide, so messages may arrive in any order: a view
that comes before its pick's message is held for it, and one that was filed under an older pick in
the meantime moves when the right pick is announced. A pick whose views never come is due after the
time limit with what there is.

What the controller must keep to: the tote image of a pick is newer than the last view of the pick
before, and a pick is announced when it is executed, so that its message is here before its views
are (by seconds, as a rule). Where the next tote image is taken while the arm still shows the item
before, `delay_s` keeps the two apart: longer than the last view trails that tote image, shorter
than the arm needs from a tote image to the views of its own pick.

One limit follows: a pick is answered as soon as it is complete. If the view that completed it
belonged to a pick whose message came later still, it can't move any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from robollm.core.errors import FrameError, MessageError

V = TypeVar("V")

ASSIGNED = "assigned"
HELD = "held"
UNCLAIMED = "unclaimed_view"


def refuse_stale(stamp_ns: int, now_ns: int, limit_s: float) -> None:
    """See that a view image is fresh on arrival.

    Args:
        stamp_ns: its capture time, ns.
        now_ns: time of its arrival on the same clock, ns.
        limit_s: oldest age that counts, s; 0: any.

    Raises:
        FrameError: if it is older, or as far in the future.
    """
    age_s = (now_ns - stamp_ns) / 1e9
    if limit_s and abs(age_s) > limit_s:
        raise FrameError(
            f"image is {age_s:.1f} s old, want at most {limit_s:g} s",
            kind="stale_view",
            fix="synchronise the camera's clock; for a bag play /clock and set "
            "use_sim_time: true; or raise max_view_age_s",
        )


def refuse_future(stamp_ns: int, now_ns: int, limit_s: float) -> None:
    """See that a view image wasn't captured after it arrived.

    Which pick a view belongs to is told by its stamp alone. One that is ahead may be newer than the
    tote image of the next pick, and would be judged as that pick's.

    Args:
        stamp_ns: its capture time, ns.
        now_ns: time of its arrival on the same clock, ns.
        limit_s: largest lead that counts, s; 0: any.

    Raises:
        FrameError: if it is further ahead.
    """
    lead_s = (stamp_ns - now_ns) / 1e9
    if limit_s and lead_s > limit_s:
        raise FrameError(
            f"image is stamped {lead_s:.2f} s in the future, want at most {limit_s:g} s",
            kind="future_view",
            fix="synchronise the camera's clock with this machine's (PTP, chrony), or raise "
            "max_view_lead_s",
        )


@dataclass(frozen=True, slots=True)
class Pick:
    """One pick as the controller announced it.

    Attributes:
        pick_id: the controller's id, published back unchanged.
        stamp_ns: stamp of the tote image that it was planned on.
        frame_id: frame of that image.
        box: target (x1, y1, x2, y2), tote image px.
        container: id of the container in front of the arm, or None if nobody said.
    """

    pick_id: str
    stamp_ns: int
    frame_id: str
    box: tuple[float, float, float, float]
    container: str | None = None


@dataclass(slots=True)
class Case(Generic[V]):
    """A pick and the views that came for it.

    Attributes:
        pick: the request.
        opened_s: when its message came, seconds of the caller's clock.
        views: view name -> item, at most one each.
        stamps_ns: view name -> its stamp.
        timed_out: True if it was closed by the time limit.
    """

    pick: Pick
    opened_s: float
    views: dict[str, V] = field(default_factory=dict)
    stamps_ns: dict[str, int] = field(default_factory=dict)
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class _Held(Generic[V]):
    name: str
    stamp_ns: int
    item: V
    since_s: float
    owner: Pick | None = None  # whose it was when it came, if anybody's


class PickBook(Generic[V]):
    """The picks that wait for their views. Pure: the caller brings the clock.

    Args:
        expected: names of the views that a complete pick has.
        timeout_s: how long after its message a pick waits for them.
        delay_s: a view counts only if captured at least this long after the pick's tote image;
            0: any later stamp. For cameras that stream: the time the arm needs.
        memory: how many closed picks are remembered, to recognise repeats and late views.

    Attributes:
        moved: how many views were taken from a pick that waited for them, since a later one was
            announced. Right if that pick's message was late; if the arm works ahead, the view shows
            the item before, and `delay_s` is too short.
    """

    HELD_MAX = 24  # full images: a bound on memory when a camera streams between picks

    def __init__(
        self,
        expected: tuple[str, ...],
        timeout_s: float,
        *,
        delay_s: float = 0.0,
        memory: int = 512,
    ) -> None:
        self.expected = expected
        self.timeout_s = timeout_s
        self.moved = 0
        self._delay_ns = int(delay_s * 1e9)
        self._memory = memory
        self._squeezed_out = 0
        self._open: list[Case[V]] = []
        self._known: list[Pick] = []  # open and recently closed, in order of arrival
        self._held: list[_Held[V]] = []

    def __len__(self) -> int:
        """Number of picks that wait."""
        return len(self._open)

    def open(self, pick: Pick, now_s: float) -> None:
        """Start to wait for a pick's views, adopting those that came early.

        Raises:
            MessageError: if this pick (same id and stamp) is known already: it must not be
                answered twice.
        """
        if any(k.pick_id == pick.pick_id and k.stamp_ns == pick.stamp_ns for k in self._known):
            raise MessageError(
                f"pick {pick.pick_id!r} was announced twice with the same stamp",
                kind="duplicate_pick",
                fix="give every pick its own id, publish it once",
            )
        self._open.append(Case(pick, now_s))
        self._known.append(pick)
        closed = [k for k in self._known if not any(c.pick is k for c in self._open)]
        for k in closed[: max(0, len(closed) - self._memory)]:
            self._known = [other for other in self._known if other is not k]
        # A view that came for another pick on the same tote image stays that pick's: a missing
        # view is uninspected, a wrong one may be a false nominal.
        same = [h for h in self._held if h.owner and h.owner.stamp_ns == pick.stamp_ns]
        loose = [h for h in self._held if not any(h is k for k in same)]
        self._held = same
        for case in self._open:
            for name, ns in list(case.stamps_ns.items()):
                # Strictly newer: two picks on one tote image take turns.
                if case.pick.stamp_ns < pick.stamp_ns and self._owner(ns) is pick:
                    del case.stamps_ns[name]
                    self.moved += 1
                    loose.append(_Held(name, ns, case.views.pop(name), now_s))
        for view in sorted(loose, key=lambda v: v.stamp_ns):
            self._place(view)

    def add_view(self, name: str, stamp_ns: int, item: V, now_s: float) -> str:
        """File one view image.

        Returns:
            `ASSIGNED`, or `HELD`: its pick is not known yet, was answered already, or has this
            view. It may belong to a pick whose message is still on its way.
        """
        return self._place(_Held(name, stamp_ns, item, now_s))

    def due(self, now_s: float) -> list[Case[V]]:
        """Take out the picks that are complete or whose time is up, oldest first."""
        ready = []
        for case in self._open:
            complete = all(name in case.views for name in self.expected)
            case.timed_out = not complete and now_s - case.opened_s >= self.timeout_s
            if complete or case.timed_out:
                ready.append(case)
        self._open = [c for c in self._open if not any(c is r for r in ready)]
        return ready

    def drop_unclaimed(self, now_s: float) -> int:
        """Forget held views that no pick claimed in time; returns how many since the last call."""
        before = len(self._held)
        self._held = [h for h in self._held if now_s - h.since_s < self.timeout_s]
        gone, self._squeezed_out = before - len(self._held) + self._squeezed_out, 0
        return gone

    def flush(self) -> list[Case[V]]:
        """Take out every waiting pick as it is and forget all history (time jumped, shutdown)."""
        cases, self._open, self._known, self._held = self._open, [], [], []
        for case in cases:
            case.timed_out = any(name not in case.views for name in self.expected)
        return cases

    def _owner(self, stamp_ns: int) -> Pick | None:
        owner: Pick | None = None
        for pick in self._known:  # a later arrival wins a tie: it is the one in the gripper
            early = stamp_ns <= pick.stamp_ns + self._delay_ns
            if not early and (owner is None or pick.stamp_ns >= owner.stamp_ns):
                owner = pick
        return owner

    def _place(self, view: _Held[V]) -> str:
        owner = self._owner(view.stamp_ns)
        case = next((c for c in self._open if c.pick is owner), None)
        if case is None or view.name in case.views:
            self._held.append(replace(view, owner=owner))
            self._squeezed_out += len(self._held) > self.HELD_MAX
            self._held = self._held[-self.HELD_MAX :]
            return HELD
        case.views[view.name] = view.item
        case.stamps_ns[view.name] = view.stamp_ns
        return ASSIGNED
