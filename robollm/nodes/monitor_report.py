"""What the monitor heard about each pick: rows, a table of them, and the files it leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

JSON, MARKDOWN = "report.json", "report.md"
TOTES, TOTAL = "segmentation_node", "total"
COLUMNS = {
    TOTES: "tote image",
    "defect_node": "verdict",
    "identification_node": "product",
}
FIRST = ("decode", "preprocess", "backbone", "proposals", "rois", "masks", "pool", "heads",
         "search", "elsewhere")  # fmt: skip
LAST = ("publish", TOTAL)  # stages that nobody here knows come before these
Spread = Sequence[float]
"""(p50, p95)."""


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
            ", ".join(f"{s} {r.stages_ms[n][s]:.1f}" for s in in_order(r.stages_ms[n]))
            for n in nodes
            if n in r.stages_ms
        )
        out.append(
            f"| {r.pick_id} | {r.verdict} | {r.score:.2f} | {len(r.views)} of {expected} "
            f"| {r.product or '-'} | {r.probability:.2f} | {ms_text(r.latency_ms)} "
            f"| {ms_text(r.event_ms)} | {times} |"
        )
    return "\n".join(out)


def in_order(names: Iterable[str]) -> list[str]:
    """Stages in the order in which they run; those that nobody here knows before the last ones."""
    given = set(names)
    unknown = sorted(given - {*FIRST, *LAST})
    return [s for s in (*FIRST, *unknown, *LAST) if s in given]


def stages(
    rows: Sequence[Row], nodes: Sequence[str], totes: Mapping[str, Spread]
) -> dict[str, dict[str, Spread]]:
    """Node -> stage -> (p50, p95), ms, over the run.

    Args:
        rows: one per pick; those without times are left out.
        nodes: that answer picks.
        totes: the same for tote images, as their node told.
    """
    found: dict[str, dict[str, Spread]] = {TOTES: dict(totes)}
    for node in nodes:
        values: dict[str, list[float]] = {}
        for times in (r.stages_ms[node] for r in rows if node in r.stages_ms):
            for stage, ms in {**times, TOTAL: sum(times.values())}.items():
                values.setdefault(stage, []).append(ms)
        found[node] = {
            stage: tuple(float(v) for v in np.percentile(ms, (50, 95)))
            for stage, ms in values.items()
        }
    return found


def stage_table(found: Mapping[str, Mapping[str, Spread]]) -> str:
    """A Markdown table of `stages` whose columns stand under each other, and what it means."""

    def cell(node: str, stage: str) -> str:
        told = found.get(node, {}).get(stage)
        return "-" if told is None else f"{told[0]:.1f} ({told[1]:.1f})"

    names = in_order(stage for times in found.values() for stage in times)
    lines = [("stage, ms", *COLUMNS.values())]
    lines += [(stage, *(cell(node, stage) for node in COLUMNS)) for stage in names]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * w for w in widths))
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
            for line in lines]  # fmt: skip
    return "\n".join(
        [
            *text,
            "",
            "p50 (p95) of each stage in its node. The three nodes share processor and backbone, so "
            "a stage",
            "may wait for another node's; verdict and product are made at the same time.",
        ]
    )


def write(
    out: Path,
    rows: Sequence[Row],
    text: str,
    found: Mapping[str, Mapping[str, Spread]],
    *,
    bundle: str,
    trained: bool | None,
    expected: int,
) -> None:
    """Write `report.md` and `report.json` into a folder.

    Args:
        out: the folder.
        rows: one per pick.
        text: their table.
        found: see `stages`.
        bundle: its name and digest, from /diagnostics.
        trained: None if no node told.
        expected: views that a pick should have.
    """
    mark = "" if trained else " UNTRAINED: random weights, results mean nothing."
    (out / MARKDOWN).write_text(
        f"Bundle {bundle}.{mark}\n\n{text}\n\n{stage_table(found)}\n", encoding="utf-8"
    )
    picks = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()}
        for r in rows
    ]
    card = {
        "bundle": bundle,
        "trained": trained,
        "views_expected": expected,
        "stages_ms": found,
        "picks": picks,
    }
    (out / JSON).write_text(json.dumps(card, indent=1, allow_nan=False), encoding="utf-8")


def ms_text(value: float) -> str:
    """Milliseconds for people; "-" if they are not known."""
    return "-" if math.isnan(value) else f"{value:.0f}"
