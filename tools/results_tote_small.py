"""Write the default bundle's numbers into README.md and docs/tote-small.md, none by hand.

`python tools/results_tote_small.py` makes them of results/tote_small.json, which
`bench/tote_small.py` writes, and puts them between two marks in each file; `--check` says whether
they are up to date, and a test of the house asks. What was not measured says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from results_row import Card
from results_tote_small_figures import (
    CHANCE,
    COLOURS,
    LIMITS,
    NOT_MEASURED,
    PICKS,
    Goal,
    cell,
    goal_words,
    numbers,
    rows_of,
)
from results_tote_small_tables import document

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- made by tools/results_tote_small.py from results/tote_small.json -->"
END = "<!-- end of what tools/results_tote_small.py made -->"
CURVES = "models/tote-small/card/learning_curves.png"
HEADLINES: tuple[tuple[str, str, str, str], ...] = (
    ("masks of objects, mixed totes: mAP50", "mix", "object_only_mask_mAP50", CHANCE),
    ("the same, up to 5 objects", "mix", "object_only_mask_mAP50_1-5", CHANCE),
    ("the same, 13 and more", "mix", "object_only_mask_mAP50_13+", CHANCE),
    ("mixed totes, only objects of which 20 % or more shows", "visible", "object_only_mask_mAP50",
     ""),
    ("zoomed-out totes (never in training)", "zoomed", "object_only_mask_mAP50", CHANCE),
    ("totes of one product", "same", "object_only_mask_mAP50", CHANCE),
    ("product in its container: recall@1, one view", "ids", "recall@1_container_product_n1",
     COLOURS),
    ("the same, three views", "ids", "recall@1_container_product_n3", COLOURS),
    ("among all test products: recall@1, one view", "ids", "recall@1_all_product_n1", COLOURS),
    ("the same, three views", "ids", "recall@1_all_product_n3", COLOURS),
    ("strangers rejected at 5 % false rejects, three views", "ids",
     "unknown_rejected_at_fr0.05_n3", COLOURS),
    ("multi-pick, per induct: recall at FPR .05", "defects", "verdict_multi_pick_recall@fpr0.05",
     COLOURS),
    ("package defect, per induct: recall at FPR .05", "defects",
     "verdict_package_defect_recall@fpr0.05", COLOURS),
    ("any defect, verdicts at the bundle's thresholds: recall", "defects",
     "verdict_combined_recall", ""),
    ("the same: FPR", "defects", "verdict_combined_fpr", ""),
)  # fmt: skip
"""What it says, part, figure, baseline beside it."""


def table(card: Card) -> str:
    """The README's table in Markdown, between its marks."""
    if not card.get("sets"):
        how = "[how](docs/tote-small.md)"
        return "\n".join([BEGIN, f"`models/tote-small`: {NOT_MEASURED} yet ({how}).", END])
    head = ("`models/tote-small`, on products that training never saw", "OpenGL test set",
            "Cycles test set", "baseline", "goal")  # fmt: skip
    rows = []
    for what, part, figure, baseline in HEADLINES:
        goal = Goal.of(part, figure)
        # baselines have no thresholds, hence no verdicts: each image for itself, the highest counts
        theirs = figure.replace("verdict_", "induct_")
        beside = numbers(card, f"gl/{baseline}", part, theirs) if baseline else None
        rows.append(
            (
                what,
                cell(card, "gl", part, figure),
                cell(card, "cycles", part, figure),
                f"{beside[0]:.3f} ({baseline})" if beside and beside[0] is not None else "–",
                goal_words(goal, numbers(card, "gl", part, figure)) if goal else "",
            )
        )
    rows.append(("`make demo`, a pick event, median and worst, ms", *demo_cells(card)))
    return "\n".join([BEGIN, *rows_of(head, rows), "", caption(card), END])


def demo_cells(card: Card) -> tuple[str, str, str, str]:
    """The time of a pick event, and its goal."""
    found = card.get("demo")
    said = f"{found['median_ms']:g}, {found['worst_ms']:g}" if found else NOT_MEASURED
    limit = LIMITS["demo_ms"]
    if not found:
        return said, "–", "–", f"≤ {limit:g}: {NOT_MEASURED}"
    met = "met" if found["worst_ms"] <= limit else "missed by some"
    if found["median_ms"] > limit:
        met = "missed"
    return said, "–", "–", f"≤ {limit:g}: {met}"


def caption(card: Card) -> str:
    """Conditions of all rows, and the command."""
    run = card["sets"]["gl"]["runs"]["default"]
    made = (
        f"`{card['command']}` ([json](results/tote_small.json), [all tables](docs/tote-small.md))"
    )
    counts = []
    for name, said in (("gl", "OpenGL"), ("cycles", "Cycles")):
        sections = card["sets"].get(name, {}).get("runs", {}).get("default", {}).get("sections", {})
        totes = sum(s["samples"] for n, s in sections.items() if n.startswith("segmentation/"))
        picks, inducts = sections.get("identification"), sections.get("defects")
        if sections:
            counts.append(
                f"{said}: {totes} totes, {picks['samples'] if picks else 0} picks of "
                f"{picks['units'] if picks else 0} products among "
                f"{picks['counts'].get('products_with_references', 0) if picks else 0}, "
                f"{inducts['units'] if inducts else 0} inducts"
            )
    sizes = run.get("manifests")
    held = ""
    if sizes:
        held = (
            f"; containers of {sizes['least']} to {sizes['most']} products, "
            f"median {sizes['median']:g}"
        )
    part = " **A quick look at some of the samples (--limit).**" if card.get("limit") else ""
    about, machine = run["predictor"], run["machine"]
    level = run["bootstrap"]["level"]
    return (
        f"{made}. Simulated test sets, {'; '.join(counts)}{held}. [{level:.0%} intervals] by "
        f"bootstrap over scenes, products, inducts. {about['bundle_name']} {about['version']} "
        f"({about['sha256'][:12]}), {about['precision']} on {about['provider']}, "
        f"{machine['cores']} cores of an {machine['cpu']}. Goals are for OpenGL. Times: the "
        f"demo's report, from the last view to both answers.{part}"
    ).replace("95% intervals", "95 % intervals")


def replaced(text: str, new: str, name: str) -> str:
    """A document with what is between its marks replaced.

    Raises:
        SystemExit: it hasn't got both marks, each once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise SystemExit(f"want the lines {BEGIN!r} and {END!r} in {name}, each once")
    return before + new + after


def made(card: Card, root: Path) -> dict[Path, str]:
    """File -> what is between its marks."""
    body = document(card, f"../{CURVES}" if (root / CURVES).is_file() else "")
    return {
        root / "README.md": table(card),
        root / "docs" / "tote-small.md": "\n".join([BEGIN, body, END]),
    }


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="of README.md, docs and results")
    args = parser.parse_args()
    results = args.root / "results" / "tote_small.json"
    card = json.loads(results.read_text()) if results.is_file() else {}
    stale = 0
    for path, new in made(card, args.root).items():
        old = path.read_text()
        text = replaced(old, new, path.name)
        if args.check and text != old:
            print(f"{path.name} is stale: python tools/results_tote_small.py", file=sys.stderr)
            stale = 1
        elif text != old:
            path.write_text(text)
    return stale


__all__ = ["BEGIN", "END", "HEADLINES", "PICKS", "made", "replaced", "table"]

if __name__ == "__main__":
    sys.exit(main())
