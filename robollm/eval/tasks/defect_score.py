"""Scoring defects, of images and of videos: rates, curves, time to flag, and the worst ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from robollm.core.defects import ANY, MEAN
from robollm.data.armbench_defects import LABELS, NOMINAL
from robollm.eval.figures import Cell, Curve, Histogram, Section, Table, Worst
from robollm.eval.records import DefectRecord, Json
from robollm.eval.tasks.scored import Notes, Scored, diagram, no_answer, worst
from robollm.eval.tasks.training import learned_from
from robollm.metrics.bootstrap import Interval
from robollm.metrics.calibration import of_defects
from robollm.metrics.defects import DefectImage, DefectTally, truth
from robollm.metrics.joined import Joined
from robollm.metrics.tally import Tally
from robollm.metrics.time_to_flag import FlagTally, sequences
from robollm.metrics.verdicts import VerdictTally

_JOINED = {ANY: "any view", MEAN: "mean of views"}
_AXES = {"roc": ("false positive rate", "recall"), "pr": ("recall", "precision")}


def score(records: Iterable[DefectRecord], card: Json, *, video: bool = False) -> Scored:
    """Count the images, or frames of videos, of a run.

    Args:
        records: of the stream; read once.
        card: of the run.
        video: whether they are frames of videos.

    Raises:
        EvalError: if there are none, or a label or class is not known.
    """
    notes = Notes()
    kept = list(notes.of(records))
    images = [image_of(one) for one in kept]
    tally = DefectTally(images, video=video)
    parts: list[Tally] = [tally]
    films = sequences(images)
    flags = FlagTally(films) if films else None
    if flags is not None:
        parts.append(flags)
    held = of_defects(images) if any(i.probabilities is not None for i in images) else {}
    parts += held.values()
    limits = card["predictor"].get("defect_thresholds") or {}
    if limits and not video:
        parts.append(VerdictTally(images, limits, card["predictor"].get("defect_over_views")))
    whole = Joined(parts)

    def section(figures: Mapping[str, Interval]) -> Section:
        made = Section(
            task="videos" if video else "defects",
            subset="",
            split=card["data"]["split"],
            protocol=_protocol(card, video),
            crop="" if video else card.get("settings", {}).get("defect_crop", "box"),
            samples=notes.samples,
            units=len(whole.units),
            unit="video" if video else "induct",
            figures=figures,
            curves=_curves(tally) | {f"reliability_{n}": diagram(t, n) for n, t in held.items()},
            tables={"confusion": _confusion(tally)},
            histograms=_times(flags) if flags else {},
            counts={**tally.counts, **(flags.counts if flags else {})},
            worst=worst(_worst(kept, images)),
        )
        return notes.complete(made)

    return Scored(whole, section)


def image_of(record: DefectRecord) -> DefectImage:
    """A record as the metrics take it: one with an error was not judged."""
    return DefectImage(
        record.induct,
        tuple(record.label.split("+")),
        None if record.error else record.probabilities,
        record.frame,
        record.time_s,
    )


def _curves(tally: DefectTally) -> dict[str, Curve]:
    out = {}
    for name, (x, y) in tally.curves().items():
        column, _, kind = name.rpartition("_")
        out[name] = Curve(
            kind, tuple(x.tolist()), tuple(y.tolist()), *_AXES[kind], column.replace("_", " ")
        )
    return out


def _confusion(tally: DefectTally) -> Table:
    found = tally.confusion()
    rows: list[tuple[Cell, ...]] = [
        (name, *row) for name, row in zip(found.rows, found.counts.tolist(), strict=True)
    ]
    return Table(
        ("truth", *found.columns), tuple(rows), "Rows: what is so; columns: what was said."
    )


def _times(flags: FlagTally) -> dict[str, Histogram]:
    out = {}
    for unit in ("frames", "seconds"):
        values = flags.times(unit)
        if not len(values):
            continue
        last = float(values[-1])
        edges = np.arange(last + 2) - 0.5 if unit == "frames" else np.linspace(0, last or 1, 21)
        counts, _ = np.histogram(values, edges)
        out[f"{unit} to flag"] = Histogram(
            tuple(edges.tolist()), tuple(int(n) for n in counts), unit
        )
    return out


def _worst(records: Sequence[DefectRecord], images: Sequence[DefectImage]) -> Iterator[Worst]:
    for record, image in zip(records, images, strict=True):
        found = image.probabilities
        if found is None:
            yield Worst(record.key, 2.0, no_answer(record), {"outcome": "no answer"})
            continue
        said = max(LABELS, key=found.__getitem__)
        so = [c for c, is_so in zip(LABELS, truth(image.labels), strict=True) if is_so]
        if said in so:
            continue
        p, real = found[said], " and ".join(image.labels)
        rest = 1 - max(found[c] for c in so)
        outcome = (
            "missed defect" if said == NOMINAL
            else "false alarm" if NOMINAL in so
            else "wrong defect"
        )  # fmt: skip
        what = f"Called {said} with probability {p:.3f}; it is {real}, at {1 - rest:.3f}."
        yield Worst(record.key, rest, what, {"outcome": outcome, "answer": said})


def _protocol(card: Json, video: bool) -> str:
    settings = card.get("settings", {})
    words = [
        "argmax over 3 classes, one against the rest; combined: any defect against nominal",
        "recall at an FPR from the scores, combined 1 - p(nominal)",
        "per induct: any of its images, its highest score",
    ]
    limits = card["predictor"].get("defect_thresholds") or {}
    if limits and not video:
        ways = card["predictor"].get("defect_over_views") or {}
        told = ", ".join(f"{n} {x:g} ({_JOINED[ways.get(n, ANY)]})" for n, x in limits.items())
        words.append(f"verdict: an induct's images as views, at the bundle's thresholds {told}")
    if video:
        words.append(
            "open and deconstruction are both package_defect; whole frames, "
            f"{settings.get('frames_per_second', '?')} per second, "
            f"at most {settings.get('frames_per_video', '?')} per video"
        )
    else:
        form = card["data"].get("box_form")
        told = f" ({form} in the annotations)" if form else ""
        words.append(f"crop {settings.get('defect_crop', 'box')}{told}")
    return "; ".join([*words, learned_from(card, "defects")])
