"""From which probability on a defect is decided, of which views, and the temperature of both.

An induct's images are views of one pick: `core.defects.fuse` makes its verdict, as in a node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robollm.core.calibration import newton
from robollm.core.defects import ANY, MEAN, NOMINAL, OVER_VIEWS, ViewEvidence, fuse
from robollm.core.errors import CalibrationError
from robollm.core.rates import at_least
from robollm.core.reliability import reliability
from robollm.data.armbench_defects import LABELS
from robollm.eval.records import DEFECTS, DefectRecord, Json
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks.defect_score import image_of
from robollm.eval.thresholds.defect_words import by, loud
from robollm.eval.thresholds.over_views import better, joined
from robollm.eval.thresholds.parts import Chosen, Mask, Shares, Wish, between, first_half, number
from robollm.metrics.curves import Ranking
from robollm.metrics.defects import probabilities, truth
from robollm.metrics.tally import Vector

LEAST = 10
"""Inducts with a defect, and without it: fewer choose no threshold for it."""
_LEAST_IMAGES = 40
_TINY = 1e-12  # a probability that was rounded to 0
_EDGE = 1e-6  # as the card wants thresholds
KINDS = tuple(label for label in LABELS if label != NOMINAL)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """The pictures of a run.

    Attributes:
        inducts: (I,) names.
        true: (I, 3) bool, what each induct is, of `LABELS`.
        unit: (N,) each picture's induct.
        frame: (N,) its name within that.
        logits: (N, 3) float64, up to a constant per row; NaN: not judged.
        label: (N,) place of its label in `LABELS`.
    """

    inducts: tuple[str, ...]
    true: Mask
    unit: NDArray[np.intp]
    frame: tuple[str, ...]
    logits: Vector
    label: NDArray[np.intp]

    def said(self, temperatures: Vector) -> Vector:
        """(N, 3) probabilities, with a temperature (I,) for each induct."""
        logits = self.logits / temperatures[self.unit][:, None]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


@dataclass(frozen=True, slots=True)
class Limits:
    """What `fuse` needs: a temperature, a threshold per defect, and how views are joined for it."""

    temperature: float
    thresholds: Mapping[str, float]
    ways: Mapping[str, str] = field(default_factory=dict)


def images_of(run: RunFolder, old: float) -> Images | None:
    """Read a run's pictures; None: it has none.

    Args:
        run: the run.
        old: temperature of the probabilities in its records; logits are their logarithms times it.

    Raises:
        EvalError: for a label or class that is not known.
    """
    if DEFECTS not in run.streams:
        return None
    records = [r for r in run.records(DEFECTS) if isinstance(r, DefectRecord)]
    images = [image_of(r) for r in records]
    names, unit = np.unique([i.induct for i in images], return_inverse=True)
    each = np.array([truth(i.labels) for i in images], np.bool_).reshape(-1, len(LABELS))
    true = np.zeros((len(names), len(LABELS)), np.bool_)
    np.logical_or.at(true, unit, each)
    normal = LABELS.index(NOMINAL)
    true[:, normal] = ~np.delete(true, normal, axis=1).any(axis=1)
    logits = old * np.log(np.maximum(probabilities(images), _TINY))
    frames = tuple(str(i.frame) for i in images)
    return Images(tuple(names.tolist()), true, unit, frames, logits, each.argmax(axis=1))


def temperature(images: Images, inducts: Mask) -> float:
    """The likeliest temperature of the pictures of some inducts, each picture for itself.

    Raises:
        CalibrationError: too few were judged, or logits don't tell the classes apart.
    """
    mine = inducts[images.unit] & np.isfinite(images.logits).all(axis=1)
    count = int(mine.sum())
    if count < _LEAST_IMAGES // 2:
        raise CalibrationError(f"{count} pictures were judged, want {_LEAST_IMAGES // 2}")
    x = images.logits[mine] - images.logits[mine].max(axis=1, keepdims=True)
    there = np.ones(x.shape, np.bool_)
    try:
        theta, _, _ = newton(x[..., None], there, images.label[mine], np.ones(count))
    except CalibrationError as e:
        raise CalibrationError(
            "no temperature fits: the scores don't tell the classes apart"
        ) from e
    return float(f"{1 / float(theta[0]):.6g}")


def threshold(scores: Vector, true: Mask, wish: Wish, least: int = LEAST) -> tuple[float, bool]:
    """The highest threshold of one defect with the wanted recall, hence the lowest FPR.

    Args:
        scores: (I,) of inducts; -inf: not judged, a defect there is missed.
        true: (I,) bool.
        wish: `recall` and `confidence` count.
        least: judged inducts that have it, and that don't, wanted of each.

    Returns:
        The threshold; and whether the recall is reached. If not, all judged defects are above it.

    Raises:
        CalibrationError: too few inducts.
    """
    judged = np.isfinite(scores)
    found = np.sort(scores[true & judged])[::-1]
    n = int(true.sum())
    rest = int((judged & ~true).sum())
    if min(len(found), rest) < least:
        raise CalibrationError(
            f"{len(found)} judged inducts have it and {rest} don't, want {least} of each"
        )
    shown = [
        at_least(k, n, wish.confidence) if wish.confidence else k / n
        for k in range(1, len(found) + 1)
    ]
    enough = [k for k, share in enumerate(shown) if share > wish.recall]
    lowest = float(found[enough[0] if enough else -1])
    below = float(scores[judged & (scores < lowest)].max(initial=0.0))
    return min(max(between(below, lowest), _EDGE), 1 - _EDGE), bool(enough)


def at_limit(scores: Vector, true: Mask, wish: Wish) -> Json:
    """What could be had at the FPR limit instead: the lowest threshold within it."""
    judged = np.isfinite(scores)
    false = np.sort(scores[judged & ~true])[::-1]
    allowed = int(np.floor(wish.fpr_limit * len(false) + 1e-9))
    over = float(false[allowed]) if allowed < len(false) else 0.0
    above = float(scores[judged & (scores > over)].min(initial=1.0))
    limit = between(over, above)
    hits = judged & (scores >= limit) & (scores > over)
    return {
        "threshold": number(limit),
        "recall": number(float((hits & true).sum() / true.sum())),
        "fpr": number(float((hits & ~true).sum() / len(false))),
    }


def scores_of(images: Images, warm: float, ways: Mapping[str, str]) -> Vector:
    """(I, 3) each induct's score of each class at one temperature; -inf: none was judged."""
    count = len(images.inducts)
    return joined(images.said(np.full(count, warm)), images.unit, count, ways)


def choose(
    images: Images, inducts: Mask, before: Limits, wish: Wish, least: int = LEAST
) -> tuple[Limits, dict[str, str], list[str]]:
    """Temperature, then ways and thresholds, from some inducts; `least`: see `threshold`.

    A threshold means something at its temperature alone: if one stays, the temperature does. And
    so it is with the way in which views are joined.

    Returns:
        The limits; name -> why it is the old one; defects whose recall can't be reached.
    """
    try:
        warm = temperature(images, inducts)
    except CalibrationError as e:
        found, why, short = _thresholds(images, inducts, before.temperature, before, wish, least)
        return found, {**why, "temperature": e.what}, short
    found, why, short = _thresholds(images, inducts, warm, before, wish, least)
    if why:
        lost = f"the threshold of {' and '.join(why)} stays, and it belongs to this temperature"
        found, why, short = _thresholds(images, inducts, before.temperature, before, wish, least)
        why["temperature"] = lost
    return found, why, short


def _thresholds(
    images: Images, inducts: Mask, warm: float, before: Limits, wish: Wish, least: int
) -> tuple[Limits, dict[str, str], list[str]]:
    """The same at a given temperature."""
    each = {way: scores_of(images, warm, dict.fromkeys(KINDS, way))[inducts] for way in OVER_VIEWS}
    limits, short = dict(before.thresholds), []
    ways = {kind: before.ways.get(kind, ANY) for kind in KINDS}
    why: dict[str, str] = {}
    for kind in KINDS:
        c = LABELS.index(kind)
        true = images.true[inducts, c]
        try:
            way = better(each[ANY][:, c], each[MEAN][:, c], true, wish)
            limits[kind], reached = threshold(each[way][:, c], true, wish, least)
            ways[kind] = way
            short += [] if reached else [kind]
        except CalibrationError as e:
            why[kind] = e.what
    return Limits(warm, limits, ways), why, short


def told(images: Images, limits: Sequence[Limits], wish: Wish) -> Json:
    """What limits make of inducts through `fuse`, each induct with its own.

    Returns:
        Shares of inducts with their limits. `KIND_recall` and `KIND_fpr`: its views, joined, reach
        its threshold, so it is published with .5 or more; `KIND_decided`: it is the
        decision, of those that have it; `combined_recall` and `combined_fpr`: the decision is any
        defect; `uninspected`: no picture was judged. And of the pictures, `nll` in nat and the
        calibration error of the most probable class.
    """
    warm = np.array([one.temperature for one in limits])
    said = images.said(warm)
    judged: Mask = np.asarray(np.isfinite(said).all(axis=1), np.bool_)
    views: list[list[ViewEvidence]] = [[] for _ in images.inducts]
    for row, unit in enumerate(images.unit.tolist()):
        found = dict(zip(LABELS, said[row].tolist(), strict=True)) if judged[row] else None
        views[unit].append(ViewEvidence(images.frame[row], found))
    verdicts = [
        fuse(v, one.thresholds, ways=one.ways) for v, one in zip(views, limits, strict=True)
    ]
    raised = np.array([[dict(v.ranked).get(k, 0.0) >= 0.5 for k in KINDS] for v in verdicts])
    decided = np.array([[v.decision == k for k in KINDS] for v in verdicts])
    looked = np.array([bool(v.inspected) for v in verdicts])
    parts: dict[str, tuple[Mask, Mask]] = {"uninspected": (~looked, np.ones_like(looked))}
    for j, kind in enumerate(KINDS):
        true = images.true[:, LABELS.index(kind)]
        clean = ~true & looked
        parts[f"{kind}_recall"] = raised[:, j] & true, true
        parts[f"{kind}_fpr"] = raised[:, j] & clean, clean
        parts[f"{kind}_decided"] = decided[:, j] & true, true
    normal = images.true[:, LABELS.index(NOMINAL)]
    parts["combined_recall"] = decided.any(axis=1) & ~normal, ~normal
    parts["combined_fpr"] = decided.any(axis=1) & normal & looked, normal & looked
    p, label, unit = said[judged], images.label[judged], images.unit[judged]
    rows = np.arange(len(p))
    top = p.argmax(axis=1)
    held = reliability(p[rows, top], top == label, np.ones(len(p)), unit, seed=wish.seed)
    return {
        **Shares(images.inducts, parts).told(wish),
        "nll": number(float(-np.log(np.maximum(p[rows, label], _TINY)).mean())),
        "calibration_error": number(held.ece),
        "of_perfect_probabilities": number(held.floor),
    }


def calibrate(run: RunFolder, before: Json, wish: Wish) -> Chosen:
    """Choose `temperature`, and per defect a threshold and how views are joined.

    Args:
        run: whose records tell.
        before: `thresholds` of the bundle that answered.
        wish: what to keep to.

    Raises:
        EvalError: for a record that can't be understood.
    """
    names = (*KINDS, "temperature")
    known = before["defects"]
    images = images_of(run, float(known["temperature"]))
    if images is None:
        return Chosen(kept=dict.fromkeys(names, "the run has no pictures of defects"))
    old = Limits(
        float(known["temperature"]),
        {k: float(known[k]) for k in KINDS},
        {k: before.get("over_views", {}).get(k, ANY) for k in KINDS},
    )
    judged = np.isfinite(images.logits).all(axis=1)
    record: Json = {
        "inducts": len(images.inducts),
        "inducts_by_class": {
            k: int(images.true[:, c].sum()) for c, k in enumerate(LABELS)
        },
        "images": len(images.logits),
        "images_without_answer": int((~judged).sum()),
        "by": by(wish),
        "fpr_limit": wish.fpr_limit,
    }  # fmt: skip
    if int(judged.sum()) < _LEAST_IMAGES:
        why = f"{int(judged.sum())} pictures were judged, want {_LEAST_IMAGES}"
        line = f"defects stay as they were: {why}"
        return Chosen(kept=dict.fromkeys(names, why), loud=(line,), record=record)
    every = np.ones(len(images.inducts), np.bool_)
    kinds = ["+".join(k for k, t in zip(LABELS, row, strict=True) if t) for row in images.true]
    first = first_half(images.inducts, kinds, wish.seed)
    limits, kept, short = choose(images, every, old, wish)
    halves = [choose(images, half, old, wish, LEAST // 2) for half in (first, ~first)]
    sides = [side for side, _, _ in halves]
    record |= {
        "held_out": told(images, [sides[1] if mine else sides[0] for mine in first], wish),
        "held_out_values": [
            {**s.thresholds, "temperature": s.temperature, "over_views": dict(s.ways)}
            for s in sides
        ],
        "on_all": told(images, [limits] * len(every), wish),
        "before": {**known, **told(images, [old] * len(every), wish)},
        "over_views": dict(limits.ways),
        "auc": _areas(images, limits),
    }
    scores = scores_of(images, limits.temperature, limits.ways)
    record["at_fpr_limit"] = {
        k: at_limit(scores[:, c], images.true[:, c], wish)
        for c, k in enumerate(LABELS)
        if k in KINDS and k not in kept
    }
    said = [f"defects.{name} stays as it was: {why}" for name, why in kept.items()]
    said += [
        f"defects.{name}: one half of the inducts could not choose it ({why}), so held-out figures "
        "of the other half are of the value before"
        for _, lacks, _ in halves for name, why in lacks.items() if name not in kept
    ]  # fmt: skip
    said += [line for k in KINDS if k not in kept for line in loud(k, k in short, record, wish)]
    values = {**limits.thresholds, "temperature": limits.temperature}
    chosen = {k: v for k, v in values.items() if k not in kept}
    return Chosen(chosen, kept, tuple(said), record, limits.ways)


def _areas(images: Images, limits: Limits) -> Json:
    """Way -> defect -> area under the ROC curve of inducts; None: it is on one side alone."""
    out: Json = {}
    for way in OVER_VIEWS:
        scores = scores_of(images, limits.temperature, dict.fromkeys(KINDS, way))
        judged = np.isfinite(scores).all(axis=1)
        out[way] = {
            k: number(Ranking(scores[judged, c], images.true[judged, c]).auc())
            for c, k in enumerate(LABELS)
            if k in KINDS
        }
    return out
