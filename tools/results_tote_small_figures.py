"""Figures of results/tote_small.json by name, how they are written, and the goals beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from results_row import NOT_MEASURED, Card

__all__ = ["NOT_MEASURED"]

Numbers = Sequence[float | None]
CHANCE, COLOURS, PICKS = "chance", "colour-histogram", "picks"
NOTHING = "–"
VISIBLE = "visible"
"""The run without the objects of which less than 20 % shows; as a part, of mixed totes."""
PARTS = {
    "mix": "segmentation/mix-object-tote",
    VISIBLE: "segmentation/mix-object-tote",
    "zoomed": "segmentation/zoomed-out-tote-transfer-set",
    "same": "segmentation/same-object-transfer-set",
    "ids": "identification",
    "defects": "defects",
    "station": "station/picks",
}
"""Short names of a run's sections."""
LIMITS = {"demo_ms": 250.0, "gap": 0.10}
"""Goals that are no figure of a section: `make demo` per pick event; GL - Cycles of masks."""


@dataclass(frozen=True)
class Goal:
    """A goal that was set before training.

    Attributes:
        what: in words.
        part: see `PARTS`.
        figure: of that section.
        sign: what the figure shall be of `limit`: ">=", ">" or "<=".
        limit: the number.
        gap: whether Cycles shall be within `LIMITS["gap"]` of GL, too.
    """

    what: str
    part: str
    figure: str
    sign: str
    limit: float
    gap: bool = False

    @classmethod
    def of(cls, part: str, figure: str) -> Goal | None:
        """The goal of a figure; None if there is none."""
        return next((g for g in GOALS if (g.part, g.figure) == (part, figure)), None)

    def met(self, value: float) -> bool:
        """Whether a value reaches it."""
        if self.sign == "<=":
            return value <= self.limit
        return value > self.limit if self.sign == ">" else value >= self.limit


def _masks(what: str, part: str, limit: float, group: str = "") -> Goal:
    return Goal(f"masks, mAP50, {what}", part, f"object_only_mask_mAP50{group}", ">=", limit, True)


GOALS = (
    _masks("mixed totes", "mix", 0.75),
    _masks("mixed, up to 5 objects", "mix", 0.92, "_1-5"),
    _masks("mixed, 13 objects and more", "mix", 0.55, "_13+"),
    _masks("zoomed out", "zoomed", 0.50),
    _masks("of one product", "same", 0.50),
    Goal("container, one view: recall@1", "ids", "recall@1_container_product_n1", ">=", 0.90),
    Goal("container, three views: recall@1", "ids", "recall@1_container_product_n3", ">=", 0.95),
    Goal("all test products, one view: recall@1", "ids", "recall@1_all_product_n1", ">=", 0.60),
    Goal("all test products, three views: recall@1", "ids", "recall@1_all_product_n3", ">=", 0.60),
    *(
        Goal(f"strangers rejected at 5 % false rejects, {views}", "ids",
             f"unknown_rejected_at_fr0.05_{query}", ">=", 0.80)
        for query, views in (("n1", "one view"), ("n3", "three views"))
    ),
    *(
        goal
        for name, said in (("multi_pick", "multi-pick"), ("package_defect", "package defect"))
        for goal in (
            Goal(f"{said}, per induct: recall at FPR .05", "defects",
                 f"verdict_{name}_recall@fpr0.05", ">", 0.95),
            Goal(f"{said}, verdicts at the bundle's thresholds: recall", "defects",
                 f"verdict_{name}_recall", ">", 0.95),
            Goal(f"{said}, verdicts at the bundle's thresholds: FPR", "defects",
                 f"verdict_{name}_fpr", "<=", 0.05),
        )
    ),
)  # fmt: skip
"""Those of the plan, in its order; where it doesn't say how many views, both are shown."""


def numbers(card: Card, place: str, part: str, figure: str) -> Numbers | None:
    """[value, low, high, cases] of a figure; None: there is none.

    Args:
        card: of the results.
        place: SET of `default`, or SET/RUN, or SET/BASELINE.
        part: see `PARTS`.
        figure: its name.
    """
    name, _, who = place.partition("/")
    who = who or (VISIBLE if part == VISIBLE else "")
    runs = card.get("sets", {}).get(name, {}).get("runs", {})
    found = runs.get(who or "default")
    sections = found["sections"] if found else {}
    if not found and who:
        sections = runs.get("default", {}).get("baselines", {}).get(who, {})
    row: Numbers | None = sections.get(PARTS[part], {}).get("figures", {}).get(figure)
    return row


def columns(card: Card, heads: Mapping[str, str]) -> dict[str, str]:
    """Places and heads of columns: those of fp32 only if it was measured beside the default.

    Args:
        card: of the results.
        heads: place, as of `numbers` -> head.
    """
    return {
        place: head
        for place, head in heads.items()
        if not place.endswith("/fp32") or measured(card, place)
    }


def measured(card: Card, place: str) -> bool:
    """Whether there is a run SET/RUN."""
    name, _, run = place.partition("/")
    return run in card.get("sets", {}).get(name, {}).get("runs", {})


def cell(
    card: Card, place: str, part: str, figure: str, *, scale: float = 1.0, digits: int = 3
) -> str:
    """A figure with its interval, as `0.812 [0.781, 0.840]`."""
    if place.partition("/")[0] not in card.get("sets", {}):
        return NOT_MEASURED
    return text(numbers(card, place, part, figure), scale=scale, digits=digits)


def text(row: Numbers | None, *, scale: float = 1.0, digits: int = 3) -> str:
    """A value and its limits; `NOTHING` if there is nothing to count."""
    if row is None or row[0] is None:
        return NOTHING
    value, *limits = (None if v is None else f"{scale * v:.{digits}f}" for v in row[:3])
    return f"{value}" if None in limits else f"{value} [{', '.join(map(str, limits))}]"


def goal_words(goal: Goal, row: Numbers | None) -> str:
    """A goal and whether it is reached, as `≥ 0.75: met, the interval reaches below`."""
    sign = {">=": "≥", "<=": "≤"}.get(goal.sign, goal.sign)
    said = f"{sign} {goal.limit:.2f}"
    if row is None or row[0] is None:
        return f"{said}: {NOT_MEASURED}"
    value, low, high = row[:3]
    worse, better = (high, low) if goal.sign == "<=" else (low, high)
    if goal.met(value):
        sure = worse is not None and goal.met(worse)
        return f"{said}: met{'' if sure else ', not beyond doubt'}"
    near = better is not None and goal.met(better)
    by = abs(value - goal.limit)
    return f"{said}: missed by {by:.3f}{', within the interval' if near else ''}"


def gap_words(row: Numbers | None) -> str:
    """Whether Cycles is within the limit of GL; `row` is [GL - Cycles, low, high, p]."""
    limit = LIMITS["gap"]
    if row is None or row[0] is None:
        return f"≤ {limit:.2f}: {NOT_MEASURED}"
    value, low, high = row[:3]
    if value <= limit:
        sure = high is not None and high <= limit
        return f"≤ {limit:.2f}: met{'' if sure else ', not beyond doubt'}"
    near = low is not None and low <= limit
    return f"≤ {limit:.2f}: missed by {value - limit:.3f}{', within the interval' if near else ''}"


def rows_of(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]
