"""ARMBench's folders to records: what there is, who is asked, and a stream for each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError, EvalError, RobollmError
from robollm.core.fuse import OUR_NAMES
from robollm.core.settings import RuntimeConfig
from robollm.data.armbench_identification import split_products
from robollm.data.problems import Problems
from robollm.eval import predictors
from robollm.eval.contents import FolderJob, check_jobs
from robollm.eval.predictors import BASELINES, N3, Predictor
from robollm.eval.progress import SILENT, Progress
from robollm.eval.recorder import Desk
from robollm.eval.records import DEFECTS, IDENTIFICATION, SEGMENTATION, VIDEOS, Json
from robollm.eval.run_card import OtherRunError
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import predict
from robollm.eval.settings import of_a_worker
from robollm.eval.tasks import defects, folders, identification, references, segmentation, videos
from robollm.eval.tasks.data_card import data_card
from robollm.eval.tasks.given_gallery import searched
from robollm.runtime.references import Picture

LEFT_OUT, NOT_THERE = "task_left_out", "not_in_data"
"""Problems of a run: a task, or a part of it, that was found and can't be used, or not found."""


_KEPT = (  # of an order, as it is, in the run's card
    "limit", "masks", "min_area", "min_visibility", "identification_crop", "defect_crop",
    "references", "frames_per_second", "frames_per_video", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What shall be evaluated, and how.

    Attributes:
        data: a folder that holds ARMBench's folders, or one of these.
        out: the run folder.
        predictor: a name of `predictors.NAMES`.
        config: of the bundle; `threads` is chosen here.
        tasks: of `folders.TASKS`; empty: those that are found.
        subsets: of segmentation; empty: those that are found.
        split: "test", "val" or "train".
        limit: at most so many samples (inducts, videos) of each kind; 0: all.
        masks: see `segmentation.jobs`.
        categories: the same, `names`.
        min_area, min_visibility: the same.
        views: see `identification.jobs`; empty: those that the bundle joins, else `N3`.
        identification_crop: the same, `crop`; empty: as the bundle was trained, else "image".
        defect_crop: see `defects.jobs`; empty: as the bundle was trained, else "box".
        references: "all", "manifests" (of the picks' containers), "split" (of these and of the
            split's products), or empty: all, but with a limit those of the containers.
        gallery: made with the same bundle; None: references are embedded into the run folder.
        frames_per_second, frames_per_video: see `videos.jobs`.
        seed: of `chance` and of baselines.
        workers: processes.
        ray: see `runner.predict`.
    """

    data: Path
    out: Path
    predictor: str = "bundle"
    config: RuntimeConfig = field(default_factory=RuntimeConfig)
    tasks: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    split: str = "test"
    limit: int = 0
    masks: str = "polygons"
    categories: Mapping[str, str] = field(default_factory=dict)
    min_area: float = 0.0
    min_visibility: float = 0.0
    views: tuple[str, ...] = ()
    identification_crop: str = ""
    defect_crop: str = ""
    references: str = ""
    gallery: Path | None = None
    frames_per_second: float = videos.PER_SECOND
    frames_per_video: int = videos.MOST
    seed: int = 0
    workers: int = 1
    ray: str = ""


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    task: str
    jobs: Sequence[FolderJob]


_DESKS: dict[str, Callable[[Predictor], Desk]] = {
    "segmentation": segmentation.SegmentationDesk,
    "identification": identification.PickDesk,
    "defects": defects.ImageDesk,
    "videos": videos.VideoDesk,
}


def make_desk(task: str, name: str, config: RuntimeConfig, options: Mapping[str, Any]) -> Desk:
    """A worker's desk; see `predictors.make`."""
    return _DESKS[task](predictors.make(name, config, options))


def evaluate(order: Order, progress: Progress = SILENT, *, words: bool = True) -> Order:
    """Predict everything that is ordered; what is done already is not done again.

    Args:
        order: what, and how.
        progress: is told.
        words: also say what was found and what is wrong with it.

    Returns:
        The order with what it left open: crops, views and references as they were chosen.

    Raises:
        ConfigError: the data can't be used as ordered.
        EvalError: the run folder is of another order, or nothing works.
        ModelFileError: see `predictors.make`.
        GalleryError: the gallery is damaged, or another bundle's.
    """
    found = folders.find(order.data)
    for line in found.lines() if words else ():
        progress.say(line)
    options = {
        "data": str(found.tasks.get("defects", found.root)),
        "split": order.split,
        "seed": order.seed,
        "defect_crop": order.defect_crop,  # of a baseline it is known by now
    }
    predictor = predictors.make(order.predictor, replace(order.config, threads=0), options)
    try:
        order = _as_trained(order, predictor.about())
        problems = Problems()
        streams = _streams(order, found, predictor.tasks, problems)
        listed = _references(order, found, streams, problems)
        card = _card(order, found, predictor, streams)
        with RunFolder.create_or_resume(order.out, card) as run:
            run.problems.merge(problems)
            for line in problems.lines() if words else ():
                progress.say(line)
            if listed:
                _build(run, predictor, listed, progress)
            predictor.close()  # its memory is the workers'
            for stream in streams:
                check_jobs(run, stream.name, stream.jobs, progress)
                predict(
                    run,
                    stream.name,
                    stream.jobs,
                    make_desk,
                    (stream.task, order.predictor, of_a_worker(order.config), options),
                    workers=order.workers,
                    ray=order.ray,
                    progress=progress,
                )
    finally:
        predictor.close()
    return order


def evaluate_baselines(order: Order, progress: Progress = SILENT) -> dict[str, str]:
    """Let every baseline answer the same samples, into `OUT/baselines/NAME`.

    Args:
        order: what `evaluate` gave back of the run beside which they are: crops are the same.
        progress: is told.

    Returns:
        Baseline -> why it was left out, or ended early: then the figures are partial.

    Raises:
        OtherRunError: the folder of one holds another run's answers.
    """
    missing: dict[str, str] = {}
    for name in BASELINES:
        out = order.out / "baselines" / name
        progress.say(f"baseline {name}")
        mine = replace(order, predictor=name, out=out, gallery=None, config=RuntimeConfig())
        if order.references == "given":
            mine = replace(mine, references="")
        try:
            evaluate(mine, progress, words=False)
        except OtherRunError:
            raise  # its answers are to other questions
        except RobollmError as e:
            missing[name] = e.what
            what = "ended early" if out.exists() else "is left out"
            progress.say(f"baseline {name} {what}: {e}")
    return missing


def _as_trained(order: Order, about: Json) -> Order:
    """What was not asked for: as the bundle was trained, else as ARMBench does."""
    known = about.get("trained_on") or {}
    theirs = {ours: name for name, ours in OUR_NAMES.items()}
    joined = tuple(theirs.get(name, name) for name in about.get("fused_views", ()))
    pick = (known.get("identification") or {}).get("crop", "image")
    held = (known.get("defects") or {}).get("crop", "box")
    wanted = order.references or ("manifests" if order.limit else "all")
    return replace(
        order,
        views=order.views or joined or N3,
        identification_crop=order.identification_crop or pick,
        # Outlines are not there at a station: such a bundle is judged by the box.
        defect_crop=order.defect_crop or (held if held in defects.CROPS else "box"),
        references="given" if order.gallery else wanted,
    )


def _streams(
    order: Order, found: folders.Found, able: frozenset[str], problems: Problems
) -> list[_Stream]:
    """What can be predicted. What was asked for by name must be there."""
    lost = [task for task in order.tasks if task not in found.tasks]
    if lost:
        why = "".join(f"; {found.broken[task]}" for task in lost if task in found.broken)
        raise ConfigError(
            f"{order.data} has no {', '.join(lost)}: it has {', '.join(found.tasks)}{why}",
            fix="leave --task out to take what there is, or give another folder",
        )
    strange = [subset for subset in order.subsets if subset not in found.subsets]
    if strange:
        raise ConfigError(
            f"{order.data} has no subset {', '.join(strange)}, it has "
            f"{', '.join(found.subsets) or 'none'}",
            fix="choose one of these with --subset",
        )
    for kind, parts in ((LEFT_OUT, found.broken), (NOT_THERE, found.missing)):
        for part, why in parts.items():
            task, _, subset = part.partition("/")
            if (not order.tasks or task in order.tasks) and not (subset and order.subsets):
                problems.note(kind, part, why, "not evaluated")
    out: list[_Stream] = []
    last: ConfigError | None = None
    for name, task in _names(order, found):
        if ("defects" if task == "videos" else task) not in able:
            if task in order.tasks:
                raise EvalError(
                    f"{order.predictor} can't do {task}", fix="choose another --predictor or --task"
                )
            continue
        mine = Problems()  # an error of this task names no problem of another
        try:
            out.append(_Stream(name, task, _jobs(order, found, name, task, mine)))
        except ConfigError as e:
            if task in order.tasks or name.removeprefix(SEGMENTATION) in order.subsets:
                raise
            last = e
            problems.note(LEFT_OUT, name, e.what)
        problems.merge(mine)
    if not out:
        raise last or EvalError(
            f"{order.predictor} can do none of {', '.join(found.tasks)}",
            fix="choose another --predictor",
        )
    return out


def _names(order: Order, found: folders.Found) -> list[tuple[str, str]]:
    """Stream and task of all that is found and wanted."""
    tasks = [task for task in found.tasks if not order.tasks or task in order.tasks]
    plain = {"identification": IDENTIFICATION, "defects": DEFECTS, "videos": VIDEOS}
    subsets = [s for s in found.subsets if not order.subsets or s in order.subsets]
    out = [(f"{SEGMENTATION}{s}", "segmentation") for s in subsets if "segmentation" in tasks]
    return out + [(plain[task], task) for task in tasks if task in plain]


def _jobs(
    order: Order, found: folders.Found, name: str, task: str, problems: Problems
) -> Sequence[FolderJob]:
    root, folder = found.root, found.tasks[task]
    if task == "segmentation":
        return segmentation.jobs(
            root, folder, name.removeprefix(SEGMENTATION), order.split, problems,
            masks=order.masks, names=order.categories, min_area=order.min_area,
            min_visibility=order.min_visibility, limit=order.limit,
        )  # fmt: skip
    if task == "identification":
        return identification.jobs(
            root, folder, order.split, problems,
            views=order.views, crop=order.identification_crop, limit=order.limit,
        )  # fmt: skip
    if task == "defects":
        return defects.jobs(
            root, folder, order.split, problems, crop=order.defect_crop, limit=order.limit
        )
    return videos.jobs(
        root, folder, order.split, problems,
        per_second=order.frames_per_second, most=order.frames_per_video, limit=order.limit,
    )  # fmt: skip


def _references(
    order: Order, found: folders.Found, streams: Sequence[_Stream], problems: Problems
) -> list[Picture]:
    """The reference images that are to be embedded; none if a gallery is given."""
    picks = [job for s in streams for job in s.jobs if isinstance(job, identification.PickJob)]
    if not picks or order.gallery:
        return []
    folder = found.tasks["identification"]
    wanted = {product for job in picks for product in (*job.manifest, job.truth)}
    if order.references == "split":
        wanted |= {*split_products(folder, Problems()).products[order.split]}
    mine = Problems()
    listed = references.pictures(folder, None if order.references == "all" else wanted, mine)
    problems.merge(mine)
    return listed


def _build(
    run: RunFolder, predictor: Predictor, listed: Sequence[Picture], progress: Progress
) -> None:
    progress.begin("references", len(listed))
    try:
        references.build(run.path / "gallery", predictor, listed, run.problems, progress.advance)
    finally:
        progress.end()


def _card(
    order: Order, found: folders.Found, predictor: Predictor, streams: Sequence[_Stream]
) -> Json:
    names = [s.name for s in streams]
    return {
        "source": "folder",
        "data": data_card(found, order.split, {s.name: s.jobs for s in streams}),
        "predictor": predictor.about(),
        "settings": {
            **{name: getattr(order, name) for name in _KEPT},
            "categories": dict(order.categories),
            "views": list(order.views),
        },
        **searched(order.gallery if IDENTIFICATION in names else None, predictor.made_with),
    }
