"""The report's plots. Every function gives one SVG element as text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robollm.eval.report.ink import INK, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robollm.eval.figures import Curve, Embeddings, Histogram

MOST_POINTS = 240
"""Of a line: more than a screen shows, and a curve over 44,000 images would fill megabytes."""
LINES = tuple(INK[f"line{n}"] for n in range(6))
_MARKS = "osD^vP"
_STYLE: Any = {  # matplotlib types its keys one by one
    "text.parse_math": False,  # names are text: "$" is a dollar
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK["muted"],
    "axes.labelcolor": INK["text"],
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": INK["muted"],
    "ytick.color": INK["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.labelcolor": INK["text"],
    "ytick.labelcolor": INK["text"],
    "text.color": INK["text"],
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.5,
}


@dataclass(frozen=True, slots=True)
class Dots:
    """One row of values with intervals, over named places.

    Attributes:
        label: in the legend.
        values: (value, low, high) of each place; nan leaves it out. Limits may be nan.
        published: drawn as a hollow mark, without an interval.
    """

    label: str
    values: Sequence[tuple[float, float, float]]
    published: bool = False


def _begin(width: float = 4.6, height: float = 3.0) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _styled() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def _legend(figure: Figure, axes: Axes, columns: int = 3, least: int = 2) -> None:
    """Put the legend above, where it hides nothing; none for fewer than `least` entries."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) >= least:
        longest = max(map(len, labels))
        fit = max(1, min(columns, int(56 / (longest + 6))))
        figure.legend(handles, labels, loc="outside upper left", ncols=fit)


def thinned(curve: Curve) -> tuple[list[float], list[float]]:
    """At most `MOST_POINTS` of a curve's finite points, both ends kept; a line at one value too."""
    xy = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(x * y)]
    if len(xy) > MOST_POINTS:
        taken = np.unique(np.linspace(0, len(xy) - 1, MOST_POINTS).round().astype(int))
        xy = [xy[i] for i in taken]
    return [x for x, _ in xy], [y for _, y in xy]


def curves(name: str, lines: Sequence[Curve]) -> str:
    """Draw the lines of one kind into one plot: "roc", "pr", "open-set", "reliability", others.

    Args:
        name: see `to_svg`.
        lines: of the same kind and axes, at most six.
    """
    first = lines[0]
    with _styled():
        figure, axes = _begin()
        diagonal = first.kind in ("roc", "reliability")
        if diagonal:
            axes.plot([0, 1], [0, 1], color=INK["muted"], lw=0.8, ls=(0, (3, 3)))
        for line, colour in zip(lines, LINES, strict=False):
            x, y = thinned(line)
            dots = "o" if first.kind == "reliability" or len(x) == 1 else ""
            axes.plot(x, y, color=colour, label=line.label, marker=dots, ms=3.5)
        axes.set_xlabel(first.x_label)
        axes.set_ylabel(first.y_label)
        _unit_axes(axes, lines)
        _legend(figure, axes, 2)
        return to_svg(figure, name, f"{first.y_label} against {first.x_label}")


def _unit_axes(axes: Axes, lines: Sequence[Curve]) -> None:
    """Show 0 to 1 on an axis whose values are shares."""
    for values, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        seen = [v for line in lines for v in getattr(line, values) if math.isfinite(v)]
        if seen and min(seen) >= 0 and 0.2 < max(seen) <= 1:
            limit(-0.02, 1.02)


def dots(
    name: str,
    places: Sequence[str],
    rows: Sequence[Dots],
    *,
    x_label: str,
    y_label: str,
    joined: int = 0,
) -> str:
    """Draw values with intervals over named places, side by side.

    Args:
        name: see `to_svg`.
        places: names along the x axis.
        rows: each with one value per place, at most six.
        x_label: of the axis.
        y_label: of the axis; values are shares.
        joined: draw a line through the first so many places of each row: they are in an order.
    """
    with _styled():
        figure, axes = _begin()
        step = min(0.14, 0.6 / max(len(rows), 1))
        for i, row in enumerate(rows):
            at = np.arange(len(places)) + (i - (len(rows) - 1) / 2) * step
            v = np.array(row.values, np.float64).reshape(-1, 3)
            mark: Any = {
                "marker": _MARKS[i % 6],
                "ms": 5,
                "color": LINES[i % 6],
                "label": row.label,
            }
            if row.published:
                axes.plot(at, v[:, 0], ls="", markerfacecolor="none", **mark)
                continue
            spread = np.abs(v[:, 1:].T - v[:, 0])
            axes.errorbar(at, v[:, 0], np.nan_to_num(spread), ls="", elinewidth=1.2, capsize=2,
                          **mark)  # fmt: skip
            axes.plot(at[:joined], v[:joined, 0], color=mark["color"], lw=1)
        axes.set_xticks(range(len(places)), places)
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(figure, axes)
        return to_svg(figure, name, f"{y_label} by {x_label or 'subset'}")


def histogram(name: str, bins: Histogram, label: str, marks: Mapping[str, float]) -> str:
    """Draw counts between edges; `marks` are named places on the x axis, a percentile for one."""
    with _styled():
        figure, axes = _begin(4.6, 2.3)
        axes.stairs(bins.counts, bins.edges, fill=True, color=LINES[0], alpha=0.75)
        for value in marks.values():
            axes.axvline(value, color=INK["muted"], lw=1, ls=(0, (3, 2)))
        said = " · ".join(f"{name} {value:.3g}" for name, value in marks.items())
        axes.set_title(said, loc="left", fontsize=8)
        edges = np.array(bins.edges)
        if len(edges) > 3 and edges[0] > 0 and np.allclose(np.diff(np.log(edges), 2), 0, atol=1e-6):
            axes.set_xscale("log")  # the edges were made for it
        axes.set_xlabel(bins.unit)
        axes.set_ylabel("samples")
        axes.grid(visible=False, axis="x")
        return to_svg(figure, name, f"Histogram of {label}")


def embedding(name: str, space: Embeddings) -> str:
    """Draw queries and references in a plane; the products with the most wrong queries in colour.

    A dot is a query that was right, a cross one that was wrong, a hollow square a reference.
    """
    wrong = Counter(product for _, _, product, right in space.points if right is False)
    worst = sorted(wrong, key=lambda product: (-wrong[product], product))[: len(LINES)]
    colours = dict(zip(worst, LINES, strict=False))
    groups: dict[tuple[bool, bool | None, str], list[tuple[float, float]]] = {}
    for x, y, product, right in space.points:
        colour = colours.get(product, INK["muted"])
        groups.setdefault((product in colours, right, colour), []).append((x, y))
    with _styled():
        figure, axes = _begin(7.4, 5.0)
        for (chosen, right, colour), at in sorted(groups.items(), key=lambda g: g[0][0]):
            xs, ys = zip(*at, strict=True)
            mark = "s" if right is None else "o" if right else "x"
            face = "none" if right is None else colour
            axes.plot(xs, ys, mark, ms=5 if mark == "x" else 4, mew=1, color=colour, mfc=face,
                      alpha=1 if chosen else 0.45)  # fmt: skip
        for product, colour in colours.items():
            axes.plot([], [], "o", color=colour, ms=4, label=f"{product} ({wrong[product]} wrong)")
        axes.set_axis_off()
        _legend(figure, axes, least=1)
        return to_svg(figure, name, f"Embeddings in a plane, {space.method}")
