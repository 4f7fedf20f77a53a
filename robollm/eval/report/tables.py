"""The thesis' tables 8.1 to 8.3 with our column filled in, and each section's own figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from robollm.eval.report import published
from robollm.eval.report.grid import Column, Grid, Row, Value, measured, number, plural

if TYPE_CHECKING:
    from robollm.eval.figures import Metrics, Section
    from robollm.metrics.bootstrap import Interval

Sections = Sequence["Section"]
Cells = Callable[[Sections], list[Value]]


def _printed(models: Sequence[published.Model]) -> list[Column]:
    return [Column(m.name, f"published {m.source}", "published") for m in models]


def _printed_notes(models: Sequence[published.Model]) -> list[str]:
    return [f"{m.name} {m.source}: {m.note}" for m in models if m.note]


def _figure(sections: Sections, task: str, name: str, subset: str | None = None) -> Interval | None:
    """A figure of the first section of a task (and subset) that has it."""
    fitting = (s for s in sections if s.task == task and subset in (None, s.subset))
    return next((s.figures[name] for s in fitting if name in s.figures), None)


def _about(ours: str, sections: Sections) -> list[str]:
    """How the sections were counted, and how many samples of what they rest on."""
    return [
        f"{ours}, {s.subset or s.task}, {s.split}: {plural(s.samples, 'sample')}, intervals over "
        f"{plural(s.units, s.unit)}. {s.protocol}"
        for s in sections
    ]


def _with_baselines(
    metrics: Metrics, task: str, name: str, subset: str | None, digits: int, scale: float
) -> list[Value]:
    """The same figure of every baseline that can do the task."""
    return [
        measured(_figure(sections, task, name, subset), digits, scale)
        for sections in _doing(metrics, task).values()
    ]


def _doing(metrics: Metrics, task: str) -> dict[str, Sections]:
    return {n: ss for n, ss in metrics.baselines.items() if any(s.task == task for s in ss)}


def _baseline_columns(metrics: Metrics, task: str, note: str) -> list[Column]:
    return [Column(name, note, "baseline") for name in _doing(metrics, task)]


def _without_empty_columns(
    name: str,
    title: str,
    caption: tuple[str, ...],
    columns: tuple[Column, ...],
    rows: tuple[Row, ...],
) -> Grid:
    """A grid without columns of ours that have no figure: a bundle can't do every protocol."""
    filled = [
        i
        for i, column in enumerate(columns)
        if column.kind == "published" or any(row.values[i] != Value() for row in rows)
    ]
    kept = [Row(r.group, r.label, tuple(r.values[i] for i in filled)) for r in rows]
    return Grid(name, title, caption, tuple(columns[i] for i in filled), tuple(kept))


def table_8_1(metrics: Metrics, ours: str, conditions: str) -> Grid | None:
    """Segmentation: mask mAP50 and mAP75 of every subset; None if none was scored."""
    of_task = {s.subset: s for s in metrics.sections if s.task == "segmentation"}
    sections = [of_task[subset] for subset in published.in_order(list(of_task))]
    if not sections:
        return None
    models = published.TABLE_8_1
    protocols = (
        ("two_class", "mean of Tote and Object, as [1]"),
        ("class_agnostic", "one class, as [2]"),
        ("object_only", "Object alone"),
    )
    columns = [
        *_printed(models),
        *(Column(ours, f"{name}: {note}", "ours") for name, note in protocols),
        *_baseline_columns(metrics, "segmentation", "class_agnostic"),
    ]
    rows = []
    for subset, said in published.SUBSETS.items():
        if all(s.subset != subset for s in sections):
            continue
        for iou in (50, 75):
            names = [f"{p}_mask_mAP{iou}" for p, _ in protocols]
            values = [
                *(Value(number(m.get(f"{subset}/mAP{iou}"), 2)) for m in models),
                *(measured(_figure(sections, "segmentation", n, subset)) for n in names),
                *_with_baselines(metrics, "segmentation", names[1], subset, 3, 1.0),
            ]
            rows.append(Row(said, f"mAP{iou}", tuple(values)))
    if not rows:
        return None
    absent = [
        said for name, said in published.SUBSETS.items() if said not in {r.group for r in rows}
    ]
    return _without_empty_columns(
        "table-8-1",
        "Table 8.1 · Segmentation: mask mAP",
        (
            *_printed_notes(models),
            "DINO: no figure is published. Both models were trained on the mixed totes alone; the "
            "other two subsets are zero-shot transfer.",
            *_about(ours, sections),
            *([f"Not in this run: {', '.join(absent)}."] if absent else []),
            conditions,
        ),
        tuple(columns),
        tuple(rows),
    )


def table_8_2(metrics: Metrics, ours: str, conditions: str) -> Grid | None:
    """Identification: recall@1, @2, @3 in the container and in all references; None: not scored."""
    sections = [s for s in metrics.sections if s.task == "identification"]
    if not sections:
        return None
    models, crop = published.TABLE_8_2, sections[0].crop
    words = {"": "", "image": "; whole pictures"}.get(crop, f"; crop {crop}")
    other = (
        f"{ours}, and the baselines beside: pictures are cropped ({crop}: the test set's annotated "
        "outline and 5 % around it). [1] and [2] embed whole pictures: columns differ in more than "
        "the model."
    )
    kinds = (
        ("product", "", "product, views fused"),
        ("product", "max", "product, nearest view, as [1]"),
        ("image", "", "image, views fused, as [2]"),
    )
    columns = [
        *_printed(models),
        *(Column(ours, f"{note}{words}", "ours") for _, _, note in kinds),
        Column("chance", "at random", "baseline"),
        *_baseline_columns(metrics, "identification", "product"),
    ]
    rows = []
    for gallery, where in (("container", "Container"), ("all", "All references")):
        for views, said in (("n1", "N=1"), ("n3", "N=3")):
            for k in (1, 2, 3):
                values = [Value(number(m.get(f"{gallery}/{views}/{k}"), 1)) for m in models]
                stem = f"recall@{k}_{gallery}"
                for protocol, fusion, _ in kinds:
                    # One view is its own nearest.
                    name = f"{stem}_{protocol}_{views}{fusion if views == 'n3' else ''}"
                    values.append(measured(_figure(sections, "identification", name), 1, 100))
                chance = f"chance@{k}_container" if gallery == "container" else ""
                values.append(measured(_figure(sections, "identification", chance), 1, 100))
                name = f"{stem}_product_{views}"
                values += _with_baselines(metrics, "identification", name, None, 1, 100)
                rows.append(Row(f"{where}, {said}", f"recall@{k}", tuple(values)))
    return _without_empty_columns(
        "table-8-2",
        "Table 8.2 · Identification: recall@k, %",
        (
            "N=1: the picture before the pick. N=3: with two views after it, fused by the bundle "
            "or by the nearest view. product: the first k unique products count; image: the first "
            "k reference images. A pick whose product, or whose whole manifest, has no reference "
            "counts as wrong.",
            *([other] if crop not in ("", published.CROP_8_2) else []),
            *_printed_notes(models),
            *_about(ours, sections),
            conditions,
        ),
        tuple(columns),
        tuple(rows),
    )


def table_8_3(metrics: Metrics, ours: str, conditions: str) -> Grid | None:
    """Defects: precision, recall and FPR by argmax; None if they were not scored."""
    sections = [s for s in metrics.sections if s.task == "defects"]
    if not sections:
        return None
    models = published.TABLE_8_3
    columns = [
        *_printed(models),
        Column(ours, "per image, as published", "ours"),
        Column(ours, "per induct: any image", "ours"),
        *_baseline_columns(metrics, "defects", "per image"),
    ]
    words = {"multi_pick": "Multi-pick", "package_defect": "Package defect"}
    rows = []
    for defect in ("multi_pick", "package_defect", "combined"):
        for figure in ("precision", "recall", "fpr"):
            values = [
                *(Value(number(m.get(f"{defect}/{figure}"), 2)) for m in models),
                *(
                    measured(_figure(sections, "defects", f"{per}_{defect}_{figure}"))
                    for per in ("image", "induct")
                ),
                *_with_baselines(metrics, "defects", f"image_{defect}_{figure}", None, 3, 1.0),
            ]
            said = figure.upper() if figure == "fpr" else figure.capitalize()
            rows.append(Row(words.get(defect, "Combined"), said, tuple(values)))
    return _without_empty_columns(
        "table-8-3",
        "Table 8.3 · Defects: argmax over three classes",
        (
            f"Combined: any defect against nominal. {published.DEFECT_GOAL}",
            "DINO: no figure is published.",
            *_printed_notes(models),
            *_about(ours, sections),
            conditions,
        ),
        tuple(columns),
        tuple(rows),
    )


_LATENCY = re.compile(r"_ms$|^latency|_s$|_frames$")


def digits_of(name: str) -> int:
    """How many decimals a figure deserves: times and frames one, shares three."""
    return 1 if _LATENCY.search(name) else 3


def section_grid(section: Section, metrics: Metrics, ours: str) -> Grid:
    """All figures of one section, baselines beside."""
    beside = {
        name: found
        for name, sections in metrics.baselines.items()
        if (found := [s for s in sections if s.name == section.name])
    }
    rows = []
    for name, figure in section.figures.items():
        digits = digits_of(name)
        values = [measured(figure, digits), Value(f"{figure.cases:,}")]
        values += [measured(ss[0].figures.get(name), digits) for ss in beside.values()]
        rows.append(Row("", name, tuple(values)))
    return Grid(
        f"figures-{section.name.replace('/', '-')}",
        "All figures",
        (section.protocol,),
        (
            Column(ours, "value, interval", "ours"),
            Column("cases", section.unit, "ours"),
            *(Column(name, "same samples", "baseline") for name in beside),
        ),
        tuple(rows),
    )
