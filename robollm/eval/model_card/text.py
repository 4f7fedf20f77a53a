"""The words and tables of a model card, in the order of Mitchell et al. (2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from robollm.eval.figures import Section
from robollm.eval.model_card.cells import interval, plain, table
from robollm.eval.model_card.costs import thresholds
from robollm.eval.model_card.pictures import Failure
from robollm.eval.model_card.sources import Dataset, EvalRun, TrainRun, bare
from robollm.eval.report.grid import NOTHING
from robollm.runtime.bundle import Bundle

_FIGURES = {
    "segmentation": (
        "object_only_mask_mAP50", "object_only_mask_mAP50_1-5", "object_only_mask_mAP50_6-12",
        "object_only_mask_mAP50_13+", "object_only_mask_mAP50_13-25", "object_only_mask_mAP50_26+",
        "object_only_mask_mAP75",
    ),
    "identification": (
        "recall@1_container_product_n1", "recall@1_container_product_n3",
        "recall@1_all_product_n1", "recall@1_all_product_n3", "chance@1_container",
        "unknown_rejected_at_fr0.05_n1", "unknown_rejected_at_fr0.05_n3", "auroc_n1", "auroc_n3",
    ),
    "defects": (
        "verdict_multi_pick_recall", "verdict_multi_pick_fpr",
        "verdict_package_defect_recall", "verdict_package_defect_fpr",
        "verdict_combined_recall", "verdict_combined_fpr",
        "verdict_multi_pick_auc", "verdict_multi_pick_recall@fpr0.05",
        "verdict_package_defect_auc", "verdict_package_defect_recall@fpr0.05",
        "induct_multi_pick_auc", "induct_package_defect_auc", "induct_combined_auc",
        "induct_combined_recall@fpr0.05",
    ),
    "videos": ("video_combined_recall", "video_combined_fpr"),
    "station": ("recall@1_published", "verdict_combined_recall", "verdict_combined_fpr"),
}  # fmt: skip
"""Figures of the table, as far as a run has them."""


def text(
    bundle: Bundle,
    card: Mapping[str, Any],
    calibration: Mapping[str, Any] | None,
    runs: Sequence[TrainRun],
    evals: Sequence[EvalRun],
    data: Sequence[Dataset],
    failures: Sequence[tuple[Failure, str]],
    curves: str,
) -> str:
    """The whole card as Markdown.

    Args:
        bundle: verified.
        card: its `bundle.json`.
        calibration: its `calibration.json`; None: it was not calibrated.
        runs: it was trained in.
        evals: it was measured in.
        data: it was trained and measured on.
        failures: with the file of each one's picture; "": there is none.
        curves: file of the learning curves; "": there is none.
    """
    parts = [
        f"# Model card: {bundle.name} {bundle.version}",
        f"Written by `robollm bundle card` for the bundle of sha256 `{bundle.sha256[:12]}`; "
        "headings after Mitchell et al., *Model Cards for Model Reporting* (2019).",
        "## Model details\n\n" + _details(bundle, card),
        "## Intended use and limits\n\n" + _use(bundle, data),
        "## Metrics\n\n" + _metrics_words(evals),
        "## Evaluation and training data\n\n" + _data(data),
        "## Training\n\n" + _training(runs, curves),
        "## Quantitative analyses\n\n" + _figures(evals),
        "### Variants and what they lose\n\n" + _variants(bundle, card),
        "### Thresholds and what they cost\n\n" + thresholds(card, calibration),
        "## Known failures\n\n" + _failures(failures),
        "## Ethical considerations\n\n"
        "The pictures show products in totes and on an arm, no people. A wrong answer can damage "
        "goods or send a wrong product; it decides nothing about a person.",
        "## Files\n\n" + _files(bundle, card),
    ]
    return bare("\n\n".join(parts)) + "\n"


def _details(bundle: Bundle, card: Mapping[str, Any]) -> str:
    (th, tw), (ch, cw) = bundle.tote.hw, bundle.crop.hw
    joined = f", joined from {len(bundle.views)} views ({', '.join(bundle.views)}) or fewer"
    lines = [
        f"- One shared encoder (patches of {bundle.patch} px) with three heads: instance "
        f"segmentation of tote images ({', '.join(bundle.instance_labels)}), identification by "
        f"retrieval ({bundle.embedding_dim} numbers per embedding"
        f"{joined if bundle.views else ', one view at a time'}), and defects of a pick "
        f"({', '.join(bundle.defect_labels)}).",
        f"- Tote images {tw}x{th} px ({bundle.tote.fit}), crops {cw}x{ch} px ({bundle.crop.fit}), "
        f"{bundle.proposals} proposals.",
        f"- Task adapters in the encoder: {', '.join(bundle.adapters) or 'none'}.",
        f"- Status: {bundle.status}. Graphs are ONNX, opset {card.get('opset', '?')}; float32 is "
        "the reference.",
        f"- Written by {bundle.provenance.get('program', 'an unknown program')} "
        f"{bundle.provenance.get('robollm_version', '')}.",
    ]
    weights = bundle.provenance.get("weights", {})
    if weights.get("storage") == "half":
        lines.append(
            "- Weights are stored as half-precision numbers and computed with as float32; no "
            f"number moved by more than {weights.get('largest_relative_error', math.nan):.1e} of "
            "itself."
        )
    licence = bundle.provenance.get("licence") or bundle.provenance.get("license")
    return "\n".join([*lines, *([f"- Licence: {licence}"] if licence else [])])


def _use(bundle: Bundle, data: Sequence[Dataset]) -> str:
    drawn = bool(data) and all(d.card.get("format") == "robollm-dataset" for d in data)
    lines = [
        "- For the nodes, demo and commands of robollm: a fixed camera over a tote, post-pick "
        "views of the arm, manifests of some tens of products.",
        "- Products are found by reference pictures in a gallery, so new ones need no training; "
        "recall falls with look-alikes in one manifest.",
        "- Not for people, food safety, medicine, or any decision that nobody can correct.",
    ]
    if drawn:
        lines.append(
            "- **All its data is simulated.** Nothing here says how it does on real cameras: "
            "measure on your own pictures, and fine-tune, before you rely on it."
        )
    lines.append(
        "- Factors that matter: how full the tote is, distance of the camera, light and renderer, "
        "transparent and thin packages, occlusion by the gripper."
    )
    if not bundle.trained:
        lines.append("- **Its weights are random: results mean nothing.**")
    return "\n".join(lines)


def _metrics_words(evals: Sequence[EvalRun]) -> str:
    level = {f"{e.metrics.bootstrap.get('level', 0.95):.0%}" for e in evals}
    return (
        "Segmentation: COCO average precision of masks (mAP50: at IoU .5). Identification: "
        "recall@1 among the products of a pick's container, or of the whole gallery (`all`), with "
        "one view (`n1`) or three (`n3`). Defects: one verdict per induct by the bundle's "
        "thresholds (`verdict`), and areas under the ROC curve. Intervals are of the bootstrap "
        "over scenes or images, products or inducts, two-sided, "
        f"{', '.join(sorted(level)) or '95%'}."
    )


def _data(data: Sequence[Dataset]) -> str:
    if not data:
        return "No card of a dataset was given."
    rows, lines = [], []
    for one in data:
        settings, about = one.card.get("settings", {}), one.card
        seg = about.get("segmentation", {}).get("images", {})
        events = about.get("picks", {}).get("events", {})
        products = {k: v.get("products", 0) for k, v in about.get("catalogue", {}).items()
                    if isinstance(v, dict)}  # fmt: skip
        rows.append([
            one.name, str(settings.get("seed", NOTHING)), str(settings.get("renderer", NOTHING)),
            *(_splits(c) for c in (_by_split(seg), _by_split(events), products)),
        ])  # fmt: skip
        if about.get("command"):
            lines.append(f"- {one.name}: `{about['command']}`")
    head = ("data", "seed", "renderer", "tote images", "picks", "products")
    told = table(head, rows)
    note = "Counts are train / val / test."
    if all(one.card.get("format") == "robollm-dataset" for one in data):
        note += " Splits of one dataset share no product and no family of products."
    return "\n\n".join([told, note, *(["\n".join(lines)] if lines else [])])


def _by_split(counts: Mapping[str, Any]) -> dict[str, int]:
    """Sums by split of counts named SPLIT/KIND or SUBSET/SPLIT."""
    out = {"train": 0, "val": 0, "test": 0}
    for name, count in counts.items():
        for part in name.split("/"):
            if part in out:
                out[part] += int(count)
    return out


def _splits(counts: Mapping[str, int]) -> str:
    return " / ".join(f"{counts.get(s, 0):,}" for s in ("train", "val", "test"))


def _training(runs: Sequence[TrainRun], curves: str) -> str:
    if not runs:
        return "No training run was given."
    rows, commands = [], []
    versions: dict[str, str] = {}
    for run in runs:
        starts = run.card.get("starts", [])
        last = starts[-1] if starts else {}
        samples = run.card.get("samples", {})
        rows.append([
            run.name, str(run.card.get("task", "")), f"{run.steps:,}", f"{run.hours:.2f}",
            str(run.card.get("seed", NOTHING)), f"{run.card.get('parameters', 0) / 1e6:.1f}",
            f"{samples.get('train', 0):,}" if isinstance(samples.get("train"), int) else NOTHING,
            f"{last.get('processes', '?')}x{last.get('threads', '?')}", str(len(starts)),
        ])  # fmt: skip
        commands += [f"- {run.name}: `{c}`" for c in run.commands]
        versions |= {"robollm": run.card.get("robollm", ""), "python": last.get("python", "")}
        versions |= last.get("packages", {})
    head = ("run", "task", "steps", "hours", "seed", "M parameters", "samples",
            "processes x threads", "starts")  # fmt: skip
    told = [table(head, rows), "Hours are those of training steps, without validations."]
    if curves:
        told.append(f"![Learning curves]({curves})")
    told.append("\n".join(commands))
    told.append("Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items() if v) + ".")
    return "\n\n".join(t for t in told if t)


def _figures(evals: Sequence[EvalRun]) -> str:
    if not evals:
        return "No evaluation run was given."
    sections: dict[str, dict[int, Section]] = {}
    for i, one in enumerate(evals):
        for section in one.metrics.sections:
            sections.setdefault(section.name, {})[i] = section
    rows, order = [], list(_FIGURES)
    for name in sorted(sections, key=lambda n: order.index(n.partition("/")[0])):
        found = sections[name]
        task = next(iter(found.values())).task
        counts = [
            f"{found[i].samples:,}; {found[i].units:,} {_plural(found[i].unit)}" if i in found
            else NOTHING for i in range(len(evals))
        ]  # fmt: skip
        rows.append([f"**{name}**: samples", *counts])
        for figure in _FIGURES.get(task, ()):
            cells = [interval(found[i].figures.get(figure)) if i in found else NOTHING
                     for i in range(len(evals))]  # fmt: skip
            if any(c != NOTHING for c in cells):
                rows.append([f"{figure}", *cells])
    told = [table(("figure", *(e.title for e in evals)), rows)]
    for one in evals:
        precision = one.run.card["predictor"].get("precision", "?")
        references = one.run.card.get("settings", {}).get("references")
        words = [f"{one.title}: in {precision}"]
        words += [f"references of identification: {references}"] if references else []
        words += [one.note] if one.note else []
        words += [f"partial: {why}" for why in one.metrics.partial_reasons]
        told.append("; ".join(words) + ".")
        command = one.run.card.get("command", "")
        told += [f"`{command}`"] if command else []
    return "\n\n".join(told)


def _plural(unit: str) -> str:
    return unit if unit.endswith("s") else f"{unit}s"


def _variants(bundle: Bundle, card: Mapping[str, Any]) -> str:
    measured = bundle.metrics
    names = sorted({k for v in bundle.variants.values() for k in v.metrics})
    rows = []
    for name, variant in bundle.variants.items():
        size = sum(p.stat().st_size for p in {*variant.graphs.values()}) / 1e6
        cells = []
        for k in names:
            lost = variant.loss.get(k)
            cell = f"{variant.metrics[k]:.3f}" if k in variant.metrics else NOTHING
            cells.append(cell if lost is None else f"{cell} ({0.0 - round(lost, 2):+.2f})")
        rows.append([name, f"{size:.1f}", *cells])
    told = [table(("variant", "MB", *names), rows)]
    if measured:
        samples = ", ".join(f"{n:,} {k}" for k, n in measured.get("samples", {}).items())
        told.append(
            f"Task metrics on {measured.get('data', '?')}, {measured.get('split', '?')} "
            f"({samples}); in brackets points of 100 against float32."
        )
    else:
        told.append("Nothing was measured at export.")
    refused = card.get("provenance", {}).get("refused_variants", {})
    told += [f"- {name} was refused: {why}" for name, why in refused.items()]
    return "\n\n".join(told)


def _failures(failures: Sequence[tuple[Failure, str]]) -> str:
    if not failures:
        return "No evaluation run with mistakes was given."
    told = [
        "The worst samples by the report's own order, from all tasks in turn. Green: truth that "
        "was found; white: missed, or the box that was inspected; orange: found rightly; red: "
        "found, but not there; grey: not asked for."
    ]
    for one, file in failures:
        part = f"{one.task}, {one.card.subset}" if one.card.subset else one.task
        outcome, key, why = (plain(w) for w in (one.card.outcome, one.card.key, one.card.why))
        shown = f"![{outcome}]({file})" if file else "(The picture could not be read.)"
        seen = "; ".join(plain(p.caption) for p in one.card.pictures if p.uri)
        told.append(
            f"**{outcome}** ({part}; {one.data}; {key}). {why}"
            + (f" Shown: {seen}." if file else "")
            + f"\n\n{shown}"
        )
    return "\n\n".join(told)


def _files(bundle: Bundle, card: Mapping[str, Any]) -> str:
    files = {name: int(about["bytes"]) for name, about in card["files"].items()}
    rows = [[name, f"{size:,}"] for name, size in sorted(files.items())]
    rows.append(["**all graphs**", f"{sum(files.values()):,}"])
    for part in sorted(p for p in bundle.folder.iterdir() if p.is_dir() and p.name != "card"):
        size = sum(f.stat().st_size for f in part.rglob("*") if f.is_file())
        rows.append([f"{part.name}/", f"{size:,}"])
    return table(("file", "bytes"), rows)
