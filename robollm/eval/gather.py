"""Which pictures a pick is answered from: the nodes' pick protocol, driven by a recording's clock.

`core.picks.PickBook` decides, as in the nodes; here are only its clock, which is the time of
recording, and what the nodes' callbacks do before they file something. What comes out are jobs
that any process can answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from robollm.core.errors import FrameError, MessageError
from robollm.core.picks import UNCLAIMED, Case, Pick, PickBook, refuse_stale
from robollm.core.settings import view_topics
from robollm.data.problems import Problems
from robollm.data.ros_fields import stamp_ns, to_container, to_pick
from robollm.eval.pictures import Picture
from robollm.eval.records import Json, PickRecord
from robollm.eval.settings import StationSettings
from robollm.eval.truth import StationTruth
from robollm.runtime.arrival import StampCheck

NS = 1_000_000_000
_EVER = 1e9  # s
IMAGE, PICK, CONTAINER, VIEW = "image", "pick", "container", "view"


class Heard(NamedTuple):
    """One message that concerns the station.

    Attributes:
        role: IMAGE, PICK, CONTAINER or VIEW.
        name: the view's name; of others their role.
        kind: "raw" or "compressed", of images.
        item: a `Picture`, or the decoded message.
        log_ns: when it was recorded, ns.
    """

    role: str
    name: str
    kind: str
    item: Any
    log_ns: int


@dataclass(frozen=True, slots=True)
class LaterFrame:
    """A picture of a view that is not the one that the pick is judged by."""

    view: str
    label: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class PickJob:
    """One pick with all that it is answered from.

    Attributes:
        key: of its record.
        bag: where it comes from.
        pick: as it was announced, with the container of that moment.
        truth: what its record keeps.
        tote: the image that it was planned on, if that was kept.
        views: view -> its first picture.
        frames: further pictures whose truth is known.
    """

    key: str
    bag: str
    pick: Pick
    truth: Json | None
    tote: Picture | None
    views: dict[str, Picture]
    frames: tuple[LaterFrame, ...] = ()

    def failed(self, error: dict[str, str]) -> PickRecord:
        """See `robollm.eval.runner.Job`."""
        return PickRecord(key=self.key, bag=self.bag, truth=self.truth, error=error)


@dataclass(slots=True)
class _Pending:
    """A pick that is answered, but whose last pictures are still to come."""

    job: PickJob
    wanted: set[tuple[str, int]]
    until_ns: int
    frames: list[LaterFrame] = field(default_factory=list)


class Gatherer:
    """The pick protocol of one recording.

    Args:
        bag: its name.
        settings: those of the nodes.
        truth: of the recording.
        problems: gets every message that is not used, by the kinds of the nodes' diagnostics.
        prefix: goes before a pick's id in the key of its record.

    Attributes:
        seen: ids of the picks that were announced.
    """

    def __init__(
        self,
        bag: str,
        settings: StationSettings,
        truth: StationTruth,
        problems: Problems,
        prefix: str = "",
    ) -> None:
        self._bag, self._settings, self._truth = bag, settings, truth
        self._problems, self._prefix = problems, prefix
        self._views = tuple(view_topics(settings.pick))
        self._book: PickBook[Picture] = PickBook(
            self._views, settings.pick.view_timeout_s, delay_s=settings.pick.view_delay_s
        )
        self._totes: dict[int, Picture] = {}  # in order of arrival
        self._planned: Counter[int] = Counter()  # stamps that open picks were planned on
        self._checks: dict[str, StampCheck] = {}
        self._container: str | None = None
        self._first_ns: int | None = None
        self._last_ns = 0
        self._pending: list[_Pending] = []
        self._early: dict[str, list[LaterFrame]] = {}
        self._stamps: dict[str, set[tuple[str, int]]] = {}
        for (view, ns), (owner, _) in truth.later.items():
            if view in self._views:
                self._stamps.setdefault(owner, set()).add((view, ns))
        self._unclaimed = self._used = 0
        self.seen: dict[str, int] = {}

    def jobs(self, messages: Iterable[Heard]) -> Iterator[PickJob]:
        """The picks of a recording, as their answers become due.

        Args:
            messages: in the order of recording.
        """
        for message in messages:
            if self._first_ns is None:
                self._first_ns = message.log_ns
            self._last_ns = max(self._last_ns, message.log_ns)
            yield from self._due(self._last_ns)  # what was due before this message came
            self._take(message)
            yield from self._due(self._last_ns)
        end = self._last_ns + int(self._settings.pick.view_timeout_s * NS) + 1
        yield from self._due(end)
        for left in self._pending:
            yield self._whole(left)
        self._pending.clear()
        self._unclaimed += self._book.drop_unclaimed(self._seconds(end) + _EVER)
        # Further pictures of a view are nobody's in the protocol, but they were looked at.
        for _ in range(self._unclaimed - self._used):
            self._problems.note(
                UNCLAIMED, self._bag, "a view image that no pick claimed", "not used"
            )

    def _seconds(self, ns: int) -> float:
        return (ns - (self._first_ns or 0)) / NS

    def _take(self, m: Heard) -> None:
        try:
            if m.role == CONTAINER:
                self._container = None  # an empty id: nobody knows what is in front of the arm
                self._container = to_container(m.item.data)
            elif m.role == PICK:
                self._announce(to_pick(m.item, self._container), m.log_ns)
            else:
                self._see(m)
        except (FrameError, MessageError) as e:
            self._refuse(m.name, e)

    def _announce(self, pick: Pick, now_ns: int) -> None:
        self._book.open(pick, self._seconds(now_ns))
        self._planned[pick.stamp_ns] += 1
        self.seen[pick.pick_id] = self.seen.get(pick.pick_id, 0) + 1
        if self.seen[pick.pick_id] > 1:
            self._problems.note(
                "repeated_pick_id", self._bag, f"pick {pick.pick_id} was announced again",
                "answered, under a key with its stamp",
            )  # fmt: skip

    def _see(self, m: Heard) -> None:
        picture: Picture = m.item
        ns = stamp_ns(picture.header.stamp)
        picture.check(m.name)
        if not self._checks.setdefault(m.name, StampCheck()).is_new(m.kind, ns):
            return
        if m.role == IMAGE:
            self._keep(ns, picture)
            return
        self._note_frame(m.name, ns, picture)
        refuse_stale(ns, m.log_ns, self._settings.pick.max_view_age_s)
        self._book.add_view(m.name, ns, picture, self._seconds(m.log_ns))

    def _keep(self, ns: int, picture: Picture) -> None:
        """Keep as many tote images as the nodes; the oldest that no open pick needs goes first.

        Nodes keep what they segmented longer than what they dropped, and a controller plans on the
        former. A recording doesn't tell them apart before a pick names its image.
        """
        self._totes[ns] = picture
        while len(self._totes) > self._settings.identification.frame_history:
            idle = (s for s in self._totes if s != ns and not self._planned[s])
            del self._totes[next(idle, next(iter(self._totes)))]

    def _note_frame(self, view: str, ns: int, picture: Picture) -> None:
        owner, label = self._truth.later.get((view, ns), ("", ""))
        if not owner:
            return
        shown = LaterFrame(view, label, picture)
        waiting = next((p for p in self._pending if p.job.pick.pick_id == owner), None)
        if waiting is None:
            self._early.setdefault(owner, []).append(shown)
        else:
            waiting.frames.append(shown)
            waiting.wanted.discard((view, ns))

    def _due(self, now_ns: int) -> Iterator[PickJob]:
        now_s = self._seconds(now_ns)
        self._unclaimed += self._book.drop_unclaimed(now_s)
        for case in self._book.due(now_s):
            self._pending.append(self._wait_for_frames(case))
        ready = [p for p in self._pending if not p.wanted or now_ns > p.until_ns]
        self._pending = [p for p in self._pending if not any(p is r for r in ready)]
        for one in ready:
            yield self._whole(one)

    def _wait_for_frames(self, case: Case[Picture]) -> _Pending:
        pick = case.pick
        if case.timed_out:
            missing = [v for v in self._views if v not in case.views]
            self._problems.note(
                "picks_timed_out", self._bag, f"pick {pick.pick_id} lacks {', '.join(missing)}",
                "answered with what came",
            )  # fmt: skip
        tote = self._totes.get(pick.stamp_ns)
        self._planned.subtract((pick.stamp_ns,))
        self._planned += Counter()  # forgets what nobody needs
        if tote is None:
            self._problems.note(
                "pick_without_tote_image", self._bag,
                f"no image with the stamp of pick {pick.pick_id} is kept", "named without it",
            )  # fmt: skip
        key = f"{self._prefix}{pick.pick_id}"
        if self.seen.get(pick.pick_id, 0) > 1:
            key += f"@{pick.stamp_ns}"
        truth = self._truth.of(pick.pick_id)
        job = PickJob(key, self._bag, pick, truth, tote, dict(case.views))
        frames = self._early.pop(pick.pick_id, [])
        wanted = set(self._stamps.get(pick.pick_id, ()))
        until = max((ns for _, ns in wanted), default=0)
        wanted -= {(f.view, stamp_ns(f.picture.header.stamp)) for f in frames}
        limit = int(self._settings.pick.view_timeout_s * NS)
        return _Pending(job, wanted, until + limit, frames)

    def _whole(self, one: _Pending) -> PickJob:
        job = one.job
        judged = {(v, stamp_ns(p.header.stamp)) for v, p in job.views.items()}
        later = sorted(
            (f for f in one.frames if (f.view, stamp_ns(f.picture.header.stamp)) not in judged),
            key=lambda f: (f.view, stamp_ns(f.picture.header.stamp)),
        )
        self._used += len(later)
        return PickJob(job.key, job.bag, job.pick, job.truth, job.tote, job.views, tuple(later))

    def _refuse(self, name: str, error: FrameError | MessageError) -> None:
        self._problems.note(error.kind, f"{self._bag}, {name}", error.what, "dropped")
