"""The pictures of a model card: learning curves, and the worst samples with outlines."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data.jpeg import decode, encode
from robollm.eval.figures import Section, Worst
from robollm.eval.model_card.sources import EvalRun, TrainRun
from robollm.eval.report.album import Album, Picture
from robollm.eval.report.pictures import Card, cards

MOST_BYTES = 600_000
"""Of all pictures of a card together."""
_HEIGHT, _ALONE, _MOST_WIDE, _GAP = 240, 400, 900, 6  # px of a strip; of one picture alone
_COLOURS = {  # RGB; as in the report
    "truth": (55, 224, 139),
    "missed": (255, 255, 255),
    "found": (255, 176, 32),
    "false": (255, 60, 60),
    "box": (255, 255, 255),
    "aside": (150, 157, 165),
}
_TASKS = ("segmentation", "identification", "defects")
_STEP = re.compile(r"([MLHVZ])([^MLHVZ]*)")
_SHOWN = (
    "object_only_mask_mAP50", "class_agnostic_mask_mAP50", "recall@1_container", "recall@1_all",
    "mean_recall",
)  # fmt: skip
"""Validation figures that are drawn, if a run has them; else all it has, up to `_MOST_LINES`."""
_MOST_LINES = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """One of the worst samples.

    Attributes:
        task: of its section.
        data: of its run.
        card: as the report shows it.
        strip: (H, W, 3) uint8, RGB, its pictures side by side; None: none could be read.
    """

    task: str
    data: str
    card: Card
    strip: NDArray[np.uint8] | None


def worst(runs: Sequence[EvalRun], count: int) -> tuple[list[Failure], int]:
    """The worst samples by the report's own choice, from all tasks in turn.

    Within a task the sections of all runs take turns, each with its worst first. Samples without
    an answer, or without a reference to be right by, are passed by: they show no mistake of the
    model.

    Returns:
        At most `count`; and how many pictures could not be read.
    """
    tasks: dict[str, list[list[tuple[EvalRun, Section, Worst]]]] = {}
    for run in runs:
        for section in run.metrics.sections:
            some = [
                (run, section, one)
                for one in section.worst
                if one.facts.get("outcome") not in ("no answer", "no reference")
            ]
            tasks.setdefault(section.task, []).append(some)
    order: list[str] = [t for t in _TASKS if t in tasks]
    order += [t for t in tasks if t not in order]
    lines = [[x for row in zip_longest(*tasks[t]) for x in row if x is not None] for t in order]
    chosen = [x for row in zip_longest(*lines) for x in row if x is not None][:count]
    out, lost = [], 0
    for run, section, one in chosen:
        root = (run.run.card.get("data") or {}).get("root")
        album = Album(Path(root) if root else None)
        (card,) = cards(run.run, replace(section, worst=(one,)), album)
        lost += sum(album.problems.counts.values())
        out.append(Failure(section.task, run.title, card, _strip(card.pictures)))
    out.sort(key=lambda f: order.index(f.task))
    return out, lost


def _strip(pictures: Sequence[Picture]) -> NDArray[np.uint8] | None:
    """Pictures of one height side by side, outlines drawn; those that are missing left out."""
    there = [one for one in pictures if one.uri]
    height = _HEIGHT if len(there) > 1 else _ALONE
    parts: list[NDArray[np.uint8]] = []
    for one in there:
        image = decode(base64.b64decode(one.uri.partition(",")[2]))
        scale = height / image.shape[0]
        size = max(1, round(image.shape[1] * scale)), height
        drawn = cv2.resize(
            image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        for outline in one.outlines:
            lines = [(p * scale).round().astype(np.int32) for p in polygons(outline.d)]
            cv2.polylines(drawn, lines, True, _COLOURS[outline.kind], 1, cv2.LINE_AA)
        parts.append(np.asarray(drawn, np.uint8))
        parts.append(np.full((height, _GAP, 3), 255, np.uint8))
    if not parts:
        return None
    strip = np.concatenate(parts[:-1], axis=1)
    if strip.shape[1] > _MOST_WIDE:
        height = max(1, round(height * _MOST_WIDE / strip.shape[1]))
        smaller = cv2.resize(strip, (_MOST_WIDE, height), interpolation=cv2.INTER_AREA)
        return np.asarray(smaller, np.uint8)
    return strip


def polygons(d: str) -> list[NDArray[np.float64]]:
    """The closed polygons, (K, 2) px each, of an outline's SVG path; see `Outline`."""
    out: list[list[tuple[float, float]]] = []
    for letter, rest in _STEP.findall(d):
        values = [float(v) for v in rest.split()]
        if letter == "M":
            out.append([(values[0], values[1])])
        elif letter == "L":
            out[-1].append((values[0], values[1]))
        elif letter == "H":
            out[-1].append((values[0], out[-1][-1][1]))
        elif letter == "V":
            out[-1].append((out[-1][-1][0], values[0]))
    return [np.array(one, np.float64) for one in out]


def packed(strips: Sequence[NDArray[np.uint8]], room: int) -> list[bytes]:
    """Strips as JPEG that together take at most `room` bytes: less quality first, then less size.

    Raises:
        ConfigError: there are so many that they don't fit at all.
    """
    for scale in (1.0, 0.75, 0.5, 0.35):
        for quality in (80, 65, 50):
            made = [encode(_smaller(s, scale), quality) for s in strips]
            if sum(map(len, made)) <= room:
                return made
    raise ConfigError(
        f"{len(strips)} pictures don't fit into {room / 1000:.0f} kB",
        fix="ask for fewer --failures",
    )


def _smaller(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def curves(runs: Sequence[TrainRun]) -> bytes | None:
    """Learning curves of all runs in a row as PNG: losses above, validation below.

    Returns:
        None: no run has noted anything.

    Raises:
        ConfigError: if Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ConfigError(
            f"learning curves need Matplotlib, which can't be imported: {e}",
            fix="pip install 'robollm[eval]'",
        ) from e
    drawn = [r for r in runs if r.rows]
    if not drawn:
        return None
    figure = Figure(figsize=(3.6 * len(drawn), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(drawn), squeeze=False)
    for (top, bottom), run in zip(grid.T, drawn, strict=True):
        losses = sorted({k for r in run.rows for k in r if k == "loss" or k.endswith("/loss")})
        top.set_title(run.name, fontsize=9)
        _lines(top, run, [k for k in losses if not k.startswith("val/")], "loss")
        _lines(bottom, run, _validation(run), "validation")
        bottom.set_xlabel("step", fontsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=80, metadata={"Software": None})
    return out.getvalue()


def _validation(run: TrainRun) -> list[str]:
    every = sorted(
        {k for r in run.rows for k, v in r.items() if k.startswith("val/") and v is not None}
    )
    best = [k for k in every if k.rpartition("/")[2] in _SHOWN]
    return (best or every)[:_MOST_LINES]


def _lines(axes: Any, run: TrainRun, keys: Sequence[str], label: str) -> None:
    for key in keys:
        points = [(r["step"], r[key]) for r in run.rows if r.get(key) is not None]
        mark = "o" if len(points) < 40 else ""
        axes.plot(*zip(*points, strict=True), marker=mark, markersize=3, linewidth=1.2,
                  label=key.removeprefix("val/"))  # fmt: skip
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if keys:
        axes.legend(fontsize=6, loc="best")
    else:
        axes.text(0.5, 0.5, "none noted", ha="center", va="center", transform=axes.transAxes)
