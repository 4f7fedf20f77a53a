"""What the gate's tools write for people: its table, and the README of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gate_accepted import Floors

from robollm.eval.compare import Comparison
from robollm.eval.gate import GAIN, REGRESSION, SAME, UNKNOWN

WORDS = {REGRESSION: "WORSE", GAIN: "better", SAME: "same", UNKNOWN: "can't tell"}


def readme(card: Mapping[str, Any]) -> str:
    """README.md of the gate's data, out of its card."""
    options, counts = card["gate"]["options"], card["gate"]["counts"]
    given = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
    rows = [
        f"| {part} | {', '.join(f'{n} {what}' for what, n in row.items())} |"
        for part, row in counts.items()
    ]
    return "\n".join([
        "# The regression gate's fixed test set",
        "",
        "A part of the test split of a simulated dataset, in ARMBench's layout, with smaller "
        "pictures. No photographs, no people, no brands. Never train on it, and don't edit it: "
        "`make gate` compares its digest with the accepted one. What it is for: `docs/gate.md`.",
        "",
        "Made by",
        "",
        f"    python tools/gate_data.py --data D --out gate/data {given}",
        "",
        "where D was made by",
        "",
        f"    {card['source']['command']}",
        "",
        f"(robollm {card['source']['robollm']}, catalogue {card['source']['catalogue_version']}). "
        "Sides are px, of the longer side. The same D and the same OpenCV give the same bytes.",
        "",
        "| part | what |",
        "|---|---|",
        *rows,
        "",
        "Other than in D: masks follow the smaller picture, instances that shrink below 12 px are "
        "left out, outlines of held objects have fewer points (within 1 px), containers keep "
        "titles only, `test-rle.json` is left out (the polygons are exact). `truth.jsonl` tells "
        "what each view shows; pictures of an induct that is also a pick are the same bytes.",
        "",
        "Licence: Apache-2.0, as all of robollm.",
        "",
    ])  # fmt: skip


def table(found: Comparison, floors: Floors) -> str:
    """The figures that decide: metric, baseline, now, difference, noise, verdict.

    Args:
        found: the comparison.
        floors: of the baseline.
    """
    rows = [("metric", "baseline", "now", "difference", "noise (95 %)", "verdict")]
    for one in found.changes:
        if not one.decides:
            continue
        d = one.difference
        floor = floors.get((one.section, one.figure))
        verdict = WORDS[one.verdict]
        if floor is not None and floor.broken(one.figure, d.b):
            verdict += f", BEYOND ITS LIMIT {floor.limit:.4f}"
        rows.append((
            f"{one.section} {one.figure}", f"{d.a:.4f}", f"{d.b:.4f}", f"{d.delta:+.4f}",
            f"{d.low:+.4f} to {d.high:+.4f}", verdict,
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
