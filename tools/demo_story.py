"""What the demo tells: what the nodes said of each pick beside what is true, and the sum of it.

The nodes and the monitor never see the truth. It comes from the simulator's `truth.json`, here,
after the last verdict.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robollm.core.decide import AMBIGUOUS, NOT_IN_MANIFEST, UNKNOWN
from robollm.core.defects import NOMINAL, UNINSPECTED
from robollm.core.rates import at_least, at_most

RIGHT = "right"
FALSE_NOMINAL, FALSE_ALARM, OTHER_DEFECT = "FALSE NOMINAL", "false alarm", "other defect"
NOT_INSPECTED = "not inspected"  # a controller sets it aside: neither right nor wrong
WRONG_PRODUCT, NOT_NAMED = "WRONG", "not named"
DOUBTS = (AMBIGUOUS, UNKNOWN, NOT_IN_MANIFEST)
_VERDICTS = (FALSE_NOMINAL, FALSE_ALARM, OTHER_DEFECT, NOT_INSPECTED)
_PRODUCTS = (WRONG_PRODUCT, NOT_NAMED)
LEVEL = 0.975  # one-sided, so both limits together hold 95 %


@dataclass(frozen=True, slots=True)
class Pick:
    """One pick as it was answered, and as it was.

    Attributes:
        name: the pick's id.
        verdict: the decision on `defects`.
        score: its decision score.
        product: first hypothesis of `pick_identifications`; may be one of `DOUBTS`; empty: none
            was heard.
        probability: its score.
        views: judged views.
        expected: views that there should be.
        event_ms: from the arrival of the last judged view to that of the later of the two
            answers, in the monitor's process; NaN: one of the two never came.
        true_product: what was to be picked.
        in_manifest: False for a product that its container's manifest lacks.
        true_label: nominal, multi_pick or package_defect.
        true_event: what happened: nominal, multi_pick, open or deconstruction.
    """

    name: str
    verdict: str
    score: float
    product: str
    probability: float
    views: int
    expected: int
    event_ms: float
    true_product: str
    in_manifest: bool
    true_label: str
    true_event: str

    @property
    def verdict_mark(self) -> str:
        """How the verdict is: right, not inspected, or one of three ways to be wrong."""
        if self.verdict == self.true_label:
            return RIGHT
        if self.verdict == UNINSPECTED:
            return NOT_INSPECTED
        if self.verdict == NOMINAL:
            return FALSE_NOMINAL
        return FALSE_ALARM if self.true_label == NOMINAL else OTHER_DEFECT

    @property
    def product_mark(self) -> str:
        """How the product is. Of one that the manifest lacks, any doubt is right."""
        if self.product in DOUBTS and not self.in_manifest:
            return RIGHT
        if self.product in DOUBTS or not self.product:
            return NOT_NAMED
        return RIGHT if self.in_manifest and self.product == self.true_product else WRONG_PRODUCT


def told(report: Mapping[str, Any], truth: Mapping[str, Any]) -> list[Pick]:
    """Join the monitor's `report.json` and the simulator's `truth.json` by pick."""
    heard = {row["pick_id"]: row for row in report["picks"]}
    return [
        Pick(
            name=t["id"],
            verdict=row["verdict"],
            score=row["score"],
            product=row["product"],
            probability=row["probability"],
            views=len(row["views"]),
            expected=report["views_expected"],
            event_ms=math.nan if row["event_ms"] is None else row["event_ms"],
            true_product=t["product_id"],
            in_manifest=t["in_manifest"],
            true_label=t["label"],
            true_event=t["event"],
        )
        for t in truth["picks"]
        if (row := heard.get(t["id"])) is not None
    ]


def table(picks: Sequence[Pick]) -> str:
    """The picks as a Markdown table whose columns stand under each other, and what they mean."""
    head = ("pick", "true product*", "product found", "p", "verdict", "score", "true event*",
            "views", "ms", "product", "verdict is")  # fmt: skip
    rows = [
        (
            p.name,
            p.true_product + ("" if p.in_manifest else " (not in manifest)"),
            p.product or "-",
            f"{p.probability:.2f}",
            p.verdict,
            f"{p.score:.2f}",
            p.true_event,
            f"{p.views}/{p.expected}",
            "-" if math.isnan(p.event_ms) else f"{p.event_ms:.0f}",
            p.product_mark,
            p.verdict_mark,
        )
        for p in picks
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, tuple("-" * w for w in widths), *rows]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
            for r in lines]  # fmt: skip
    return "\n".join(
        [
            *text,
            "",
            "* the simulator's truth, which no node sees. ms: one pick event, from the arrival of "
            "its last judged",
            "view to that of the later of its two answers (verdict, product), in the monitor's "
            "process.",
        ]
    )


def summary(picks: Sequence[Pick]) -> str:
    """The sum in words: shares with intervals, times, and a warning for every false nominal."""
    verdicts = [p.verdict_mark for p in picks]
    known = [p.product_mark for p in picks if p.in_manifest]
    strange = [p.product_mark for p in picks if not p.in_manifest]
    lines = [
        f"verdicts: {_share(verdicts, 'right')}; {_counts(verdicts, _VERDICTS)}",
        f"products: {_share(known, 'right')}; {_counts(known, _PRODUCTS)}",
    ]
    if strange:
        lines.append(f"products that the manifest lacks: {_share(strange, 'given no name of it')}")
    lines += [_times(picks), *warnings(picks)]
    return "\n".join(lines)


def warnings(picks: Sequence[Pick]) -> list[str]:
    """One line for every defect that passed as nominal."""
    return [
        f"WARNING: {p.name} is {p.true_event} and was called nominal ({p.score:.2f}): "
        "a robot would have placed it"
        for p in picks
        if p.verdict_mark == FALSE_NOMINAL
    ]


def _counts(marks: Sequence[str], of: Sequence[str]) -> str:
    return ", ".join(f"{marks.count(m)} {m.lower()}" for m in of)


def _share(marks: Sequence[str], word: str) -> str:
    n, right = len(marks), marks.count(RIGHT)
    if not n:
        return "none"
    low, high = at_least(right, n, LEVEL), at_most(right, n, LEVEL)
    return f"{right} of {n} {word} (95 % interval {low:.2f} to {high:.2f})"


def _times(picks: Sequence[Pick]) -> str:
    whole = [p.event_ms for p in picks if p.views == p.expected and not math.isnan(p.event_ms)]
    waited = sum(p.views < p.expected for p in picks)
    mute = len(picks) - waited - len(whole)
    cores = len(os.sched_getaffinity(0))
    text = f"pick event on {cores} cores, with the player and the monitor on them: "
    if whole:
        p50, p95 = np.percentile(whole, (50, 95))
        text += f"p50 {p50:.0f} ms, p95 {p95:.0f} ms of {len(whole)} picks with all views"
    else:
        text += "no pick with all views and both answers"
    why = (
        (waited, "not all of their views were judged"),
        (mute, "an answer or its time is missing"),
    )
    left = [f"{n} not counted: {reason}" for n, reason in why if n]
    return f"{text} ({'; '.join(left)})" if left else text
