"""The views of a pick: which can be looked at, and why the others can't."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from robollm.core.defects import UNINSPECTED, Verdict, ViewEvidence
from robollm.core.errors import FrameError
from robollm.core.quality import unusable
from robollm.core.settings import PickConfig
from robollm.runtime.arrival import Arrival
from robollm.runtime.pixels import Region, refuse_huge


@dataclass(frozen=True, slots=True)
class PickView:
    """One expected view of a pick, as far as it came.

    Attributes:
        name: the view's name.
        region: where to look, or None when no image came.
        reason: why there is no region; empty when there is one.
    """

    name: str
    region: Region | None
    reason: str = ""


Refuse = Callable[[str, FrameError], None]
"""Counts an image that can't be used: name of its stream, and why."""


def pre_pick(
    arrival: Arrival | None, box: tuple[float, float, float, float], refuse: Refuse
) -> PickView:
    """The picked object in its tote image.

    Args:
        arrival: the image that the pick was planned on; None: nobody has it.
        box: the target, (x1, y1, x2, y2), px of that image.
        refuse: told of an image that can't be decoded.
    """
    if arrival is None:
        return PickView("image", None, "no tote image with the pick's stamp is kept")
    try:
        return PickView("image", Region(arrival.frame(), box))
    except FrameError as e:
        refuse("image", e)
        return PickView("image", None, e.what)


def post_pick(
    name: str,
    arrival: Arrival | None,
    roi: tuple[int, int, int, int] | None,
    limit_s: float,
    refuse: Refuse,
) -> PickView:
    """One expected view of a pick.

    Args:
        name: the view's name.
        arrival: its image; None: it did not come.
        roi: part to look at, (x, y, width, height), px; None: all of it.
        limit_s: how long it was waited for, s.
        refuse: told of an image that can't be decoded.
    """
    if arrival is None:
        return PickView(name, None, f"no usable image within {limit_s:g} s of the pick")
    try:
        frame = arrival.frame()
    except FrameError as e:
        refuse(name, e)
        return PickView(name, None, e.what)
    if roi is None:
        return PickView(name, Region(frame))
    x, y, w, h = roi
    height, width = frame.hw
    if x + w > width or y + h > height:
        # A part of it would be judged as if it were the whole: the camera was changed.
        wrong = FrameError(
            f"the part to look at, {w}x{h} px at ({x}, {y}), leaves the image of {width}x{height}",
            kind="bad_roi",
            fix="adapt view_rois to what the camera sends, or set its resolution back",
        )
        refuse(name, wrong)
        return PickView(name, None, wrong.what)
    return PickView(name, Region(frame, (float(x), float(y), float(x + w), float(y + h))))


def uninspected(views: Sequence[str], reason: str) -> tuple[Verdict, list[ViewEvidence]]:
    """The verdict when nothing could be judged, for one and the same reason."""
    evidence = [ViewEvidence(name, None, reason=reason) for name in views]
    verdict = Verdict(((UNINSPECTED, 1.0),), (), tuple((n, reason) for n in views))
    return verdict, evidence


def evidence_of(
    view: PickView, judged: Mapping[str, float] | None, reason: str = ""
) -> ViewEvidence:
    """What one view says.

    Args:
        view: as far as it came.
        judged: defect class -> probability; None: it was not judged.
        reason: why it was not; empty when it was.
    """
    if view.region is None:
        return ViewEvidence(view.name, None, reason=reason)
    box = view.region.window if judged else (0, 0, 0, 0)
    frame = view.region.frame
    return ViewEvidence(
        view.name,
        judged,
        (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        reason,
        frame.stamp_ns,
        frame.frame_id,
    )


def usable(
    views: Sequence[PickView], quality: PickConfig, *, max_side: int
) -> tuple[dict[str, Region], dict[str, str]]:
    """Split views into those that can be looked at and the reasons against the others.

    Args:
        views: the expected views.
        quality: limits below which a view is not looked at.
        max_side: longest side of an image that is looked at, px.

    Returns:
        View -> region, and view -> reason.
    """
    seen: dict[str, Region] = {}
    lost: dict[str, str] = {}
    for v in views:
        if v.region is None:
            lost[v.name] = v.reason or "missing"
            continue
        try:
            refuse_huge(v.region.frame, max_side)
            problem = unusable(
                v.region.pixels, dark_below=quality.dark_below, flat_below=quality.flat_below
            )
        except FrameError as e:
            problem = e.what
        if problem:
            lost[v.name] = problem
        else:
            seen[v.name] = v.region
    return seen, lost
