"""The rows about the offline evaluation."""

from __future__ import annotations

from results_row import Card, Row, busy, case, cpu, run_of

NAMES = {"folders": "folders", "bag": "bag", "ros": "ROS"}


def same_numbers(card: Card) -> str:
    """Answers that differ, and two figures of each way."""
    rows = {words: case(card, name, "picks") for name, words in NAMES.items()}
    values = (
        f"{words} {r['values']['recall@1_published']:.4f} and "
        f"{r['values']['verdict_combined_fpr']:.4f}"
        for words, r in rows.items()
    )
    differs = sum(r["differs"] + r["figures_differ"] for r in rows.values())
    seen = rows["bag"]
    return (
        f"recall@1 and the verdicts' FPR: {', '.join(values)}; {differs} of {seen['picks']} "
        f"answers and {seen['figures']} figures differ, to the last bit"
    )


def speed(card: Card) -> str:
    """Pictures a second, cores, memory."""
    parts = []
    for name, words in NAMES.items():
        r = case(card, name, "picks")
        memory = r["memory_mib"]
        parts.append(
            f"{words} {r['pictures_per_second']:g} pictures/s of the whole command "
            f"(steady: {r['steady_pictures_per_second']:g}, on {r['cores_busy']:g} cores), "
            f"{memory[1]} MiB after 20 % and {memory[8]} after 90 %"
        )
    again = case(card, "resume", "picks")
    parts.append("steady is between the first and the last tenth of the picks")
    return (
        f"{'; '.join(parts)}; killed at {again['picks_kept']} picks and begun again: "
        f"{again['differs']} answers differ"
    )


def conditions(card: Card) -> str:
    """Data, bundle and machine."""
    found = case(card, "folders", "picks")
    run = run_of(card, "folders")
    data = "drawn pictures" if run["drawn"] else "simulated picks"
    bundle, about = run["bundle"], found["data"]
    return (
        f"{found['picks']} {data}, {found['pictures']} pictures, bundle {bundle['name']} "
        f"{bundle['version']} ({bundle['sha256'][:12]}), {found['precision']}; data "
        f"{about['name']}, digest {about['digest'][:12]}; a bag of {run['bag_seconds']:.0f} s; "
        f"memory without shared pages; {cpu(card, *NAMES)}{busy(found)}"
    )


ENDS = (
    ("masks of objects, mixed totes, mAP50", "segmentation/mix-object-tote/object_only_mask_mAP50"),
    ("recall@1 in the container", "identification/recall@1_container_product_n1"),
    ("multi-pick, AUC", "defects/image_multi_pick_auc"),
    ("package defect, AUC", "defects/image_package_defect_auc"),
)
"""Figures of which random weights are shown, in words and by their names."""


def both_ends(card: Card) -> str:
    """How perfect the oracle is, and what random weights get."""
    oracle, sketch = (case(card, name, "shown") for name in ("oracle", "sketch"))
    shown = "; ".join(
        f"{words} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for words, name in ENDS
        for one in [sketch["shown"][name]]
    )
    guess = sketch["shown"]["identification/chance@1_container"]["value"]
    return (
        f"an oracle that reads the truth: {oracle['perfect']} of {oracle['figures']} figures "
        f"exactly perfect; random weights: {shown} (guessing: {guess:.3f})"
    )


def ends_conditions(card: Card) -> str:
    """How many samples."""
    n = case(card, "sketch", "shown")["samples"]
    return (
        f"simulated test set, {n['segmentation/mix-object-tote']} mixed totes, "
        f"{n['identification']} picks, {n['defects']} defect images; sketch bundle; 95 % limits; "
        "a random encoder still tells colours apart, so its recall is above guessing"
    )


COMMAND = "python bench/evaluation.py --data D --bundle B"
ROWS = (
    Row(
        "the same picks from folders, from a bag, and through ROS",
        same_numbers,
        conditions,
        COMMAND,
        "evaluation",
        "[how](docs/evaluation.md)",
        "folders",
    ),
    Row(
        "the same: speed, memory, a killed run",
        speed,
        lambda c: cpu(c, *NAMES, "resume"),
        COMMAND,
        "evaluation",
        case="resume",
    ),
    Row(
        "both ends of the figures: everything right, and nothing learned",
        both_ends,
        ends_conditions,
        "python bench/both_ends.py --data D",
        "both_ends",
        case="sketch",
    ),
)
