"""The views of a pick: which can be looked at, and why the others can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robollm.core.defects import UNINSPECTED, Verdict, ViewEvidence
from robollm.core.errors import FrameError
from robollm.core.quality import unusable
from robollm.core.settings import PickConfig
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
