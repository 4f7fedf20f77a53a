"""What the monitor heard about each pick: rows, a table of them, and the files it leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

JSON, MARKDOWN = "report.json", "report.md"
STAGES = ("decode", "preprocess", "backbone", "heads", "search", "publish")


@dataclass(slots=True)
class Row:
    """All that was heard about one pick.

    Attributes:
        pick_id: the controller's id.
        verdict: the decision, or empty until it comes.
        score: its decision score.
        views: evidence of each judged view: name -> ranked (class, probability).
        product: first hypothesis of `pick_identifications`.
        probability: its score.
        latency_ms: from the arrival of its last judged view (none: of the pick) to the
            verdict's, both in the monitor's process; a view that never came makes it the time
            limit.
        event_ms: the same, to the arrival of the later of verdict and `pick_identifications`;
            NaN if the latter never came.
        stages_ms: node -> stage -> ms, from /diagnostics.
    """

    pick_id: str
    verdict: str = ""
    score: float = 0.0
    views: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    product: str = ""
    probability: float = 0.0
    latency_ms: float = math.nan
    event_ms: float = math.nan
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)


def table(rows: Sequence[Row], expected: int, nodes: Sequence[str]) -> str:
    """The rows as a Markdown table: what was decided, how long each stage took.

    Args:
        rows: one per pick.
        expected: views that a pick should have.
        nodes: whose stages are shown, in this order.
    """
    out = [
        "| pick | verdict | score | views | product | p | verdict after last view, ms "
        "| both answers, ms | per stage, ms (defects; identification) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        times = "; ".join(
            ", ".join(f"{s} {r.stages_ms[n][s]:.1f}" for s in STAGES if s in r.stages_ms[n])
            for n in nodes
            if n in r.stages_ms
        )
        out.append(
            f"| {r.pick_id} | {r.verdict} | {r.score:.2f} | {len(r.views)} of {expected} "
            f"| {r.product or '-'} | {r.probability:.2f} | {ms_text(r.latency_ms)} "
            f"| {ms_text(r.event_ms)} | {times} |"
        )
    return "\n".join(out)


def write(
    out: Path, rows: Sequence[Row], text: str, *, bundle: str, trained: bool | None, expected: int
) -> None:
    """Write `report.md` and `report.json` into a folder.

    Args:
        out: the folder.
        rows: one per pick.
        text: their table.
        bundle: its name and digest, from /diagnostics.
        trained: None if no node told.
        expected: views that a pick should have.
    """
    mark = "" if trained else " UNTRAINED: random weights, results mean nothing."
    (out / MARKDOWN).write_text(f"Bundle {bundle}.{mark}\n\n{text}\n", encoding="utf-8")
    picks = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()}
        for r in rows
    ]
    card = {"bundle": bundle, "trained": trained, "views_expected": expected, "picks": picks}
    (out / JSON).write_text(json.dumps(card, indent=1, allow_nan=False), encoding="utf-8")


def ms_text(value: float) -> str:
    """Milliseconds for people; "-" if they are not known."""
    return "-" if math.isnan(value) else f"{value:.0f}"
