"""Learning curves as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SKIPPED = ("step", "epoch")


def _family(key: str) -> str:
    """Which panel a value belongs to: losses, learning rate, validation metrics, the rest."""
    if key.startswith("val/"):
        return "validation"
    if "loss" in key:
        return "loss"
    return key


def draw_curves(
    path: Path, rows: Sequence[dict[str, Any]], title: str, validation: Sequence[str]
) -> None:
    """Draw every value of a run over its steps.

    Args:
        path: PNG to write; it appears complete.
        rows: as in metrics.jsonl; values that are None are gaps.
        title: of the picture.
        validation: which of the validation values, `val/...`; all others are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in rows:
        for key, value in row.items():
            hidden = key.startswith("val/") and key not in validation
            if key in _SKIPPED or hidden or value is None:
                continue
            xs, ys = series.setdefault(_family(key), {}).setdefault(key, ([], []))
            xs.append(row["step"])
            ys.append(float(value))
    if not series:
        return
    names = sorted(series, key=lambda n: (n != "validation", n != "loss", n))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(5 * columns, 3.4 * lines), layout="constrained")
    figure.suptitle(title)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(lines, columns, place)
        for key, (xs, ys) in sorted(series[name].items()):
            mark = "o" if len(xs) < 40 else ""
            axes.plot(xs, ys, marker=mark, markersize=3, linewidth=1.2,
                      label=key.removeprefix("val/"))  # fmt: skip
        alone = len(series[name]) == 1
        axes.set_title(next(iter(series[name])) if alone else name, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if not alone:
            axes.legend(fontsize=6, loc="best")
    part = path.with_name(f".{path.name}.tmp")
    FigureCanvasAgg(figure)
    figure.savefig(part, format="png", dpi=90)
    part.replace(path)
