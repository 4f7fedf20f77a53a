"""What bench/gallery.py prints and draws."""

from __future__ import annotations

from typing import Any

import kit


def plot(cases: dict[str, Any], names: list[str]) -> Any:
    """Cost of a query as the gallery grows."""

    def paint(plt: Any) -> None:
        shown = [c for c in cases.values() if c.get("references_each") == 1]
        axes = plt.gcf().subplots(1, 2, sharey=True)
        for ax, task in zip(axes, ("whole", "container of 50"), strict=True):
            for at, name in enumerate(names):
                points = [
                    (c["products"], c["tasks"][task][name]["p50_ms"])
                    for c in shown
                    if name in c["tasks"].get(task, {})
                ]
                if points:
                    style = "o-" if name.startswith("ours") else "x--"
                    line = zip(*sorted(points), strict=True)
                    ax.plot(*line, style, color=f"C{at}", label=name)  # one colour in both
            ax.set(xscale="log", yscale="log", xlabel="products in the gallery")
            ax.set_title({"whole": "whole gallery"}.get(task, task))
            ax.grid(alpha=0.3)
        axes[0].set_ylabel("one query, ms (p50)")
        axes[0].legend(fontsize=8)

    return paint


def show(name: str, case: dict[str, Any]) -> None:
    """Print a case."""
    print(f"\n== {name}")
    if "tasks" not in case:
        print(case.get("refused", ""))
        return
    columns = ("build_s", "disk_mib", "open_cold_s", "open_warm_s", "rss_mib", "rss_mib_own",
               "recall@1_exact", "recall@1_truth")  # fmt: skip
    kit.print_rows(case["engines"], columns)
    for task, rows in case["tasks"].items():
        print(f"\n{task}")
        kit.print_rows(rows, ("p50_ms", "p95_ms", "cpu_ms", "ratio", "cpu_ratio", "first_ms"))
    print("\nchanges")
    kit.print_rows(
        {k: v for k, v in case["changes"].items() if isinstance(v, dict)},
        ("p50_ms", "p95_ms", "changes_per_s"),
    )
    print(f"our exact search against faiss flat: {case['equal']}")
    print(f"left out: {case['refused']}")
