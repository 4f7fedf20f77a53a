"""The rows about the whole job against torch eager."""

from __future__ import annotations

import re
from collections.abc import Callable

from results_row import Card, Row, busy, case, cpu, run_of, runs, seconds, times

MORE = "docs/performance.md"
RUN = "--run RUN --bundle B --data D"
BOUND = "in brackets: if MMDetection's RoIAlign and NMS took no time"
FEW = re.compile(r"(\d+) proposals")
TOTE = (
    "tote to masks, 10 crops embedded and inspected, against the same weights in torch eager; the "
    "search that names an embedding is measured apart, below"
)


def end_to_end(name: str) -> Callable[[Card], str]:
    """Ratios of one case against torch eager."""

    def text(card: Card) -> str:
        rows = case(card, name)["rows"]
        base = rows[card["reference"]]
        few = [n for n in rows if not n.startswith("torch")]
        return (
            f"torch eager {seconds(base['p50_ms'])} (its bf16 autocast x "
            f"{rows['torch bf16 autocast']['ratio']:g}); {times(rows, few)}"
        )

    return text


def end_to_end_conditions(name: str) -> Callable[[Card], str]:
    """Model, machine, that the reference is equal, and what fewer proposals cost."""

    def text(card: Card) -> str:
        found = case(card, name)
        m, equal = found["model"], found["equal"]
        return (
            f"{m['weights']} weights, {m['encoder']}, tote {m['tote']}, crops {m['crop']}, "
            f"{m['proposals']} proposals unless said; {costs(card, name)}; {BOUND}; fp32 equals "
            f"torch: boxes to {equal['max_box_px']:g} px, scores to {equal['max_score']:g}; "
            f"{runs(found['rows'][card['reference']])}; {cpu(card, name)}{busy(found)}"
        )

    return text


def costs(card: Card, name: str) -> str:
    """What fewer proposals and features once cost, as `bench/rois.py` found."""
    link = "[rois.json](results/rois.json)"
    numbers = sorted({n for row in card["cases"][name]["rows"] for n in FEW.findall(row)}, key=int)
    few = f"{' and '.join(numbers)} proposals and features once"
    if card["cases"][name]["model"]["weights"] != "trained":
        return f"what {few} cost can't be told of random weights: {link} is of a trained model"
    found = card.get("rois", {}).get("cases", {})
    by_number = found.get("proposals", {}).get("rows", {})
    cost = [f"{n} proposals {by_number[n]['points_lost']:.1f} points of mask mAP50"
            for n in numbers if n in by_number]  # fmt: skip
    if ways := found.get("crops or tote", {}).get("rows"):
        a, b = (ways[how]["recall@1_container"] for how in ("crops", "tote"))
        cost.append(f"features once {100 * (a - b):.1f} points of recall@1")
    if not cost:
        return f"what {few} cost: not measured"
    run = run_of(card["rois"], next(iter(found)))
    other = "" if run["model"] == card["cases"][name]["model"] else ", another model"
    return f"cost of {', '.join(cost)} ({run['place']}, {link}{other})"


ROWS = (
    Row(
        TOTE,
        end_to_end("trained"),
        end_to_end_conditions("trained"),
        f"python bench/end_to_end.py {RUN}",
        "end_to_end",
        f"[how]({MORE})",
        case="trained",
        beside="rois",
    ),
    Row(
        "the same, BEiT-3 Base with the official heads",
        end_to_end("base 640"),
        end_to_end_conditions("base 640"),
        "python bench/end_to_end.py",
        "end_to_end",
        case="base 640",
    ),
)
