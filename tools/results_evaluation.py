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
    bundle, about = run["bundle"], found.get("data", {})
    if not isinstance(bundle, str):  # older files have the folder's name alone
        bundle = f"{bundle['name']} {bundle['version']} ({bundle['sha256'][:12]})"
    named = f"data {about['name']}, digest {about['digest'][:12]}; " if about else ""
    bag = f"a bag of {run['bag_seconds']:.0f} s; " if "bag_seconds" in run else ""
    return (
        f"{found['picks']} {data}, {found['pictures']} pictures, bundle {bundle}, "
        f"{found['precision']}; {named}{bag}"
        f"memory without shared pages; {cpu(card, *NAMES)}{busy(found)}"
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
)
