"""What was heard, as the records of an evaluation (see `robollm.eval.records`), without truth."""

from __future__ import annotations

from collections.abc import Sequence

from robollm.core.decide import AMBIGUOUS, IDENTIFIED, NOT_IN_MANIFEST, UNKNOWN
from robollm.eval.label_map import found_in
from robollm.eval.records import PickRecord, SegmentationRecord
from robollm.nodes.replay_ear import Heard, Tote

UNTOLD = "not published"  # ROS says what was judged, and leaves out why the rest was not


def pick_record(heard: Heard, views: Sequence[str], limit_s: float) -> PickRecord:
    """One pick.

    Args:
        heard: what the nodes said.
        views: the expected views, in the order of the setting.
        limit_s: how long was waited, for the error of what is missing.
    """
    named, verdict = heard.named, heard.verdict
    seen = {e["view"]: e for e in heard.evidence or ()}
    identification = named and {
        "decision": (
            named[0][0] if named[0][0] in (AMBIGUOUS, UNKNOWN, NOT_IN_MANIFEST) else IDENTIFIED
        ),
        "ranked": [list(row) for row in named],
        "views": [],
        "reason": UNTOLD,
    }
    judged = verdict and {
        "decision": verdict[0][0],
        "ranked": [list(row) for row in verdict],
        "inspected": [v for v in views if v in seen],
        "missing": [[v, UNTOLD] for v in views if v not in seen],
    }
    silent = {"view": "", "stamp_ns": 0, "probabilities": None, "box": [0.0] * 4, "reason": UNTOLD}
    evidence = [seen.get(v) or silent | {"view": v} for v in views]
    error = None
    if heard.missing:
        what = f"nothing on {', '.join(heard.missing)} within {limit_s:g} s"
        error = {"kind": "no_answer", "what": what}
    return PickRecord(
        key=heard.pick.pick_id,
        bag="",
        truth=None,
        identification=identification or None,
        verdict=judged or None,
        evidence=evidence if heard.evidence is not None else [],
        ms=heard.stages_ms | ({} if heard.missing else {"answer": round(heard.answer_ms, 3)}),
        error=error,
    )


def tote_record(stamp_ns: int, tote: Tote) -> SegmentationRecord:
    """One tote image; without masks it has an error."""
    if tote.labels is None or tote.rows is None:
        error = {"kind": "no_answer", "what": "no detections, or no masks"}
        return SegmentationRecord(key=str(stamp_ns), file="", hw=(0, 0), truth=[], error=error)
    height, width = tote.labels.shape
    found = found_in(tote.labels, tote.rows)
    return SegmentationRecord(key=str(stamp_ns), file="", hw=(height, width), truth=[], found=found)
