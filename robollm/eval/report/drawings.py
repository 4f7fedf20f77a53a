"""Which plots a section, and a task over its subsets, gets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robollm.eval.report import plots, published
from robollm.eval.report.plots import Dots

if TYPE_CHECKING:
    from robollm.eval.figures import Curve, Metrics, Section
    from robollm.metrics.bootstrap import Interval

MOST_LINES = 6
_LATENCY = "latency: "
_NONE = (math.nan, math.nan, math.nan)
_TITLES = {
    "roc": "ROC",
    "pr": "Precision and recall",
    "open-set": "Open set",
    "reliability": "Reliability",
}
_NOTES = {
    "open-set": "False accept: strangers that get a name. False reject: known products that don't "
    "get theirs.",
    "reliability": "Below the diagonal a score promises more than comes true.",
}
_LEVELS = ("image", "induct", "video")
"""What defects are counted by: lines of two levels are not drawn into one plot."""
_GROUP = re.compile(r"^(.*)[_-](\d+-\d+|\d+\+)$")


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plot.

    Attributes:
        title: above it.
        svg: the plot.
        note: below it: what one must know to read it.
        wide: takes two columns.
        folded: is not shown before one asks for it.
    """

    title: str
    svg: str
    note: str = ""
    wide: bool = False
    folded: bool = False


def task_drawings(task: str, metrics: Metrics) -> list[Drawing]:
    """Plots over all subsets of a task."""
    of_task = {s.subset: s for s in metrics.sections if s.task == task}
    sections = [of_task[subset] for subset in published.in_order(list(of_task))]
    if task != "segmentation" or not sections:
        return []
    return [_by_subset(sections)]


def section_drawings(section: Section, baselines: Mapping[str, Section]) -> list[Drawing]:
    """Plots of one section.

    Args:
        section: ours.
        baselines: name -> the same section of a baseline.
    """
    name = section.name.replace("/", "-")
    found = [*_by_group(section, baselines, name)]
    for i, lines in enumerate(_plots(section.curves)):
        title = _TITLES.get(lines[0].kind, lines[0].kind.capitalize())
        svg = plots.curves(f"{name}-curve{i}", lines)
        found.append(Drawing(title, svg, _NOTES.get(lines[0].kind, "")))
    for i, (label, bins) in enumerate(section.histograms.items()):
        if sum(bins.counts):
            said = label.replace("_", " ")
            marks = _percentiles(section, label)
            title = said[:1].upper() + said[1:]
            svg = plots.histogram(f"{name}-histogram{i}", bins, said, marks)
            stage = label.startswith(_LATENCY) and label != f"{_LATENCY}total"
            found.append(Drawing(title, svg, folded=stage))
    if section.embeddings is not None and section.embeddings.points:
        svg = plots.embedding(f"{name}-embedding", section.embeddings)
        note = (
            f"{section.embeddings.method}. Dot: a query that was right; cross: wrong; hollow "
            "square: a reference. In colour: the products with the most wrong queries. Distances "
            "in the plane are for looking at; no figure is made from them."
        )
        found.append(Drawing("Embeddings", svg, note, wide=True))
    return found


def _plots(curves: Mapping[str, Curve]) -> Iterator[list[Curve]]:
    """Curves that belong into one plot: of one kind and axes, at most `MOST_LINES`."""
    kinds: dict[tuple[str, ...], list[Curve]] = {}
    for curve in curves.values():
        if any(math.isfinite(y) for y in curve.y):
            word = curve.label.split(" ")[0]
            per = word if word in _LEVELS else ""
            kinds.setdefault((curve.kind, curve.x_label, curve.y_label, per), []).append(curve)
    for lines in kinds.values():
        count = math.ceil(len(lines) / MOST_LINES)
        size = math.ceil(len(lines) / count)  # 8 lines: 4 and 4
        for at in range(0, len(lines), size):
            yield lines[at : at + size]


def _limits(figure: Interval | None) -> tuple[float, float, float]:
    return _NONE if figure is None else (figure.value, figure.low, figure.high)


def _by_subset(sections: Sequence[Section]) -> Drawing:
    """Mask mAP50 of every subset by every protocol, beside what is published."""
    places = [published.SUBSETS.get(s.subset, s.subset) for s in sections]
    rows = [
        Dots(p, [_limits(s.figures.get(f"{p}_mask_mAP50")) for s in sections])
        for p in ("two_class", "class_agnostic", "object_only")
        if any(f"{p}_mask_mAP50" in s.figures for s in sections)
    ]
    for model in published.TABLE_8_1:
        values = [model.get(f"{s.subset}/mAP50") for s in sections]
        if any(v is not None for v in values):
            at = [(math.nan if v is None else v, math.nan, math.nan) for v in values]
            rows.append(Dots(f"{model.name} {model.source}", at, published=True))
    svg = plots.dots("segmentation-subsets", places, rows, x_label="", y_label="mask mAP50")
    note = "Hollow: published, on ARMBench. Bars: bootstrap intervals."
    return Drawing("mAP50 by subset", svg, note)


def _by_group(section: Section, baselines: Mapping[str, Section], name: str) -> Iterator[Drawing]:
    """Figures whose names end in a range, `recall_2-9`: the figures against that range.

    Figures with the same ranges share a plot; baselines are drawn for the first of them.
    """
    stems: dict[str, dict[str, str]] = {}
    for figure in section.figures:
        if found := _GROUP.match(figure):
            stems.setdefault(found[1], {})[found[2]] = figure
    shared: dict[tuple[str, ...], list[str]] = {}
    for stem, names in stems.items():
        if len(names) > 1:
            shared.setdefault(tuple(names), []).append(stem)
    for i, (ranges, alike) in enumerate(shared.items()):
        first, *_ = alike
        lines = [(stem, section.figures, stem) for stem in alike]
        lines += [(said, beside.figures, first) for said, beside in baselines.items()]
        values = [
            (label, {r: _limits(figures.get(stems[stem][r])) for r in ranges})
            for label, figures, stem in lines
        ]
        seen = [r for r in ranges if any(math.isfinite(row[r][0]) for _, row in values)]
        if not seen:
            continue
        title, x_label, y_label, note = _words_of_group(first, section.subset)
        rows = [
            Dots(label.removesuffix("_manifest"), [row[r] for r in seen])
            for label, row in values[:MOST_LINES]
            if any(math.isfinite(row[r][0]) for r in seen)
        ]
        apart = [r for r in seen if _across(r, ranges[: ranges.index(r)])]
        if apart:  # they are the last ones
            note += f"{' ' if note else ''}{', '.join(apart)}: across others, so it stands apart."
        svg = plots.dots(
            f"{name}-group{i}", seen, rows, x_label=x_label, y_label=y_label,
            joined=len(seen) - len(apart),
        )  # fmt: skip
        yield Drawing(title, svg, note)


def _across(one: str, others: Sequence[str]) -> bool:
    """Whether a range, "13-25" or "13+", has numbers of another one."""
    low, high = _ends(one)
    return any(low <= end and begin <= high for begin, end in map(_ends, others))


def _ends(text: str) -> tuple[float, float]:
    low, _, high = text.rstrip("+").partition("-")
    return float(low), float(high) if high else math.inf


def _words_of_group(stem: str, subset: str) -> tuple[str, str, str, str]:
    """Title, axes and note of a figure by range."""
    if stem.endswith("_manifest"):
        recall = stem.split("_")[0]
        return f"{recall} by products in the manifest", "products", recall, ""
    note = ""
    if subset == "mix-object-tote":
        few, many = published.FIGURE_8_5["under 5"], published.FIGURE_8_5["over 26"]
        note = (
            "As figure 8.5. Its text names, on ARMBench: "
            f"under 5 instances about {few['RoboLLM']:.2f} for both models; over 26, "
            f"RoboLLM {many['RoboLLM']:.2f} and ResNet50 {many['ResNet50']:.2f}."
        )
    return "mAP50 by instances per image", "instances per image", "mAP50", note


def _percentiles(section: Section, label: str) -> dict[str, float]:
    """p50, p95 and p99 of a latency, if they are among the figures."""
    stem = f"latency_{label.removeprefix(_LATENCY)}"
    values = {p: section.figures.get(f"{stem}_{p}") for p in ("p50", "p95", "p99")}
    return {p: v.value for p, v in values.items() if v is not None and math.isfinite(v.value)}
