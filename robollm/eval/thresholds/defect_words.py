"""What is said of the thresholds of defects: what they were chosen by, and what they cost."""

from __future__ import annotations

from robollm.eval.records import Json
from robollm.eval.thresholds.parts import Wish


def by(wish: Wish) -> str:
    """What thresholds were chosen by."""
    sure = f"shown with {wish.confidence:.0%} confidence, one-sided"
    shown = sure if wish.confidence else "as counted"
    return f"recall above {wish.recall:g} per induct, {shown}, at the lowest FPR"


def loud(kind: str, short: bool, record: Json, wish: Wish) -> list[str]:
    """What must be said of a threshold that costs much, or doesn't do what was wanted."""
    lines: list[str] = []
    now, held, other = (record[k] for k in ("on_all", "held_out", "at_fpr_limit"))
    if short:
        lines.append(
            f"{kind}: a recall above {wish.recall:g} can't be shown with "
            f"{now[f'{kind}_recall']['cases']} inducts that have it; the threshold takes all that "
            "were judged"
        )
    recall, fpr = now[f"{kind}_recall"]["value"], now[f"{kind}_fpr"]["value"]
    if fpr > wish.fpr_limit:
        lines.append(
            f"{kind}: a recall of {recall:.3f} costs an FPR of {fpr:.3f} (limit "
            f"{wish.fpr_limit:g}); within the limit the recall is {other[kind]['recall']:.3f}, at "
            f"the threshold {other[kind]['threshold']:g}"
        )
    out = held[f"{kind}_recall"]["value"]
    if out is not None and out <= wish.recall:
        lines.append(
            f"{kind}: on inducts that did not choose, the recall is {out:.3f}, wanted more than "
            f"{wish.recall:g}"
        )
    return lines
