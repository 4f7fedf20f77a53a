"""What stands on top of a report: banners, the run in ten lines, the figures that matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robollm.eval.report import published
from robollm.eval.report.grid import measured, plural

if TYPE_CHECKING:
    from robollm.eval.figures import Metrics

Card = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Banner:
    """Something that must be known before any figure is read. `kind`: partial, untrained, data."""

    kind: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure, large. `beside`: what is published for it."""

    label: str
    value: str
    spread: str
    beside: str


def name_of(card: Card) -> str:
    """What our column is called: the bundle, or the predictor if it is none."""
    predictor = card.get("predictor") or {}
    name = str(predictor.get("name") or "?")
    if predictor.get("bundle"):
        return str(predictor.get("bundle_name") or str(predictor["bundle"]).rsplit("/", 1)[-1])
    return name


def banners(card: Card, metrics: Metrics) -> list[Banner]:
    """What must be known first: partial, untrained, another crop than published, other data."""
    found = []
    data, predictor = card.get("data") or {}, card.get("predictor") or {}
    if metrics.partial:
        found.append(
            Banner(
                "partial",
                "Partial: these figures don't rest on all samples",
                metrics.partial_reasons,
            )
        )
    if predictor.get("trained") is False:
        line = "Its weights are random or not trained for these tasks. The figures show that the "
        found.append(
            Banner("untrained", "Untrained bundle", (f"{line}evaluation runs, nothing else.",))
        )
    if predictor.get("name", "bundle") != "bundle":
        line = "It is a yardstick: the figures say nothing about a bundle."
        found.append(Banner("data", f"Predictor: {predictor['name']}", (line,)))
    crops = {s.crop for s in metrics.sections if s.task == "identification"}
    for crop in sorted(crops - {"", published.CROP_8_2}):
        title = f"Identification is not by the published protocol: crop {crop}"
        line = (
            "Queries are cut to the test set's annotated outline, which a station doesn't have; "
            "published figures are of whole pictures. --pick-crop image is their protocol."
        )
        found.append(Banner("data", title, (line,)))
    if data.get("kind") != "armbench":
        simulated = data.get("kind") == "simulated"
        title = "Another dataset: simulated" if simulated else "Not known to be ARMBench"
        line = "These figures are not ARMBench's."
        if any(s.task in _PUBLISHED for s in metrics.sections):
            line = (
                "Published figures were measured on ARMBench. They stand beside ours for "
                "orientation; a difference between them says nothing about which model is better."
            )
        found.append(Banner("data", title, (line,)))
    return found


def _machine(machine: Card) -> str:
    parts = [
        str(machine.get("cpu", "")),
        plural(int(machine["cores"]), "core") if machine.get("cores") else "",
        f"{machine['memory_gib']} GiB" if machine.get("memory_gib") else "",
        str(machine.get("system", "")),
    ]
    return ", ".join(p for p in parts if p)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02} min" if hours else f"{m} min {s:02} s"


def rows(card: Card, metrics: Metrics) -> list[tuple[str, str]]:
    """Name and text of the summary's lines; what a card doesn't tell is left out."""
    data, predictor = card.get("data") or {}, card.get("predictor") or {}
    bootstrap = metrics.bootstrap
    samples = data.get("samples") or {}
    trained_on = {
        task: " ".join(str(how[k]) for k in ("data", "subset") if k in how)
        for task, how in (predictor.get("trained_on") or {}).items()
    }
    version = str((card.get("versions") or {}).get("robollm") or "")
    commit = str((card.get("machine") or {}).get("commit") or "")
    lines = {
        "Source": str(card.get("source", "")),
        "Data": ", ".join(str(v) for v in (data.get("name"), data.get("kind")) if v),
        "Split": str(data.get("split") or ""),
        "Samples": ", ".join(f"{count:,} {name}" for name, count in samples.items()),
        "Digest of keys": str(data.get("digest") or "")[:16],
        "Bundle": f"{name_of(card)} {predictor.get('version', '')}"
        if "bundle" in predictor
        else "",
        "Trained on": ", ".join(f"{task}: {what}" for task, what in trained_on.items()),
        "sha256": str(predictor.get("sha256") or "")[:16],
        "Predictor": str(predictor.get("name") or ""),
        "Runs as": ", ".join(
            str(predictor[k]) for k in ("precision", "provider") if predictor.get(k)
        ),
        "Machine": _machine(card.get("machine") or {}),
        "Took": f"{_duration(float(card.get('wall_s', 0)))} "
        f"({_duration(float(card.get('cpu_s', 0)))} of processor time)",
        "Ended": str(card.get("finished") or ""),
        "Intervals": f"{bootstrap.get('level', 0.95):.0%}, percentile bootstrap, "
        f"{int(bootstrap.get('draws', 0)):,} draws, seed {int(bootstrap.get('seed', 0))}",
        "robollm": f"{version} ({commit})" if commit else version,
    }
    return [(name, text) for name, text in lines.items() if text]


def conditions(card: Card, metrics: Metrics) -> str:
    """Data, bundle, machine and command in one sentence, for captions."""
    data, predictor = card.get("data") or {}, card.get("predictor") or {}
    bundle = name_of(card)
    if sha := str(predictor.get("sha256") or "")[:12]:
        bundle += f" ({sha})"
    runs = ", ".join(str(predictor[k]) for k in ("precision", "provider") if predictor.get(k))
    where = str(data.get("name") or "data not named")
    if kind := data.get("kind"):
        where += f" ({kind})" if kind != where else ""
    parts = [
        where,
        bundle + (f", {runs}" if runs else ""),
        _machine(card.get("machine") or {}),
        f"{metrics.bootstrap.get('level', 0.95):.0%} intervals",
    ]
    return "Conditions: " + "; ".join(p for p in parts if p) + f". {card.get('command', '')}"


_PUBLISHED = ("segmentation", "identification", "defects")
"""Tasks of the thesis' tables."""
_HEADLINES = (
    ("segmentation", "class_agnostic_mask_mAP50", "mask mAP50, one class", 3, 1.0, "RoboLLM"),
    ("segmentation", "two_class_mask_mAP50", "mask mAP50, two classes", 3, 1.0, "ResNet50"),
    ("segmentation", "object_only_mask_mAP50", "mask mAP50, objects alone", 3, 1.0, ""),
    ("identification", "recall@1_container_product_n1", "recall@1 in the container, N=1, %", 1,
     100.0, "RoboLLM 97.8"),
    ("identification", "recall@1_container_product_n3", "recall@1 in the container, N=3, %", 1,
     100.0, "RoboLLM 98.0"),
    ("defects", "image_combined_recall", "defect recall, combined", 3, 1.0, "RoboLLM-B 0.94"),
    ("defects", "image_combined_fpr", "defect FPR, combined", 3, 1.0, "RoboLLM-B 0.03"),
    ("station", "recall@1_published", "published answers: recall@1, %", 1, 100.0, ""),
    ("station", "verdict_combined_recall", "verdicts: recall, combined", 3, 1.0, ""),
    ("station", "verdict_combined_fpr", "verdicts: FPR, combined", 3, 1.0, ""),
)  # fmt: skip


def tiles(metrics: Metrics) -> list[Tile]:
    """The figures that matter, of what was scored."""
    found = []
    for task, name, label, digits, scale, beside in _HEADLINES:
        of_task = {s.subset: s for s in metrics.sections if s.task == task and name in s.figures}
        for subset in published.in_order(list(of_task))[:1]:
            value = measured(of_task[subset].figures[name], digits, scale)
            said = published.SUBSETS.get(subset, "")
            words = _map50_of(beside, subset) if beside and task == "segmentation" else beside
            if task == "identification" and of_task[subset].crop not in ("", published.CROP_8_2):
                words += ", of whole pictures"
            found.append(
                Tile(f"{label} · {said}" if said else label, value.text, value.spread, words)
            )
    return found


def _map50_of(model: str, subset: str) -> str:
    """A model's published mAP50 on a subset; "" if there is none."""
    printed = next(m.get(f"{subset}/mAP50") for m in published.TABLE_8_1 if m.name == model)
    return "" if printed is None else f"{model} {printed:.2f}"
