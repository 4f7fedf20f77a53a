"""The tables of docs/tote-small.md: the thesis' three, and what stands behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from results_row import Card
from results_tote_small_figures import (
    GOALS,
    LIMITS,
    NOT_MEASURED,
    NOTHING,
    PARTS,
    VISIBLE,
    cell,
    columns,
    gap_words,
    goal_words,
    measured,
    numbers,
    rows_of,
    text,
)

from robollm.eval.report import published

OTHER = "**another dataset: ARMBench photographs, not comparable**"
OURS = "simulated test sets"
SUBSETS = {"mix": "Mixed object tote", "zoomed": "Zoomed-out tote", "same": "Same object tote"}
FOLDERS = {short: PARTS[short].partition("/")[2] for short in SUBSETS}
DEFECTS = {"multi_pick": "Multi-pick", "package_defect": "Package defect", "combined": "Combined"}
SETS = {"gl": "OpenGL", "cycles": "Cycles"}

Models = Sequence[published.Model]


def document(card: Card, curves: str) -> str:
    """Everything between the marks.

    Args:
        card: of the results; {}: nothing was measured.
        curves: file of the learning curves beside the document; "": there is none.
    """
    if not card.get("sets"):
        return "Nothing was measured yet."
    parts = [
        *conditions(card), "", "## Goals", "", *goals(card), "",
        "## Table 8.1 · Segmentation: mask and box mAP, objects alone", "", *segmentation(card), "",
        "By objects in the picture (masks, mAP50, mixed totes; figure 8.5 of the thesis):", "",
        *by_objects(card), "",
        "## Table 8.2 · Identification: recall@k, %", "", *identification(card), "",
        "By size of the container (recall@1, %), and strangers:", "", *by_manifest(card), "",
        "## Table 8.3 · Defects: argmax over three classes, per image", "", *defects(card), "",
        "Per induct, and at the bundle's thresholds:", "", *per_induct(card), "",
        "## From OpenGL to Cycles", "", *gaps(card), "",
        "## Do scores hold", "", *calibration(card), "",
        "## Time", "", *times(card), "",
        "## Learning curves", "",
        f"![Validation figures by step]({curves})" if curves else "Not drawn yet.", "",
        "## Sources", "", *(f"- {one}" for one in published.SOURCES),
    ]  # fmt: skip
    return "\n".join(parts)


def conditions(card: Card) -> Iterator[str]:
    """What was measured on what."""
    for name, words in SETS.items():
        found = card["sets"].get(name)
        if not found:
            yield f"- {words} test set: {NOT_MEASURED}."
            continue
        data, run = found["data"], found["runs"]["default"]
        samples = ", ".join(f"{s} {n}" for s, n in data["samples"].items())
        made = f"; made by `{data['command']}`" if "command" in data else ""
        which = f"split {data['split']}, digest {data['digest'][:12]}"
        yield f"- {words} test set: {which}: {samples}{made}."
        if run["partial"]:
            yield f"  Partial: {'; '.join(run['partial'])}."
    run = card["sets"]["gl"]["runs"]["default"]
    about, machine, drawn = run["predictor"], run["machine"], run["bootstrap"]
    beside = "; fp32 beside it where a column says so" if measured(card, "gl/fp32") else ""
    yield (
        f"- Bundle {about['bundle_name']} {about['version']}, sha256 {about['sha256'][:12]}, "
        f"{about['precision']} on {about['provider']}{beside}."
    )
    yield (
        f"- [Intervals]: {100 * drawn['level']:g} %, {drawn['draws']} draws over scenes, products, "
        "inducts or picks; [how](evaluation.md#intervals-and-differences)."
    )
    yield (
        f"- Machine: {machine['cores']} cores of an {machine['cpu']}, {machine['system']}; "
        f"ONNX Runtime {run['versions']['onnxruntime']}, robollm {run['versions']['robollm']}."
    )
    for run_name, said in card["commands"].items():
        yield f"- {run_name}: `{said}`"


def goals(card: Card) -> Iterator[str]:
    """Each goal, what is reached, and whether that is enough."""
    rows = []
    for g in GOALS:
        row = numbers(card, "gl", g.part, g.figure)
        beside = gap_words(gap(card, g.part, g.figure)) if g.gap else ""
        ours = (cell(card, place, g.part, g.figure) for place in SETS)
        rows.append((g.what, *ours, goal_words(g, row), beside))
    head = ("what", "OpenGL", "Cycles", "goal (OpenGL)", "OpenGL - Cycles")
    yield from rows_of(head, rows)
    found = card.get("demo")
    yield ""
    if not found:
        yield f"`make demo`, goal ≤ {LIMITS['demo_ms']:g} ms per pick event: {NOT_MEASURED}."
        return
    met = "met" if found["median_ms"] <= LIMITS["demo_ms"] else "missed"
    yield (
        f"`make demo`, goal ≤ {LIMITS['demo_ms']:g} ms per pick event: median "
        f"{found['median_ms']:g} ms, worst {found['worst_ms']:g} ms of the {found['timed']} of "
        f"{found['picks']} picks all of whose views came: {met} by the median."
    )


def gap(card: Card, part: str, figure: str) -> Sequence[float | None] | None:
    """[GL - Cycles, low, high, p] of a figure."""
    row: Sequence[float | None] | None = card.get("gap", {}).get(PARTS[part], {}).get(figure)
    return row


def grouped(ours: Sequence[str], models: Models, rows: Sequence[Sequence[str]]) -> list[str]:
    """A table with two groups of columns: what is measured here, and what is printed elsewhere.

    Args:
        ours: heads of our columns.
        models: published ones.
        rows: two cells of words, then one of each column.
    """
    groups = ["", "", f"**{OURS}**", *[""] * (len(ours) - 1), OTHER, *[""] * (len(models) - 1)]
    heads = ["", "", *(f"**{o}**" for o in ours), *(f"*{m.name} {m.source}*" for m in models)]
    return rows_of(groups, [heads, *rows])


def printed(models: Models, row: str, digits: int) -> list[str]:
    """What the published ones have in a row."""
    found = [m.get(row) for m in models]
    return [NOTHING if v is None else f"*{v:.{digits}f}*" for v in found]


def notes(models: Models) -> list[str]:
    """What published numbers must not be read without."""
    return ["", *(f"- {m.name} {m.source}: {m.note}" for m in models if m.note)]


def segmentation(card: Card) -> Iterator[str]:
    """Table 8.1."""
    models, rows = published.TABLE_8_1, []
    places = columns(card, {
        "gl": "OpenGL", "gl/fp32": "OpenGL, fp32", "cycles": "Cycles",
        "gl/chance": "chance, OpenGL",
    })  # fmt: skip
    for part, words in SUBSETS.items():
        for kind in ("mask", "box"):
            for iou in ("50", "75", ""):
                name = f"object_only_{kind}_mAP{iou}"
                theirs = f"{FOLDERS[part]}/mAP{iou}" if kind == "mask" else ""
                cells = [cell(card, p, part, name) for p in places]
                rows.append((words, f"{kind} mAP{iou}", *cells, *printed(models, theirs, 2)))
    yield from grouped(list(places.values()), models, rows)
    yield from notes(models)
    yield "- Protocols differ, too: ours counts objects alone (object_only)."


def by_objects(card: Card) -> Iterator[str]:
    """Figure 8.5."""
    rows = []
    for group, words in (("1-5", "1 to 5"), ("6-12", "6 to 12"), ("13+", "13 and more")):
        name = f"object_only_mask_mAP50_{group}"
        found = numbers(card, "gl", "mix", name)
        pictures = f"{found[3]}" if found else NOTHING
        pairs = (cell(card, p, part, name) for part in ("mix", VISIBLE) for p in SETS)
        rows.append((words, pictures, *pairs))
    heads = [f"{words}{end}" for end in ("", ", visible") for words in SETS.values()]
    yield from rows_of(("objects", "scenes (OpenGL)", *heads), rows)
    yield ""
    yield "Visible: objects of which less than 20 % shows cost nothing, found or not."


def identification(card: Card) -> Iterator[str]:
    """Table 8.2."""
    models, rows = published.TABLE_8_2, []
    places = columns(card, {
        "gl": "OpenGL", "gl/fp32": "OpenGL, fp32", "cycles": "Cycles",
        "gl/colour-histogram": "colour histogram", "gl/thumbnail": "thumbnail",
    })  # fmt: skip
    for pool, where in (("container", "Container"), ("all", "All test products")):
        for views in ("n1", "n3"):
            for k in (1, 2, 3):
                name = f"recall@{k}_{pool}_product_{views}"
                cells = [cell(card, p, "ids", name, scale=100, digits=1) for p in places]
                luck = NOTHING
                if pool == "container":
                    luck = cell(card, "gl", "ids", f"chance@{k}_container", scale=100, digits=1)
                theirs = printed(models, f"{pool}/{views}/{k}", 1)
                group = f"{where}, N={views[1:]}"
                rows.append((group, f"recall@{k}", *cells, luck, *theirs))
    yield from grouped([*places.values(), "guessing"], models, rows)
    yield from notes(models)
    run = card.get("sets", {}).get("gl", {}).get("runs", {}).get("default", {})
    counts = run.get("sections", {}).get("identification", {}).get("counts", {})
    if counts:
        yield (
            f"- All test products: {counts['products_with_references']} with "
            f"{counts['reference_images']} reference images (published: 190,000 products)."
        )
    if views_joined := run.get("predictor", {}).get("fused_views"):
        yield f"- N=3: {', '.join(views_joined)}, joined by the bundle; N=1: PickRGB."


def by_manifest(card: Card) -> Iterator[str]:
    """Recall by size of the container, and the open set."""
    rows = []
    for size in ("2-9", "10-19", "20-49", "50+"):
        for views in ("n1", "n3"):
            name = f"recall@1_container_product_{views}_manifest-{size}"
            found = numbers(card, "gl", "ids", name)
            if found and found[0] is not None:
                cells = (cell(card, p, "ids", name, scale=100, digits=1) for p in SETS)
                rows.append((f"{size} products, N={views[1:]}", *cells))
    for figure, words in (
        ("unknown_rejected_at_fr0.05", "strangers rejected at 5 % false rejects"),
        ("false_reject_at_fa0.05", "known ones rejected or wrong at 5 % false accepts"),
    ):
        for views in ("n1", "n3"):
            cells = (cell(card, p, "ids", f"{figure}_{views}", scale=100, digits=1) for p in SETS)
            rows.append((f"{words}, N={views[1:]}", *cells))
    yield from rows_of(("", *SETS.values()), rows)


def defects(card: Card) -> Iterator[str]:
    """Table 8.3."""
    models, rows = published.TABLE_8_3, []
    places = columns(card, {
        "gl": "OpenGL", "gl/fp32": "OpenGL, fp32", "cycles": "Cycles",
        "gl/colour-histogram": "colour histogram", "gl/majority": "majority",
    })  # fmt: skip
    for defect, words in DEFECTS.items():
        for figure in ("precision", "recall", "fpr"):
            cells = [cell(card, p, "defects", f"image_{defect}_{figure}") for p in places]
            said = "FPR" if figure == "fpr" else figure.capitalize()
            rows.append((words, said, *cells, *printed(models, f"{defect}/{figure}", 2)))
    yield from grouped(list(places.values()), models, rows)
    yield from notes(models)
    yield f"- {published.DEFECT_GOAL}"


def per_induct(card: Card) -> Iterator[str]:
    """What a station goes by."""
    figures = {
        "verdict_{}_recall": "verdict: recall",
        "verdict_{}_fpr": "verdict: FPR",
        "verdict_{}_recall@fpr0.05": "verdict's score: recall at FPR .05",
        "verdict_{}_recall@fpr0.01": "verdict's score: recall at FPR .01",
        "verdict_{}_auc": "verdict's score: AUC",
        "induct_{}_recall@fpr0.05": "highest image: recall at FPR .05",
        "induct_{}_auc": "highest image: AUC",
    }
    places = columns(card, {
        "gl": "OpenGL", "gl/fp32": "OpenGL, fp32", "cycles": "Cycles",
        "gl/colour-histogram": "colour histogram",
    })  # fmt: skip
    rows = [
        (words, said, *(cell(card, p, "defects", figure.format(defect)) for p in places))
        for defect, words in DEFECTS.items()
        for figure, said in figures.items()
    ]
    yield from rows_of(("", "", *places.values()), rows)
    run = card.get("sets", {}).get("gl", {}).get("runs", {}).get("default", {})
    limits = run.get("predictor", {}).get("defect_thresholds", {})
    if limits:
        ways = run["predictor"].get("defect_over_views", {})
        joined = {"any": "any view", "mean": "mean of the views"}
        said = ", ".join(
            f"{name} {limit:.3f} ({joined[ways.get(name, 'any')]})"
            for name, limit in limits.items()
        )
        yield ""
        yield f"Thresholds: {said}. Recall at an FPR takes its threshold from the test set itself."
    if any(s.get("defects", {}).get("kept") for s in run.get("baselines", {}).values()):
        yield ""
        yield "Baselines of defects learn from the training split; they are of an earlier run on "
        yield "the same pictures, with that split beside them."


def gaps(card: Card) -> Iterator[str]:
    """OpenGL - Cycles with intervals."""
    if not card.get("gap"):
        yield f"{NOT_MEASURED.capitalize()}."
        return
    shorts = {section: short for short, section in PARTS.items() if short != VISIBLE}
    rows = []
    for section, figures in card["gap"].items():
        for figure, row in figures.items():
            if row[0] is not None:
                ours = (cell(card, p, shorts[section], figure) for p in SETS)
                rows.append((section, f"`{figure}`", *ours, text(row), f"{row[3]:.3f}"))
    head = ("part", "figure", "OpenGL", "Cycles", "OpenGL - Cycles", "p")
    yield from rows_of(head, rows)
    yield ""
    yield "The two sets are resampled apart from each other; p is of no difference."


def calibration(card: Card) -> Iterator[str]:
    """ECE beside the ECE that perfect probabilities would have."""
    rows = [
        (words, *(
            f"{cell(card, f'{p}{run}', part, f'ece{end}')}; {floor(card, f'{p}{run}', part, end)}"
            for p in SETS
        ))
        for words, part, end, run in (
            ("instances: found at IoU .5", "mix", "", ""),
            ("picks: the best product's published score", "station", "_product", "/picks"),
            ("defects: multi-pick", "defects", "_multi_pick", ""),
            ("defects: package defect", "defects", "_package_defect", ""),
            ("defects: most probable class", "defects", "_top", ""),
        )
    ]  # fmt: skip
    yield from rows_of(("ECE; floor", *SETS.values()), rows)
    yield ""
    yield "Floor: the ECE that perfect probabilities would have on as little data."


def floor(card: Card, place: str, part: str, end: str) -> str:
    """An ECE's floor, as a plain number."""
    row = numbers(card, place, part, f"ece_floor{end}")
    return NOTHING if row is None or row[0] is None else f"{row[0]:.3f}"


def times(card: Card) -> Iterator[str]:
    """Latencies, and what else the machine did."""
    rows = []
    for words, part, name, run in (
        ("a pick: all its views to both answers", "station", "latency_answer", "/picks"),
        ("a tote picture to masks", "mix", "latency_total", ""),
        ("the same, fp32", "mix", "latency_total", "/fp32"),
    ):
        if run == "/fp32" and not measured(card, "gl/fp32"):
            continue
        for percent in ("p50", "p95"):
            figure = f"{name}_{percent}"
            cells = (cell(card, f"{p}{run}", part, figure, digits=0) for p in SETS)
            rows.append((words, percent, *cells))
    yield from rows_of(("ms", "", *SETS.values()), rows)
    yield ""
    for name, words in SETS.items():
        for run, said in (("picks", "picks"), ("default", "totes")):
            found = card.get("sets", {}).get(name, {}).get("runs", {}).get(run)
            if found:
                about = found["conditions"]
                count, load = about["workers"], about["others_cores"]
                many = "one process" if count == 1 else f"{count} processes at a time"
                yield f"- {words}, {said}: {many} of one thread; others kept {load} cores busy."
