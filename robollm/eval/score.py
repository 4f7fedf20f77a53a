"""Records to figures: all streams of a run folder, and of the baselines in it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from robollm.core.errors import EvalError
from robollm.eval.figures import Metrics, Section
from robollm.eval.losses import losses
from robollm.eval.progress import SILENT, Progress, stage
from robollm.eval.records import (
    DEFECTS,
    IDENTIFICATION,
    PICKS,
    SEGMENTATION,
    TOTES,
    VIDEOS,
    Record,
)
from robollm.eval.run_card import CARD
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks import defect_score, identification_score, segmentation_score
from robollm.eval.tasks.scored import Scored
from robollm.metrics.bootstrap import intervals
from robollm.metrics.tally import Tally

BASELINES = "baselines"
LEVEL = 0.95
Keep = Mapping[str, AbstractSet[str]]


def score(
    run: RunFolder,
    *,
    draws: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Metrics:
    """Score a run and the baselines in it; nothing is written.

    Args:
        run: may still be going on: what is there is scored, and called partial.
        draws: of the bootstrap.
        level: of the intervals, two-sided.
        seed: of the draws.
        progress: is told of every sample and draw.

    Raises:
        EvalError: if there are no records, or some can't be understood.
        GalleryError: if the references are missing or damaged.
    """
    sections = _sections(run, draws, level, seed, progress)
    reasons = run.partial_reasons()
    beside: dict[str, tuple[Section, ...]] = {}
    for one in baselines(run):
        name = one.card["predictor"]["name"]
        label = f"{name}: "
        found = _sections(one, draws, level, seed, progress, label) if one.streams else []
        if found:  # else it ended before its first answer
            beside[name] = tuple(found)
        reasons += [f"baseline {name}: {why}" for why in one.partial_reasons()]
    for stream in run.streams:
        lines = run.damage(stream)
        reasons += [f"{n} lines of {stream}: {kind}" for kind, n in lines.counts.items()]
    reasons += losses(run.card["problems"]["counts"])
    blind = sum(section.counts.get("views_left_out", 0) for section in sections)
    if blind:
        reasons.append(f"{blind} views can't be read; their picks were asked without them")
    limit = run.card.get("settings", {}).get("limit")
    if limit:
        reasons.append(f"asked for at most {limit} samples of each kind (--limit)")
    return Metrics(
        partial=bool(reasons),
        partial_reasons=tuple(reasons),
        bootstrap={"draws": draws, "level": level, "seed": seed},
        sections=tuple(sections),
        baselines=beside,
    )


def tallies(run: RunFolder, keep: Keep | None = None) -> dict[tuple[str, str], Tally]:
    """What `compare` resamples.

    Args:
        run: the run.
        keep: stream -> keys to count; None: all that there are.

    Returns:
        (task, subset) -> tally.

    Raises:
        EvalError: see `score`.
    """
    out: dict[tuple[str, str], Tally] = {}
    for stream in run.streams:
        some = None if keep is None else keep.get(stream, frozenset())
        task, subset = name_of(stream)
        if some is None or some:
            out[task, subset] = scored(run, stream, some).tally
    return out


def scored(
    run: RunFolder,
    stream: str,
    keep: AbstractSet[str] | None = None,
    passed: Callable[[], None] = lambda: None,
) -> Scored:
    """Count one stream of a run.

    Args:
        run: the run.
        stream: its name.
        keep: keys to count; None: all.
        passed: called for each record.

    Raises:
        EvalError: if it has no records, or some can't be understood.
        GalleryError: if identification's references are missing or damaged.
    """
    records: Iterator[Any] = _kept(run.records(stream), keep, passed)
    if stream.startswith(SEGMENTATION):
        return segmentation_score.score(records, run.card, stream.removeprefix(SEGMENTATION))
    if stream == IDENTIFICATION:
        return identification_score.score(records, run)
    if stream in (DEFECTS, VIDEOS):
        return defect_score.score(records, run.card, video=stream == VIDEOS)
    station = importlib.import_module("robollm.eval.station_score")
    found: Scored = station.score(records, run, stream)
    return found


def name_of(stream: str) -> tuple[str, str]:
    """Task and subset of a stream's section."""
    if stream.startswith(SEGMENTATION):
        return "segmentation", stream.removeprefix(SEGMENTATION)
    return ("station", stream) if stream in (PICKS, TOTES) else (stream, "")


def baselines(run: RunFolder) -> Iterator[RunFolder]:
    """The runs of baselines within a run's folder."""
    folder = run.path / BASELINES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (path / CARD).is_file():
            yield RunFolder.open(path)


def headline(metrics: Metrics) -> dict[str, float | None]:
    """The few figures that stand for a run, by section: SECTION/NAME; None: nothing to count."""
    wanted = (
        "two_class_mask_mAP50", "class_agnostic_mask_mAP50", "object_only_mask_mAP50",
        "object_only_mask_mAP75",
        "recall@1_container_product_n1", "recall@1_container_product_n3",
        "recall@1_all_product_n1",
        "image_combined_recall", "image_combined_fpr", "induct_combined_recall@fpr0.01",
        "video_combined_recall", "video_combined_fpr",
        "recall@1_published", "identified_precision", "verdict_combined_recall",
        "verdict_combined_fpr",
    )  # fmt: skip
    return {
        f"{section.name}/{name}": None if value != value else value
        for section in metrics.sections
        for name in wanted
        if name in section.figures
        for value in (section.figures[name].value,)
    }


def _sections(
    run: RunFolder, draws: int, level: float, seed: int, progress: Progress, of: str = ""
) -> list[Section]:
    if not run.streams:
        raise EvalError(
            f"{str(run.path)!r} has no records", fix="run the same `robollm eval` command again"
        )
    out = []
    for stream in run.streams:
        samples = len(run.keys(stream)) + len(run.keys(stream, failed=True))
        if of and not samples:
            continue  # a baseline that ended early
        with stage(progress, f"{of}{stream}: samples to count", samples) as passed:
            counted = scored(run, stream, passed=passed)
        label = f"{of}{stream}, {len(counted.tally.units)} units: draws"
        with stage(progress, label, draws) as drawn:
            figures = intervals(counted.tally, draws=draws, level=level, seed=seed, drawn=drawn)
        out.append(counted.section(figures))
    return out


def _kept(
    records: Iterator[Record], keep: AbstractSet[str] | None, passed: Callable[[], None]
) -> Iterator[Record]:
    for one in records:
        if keep is None or one.key in keep:
            yield one
        passed()
