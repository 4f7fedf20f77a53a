"""`robollm eval armbench`: ARMBench's folders in, figures and a report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robollm.cli.eval.ending import finish
from robollm.cli.eval.options import (
    gallery_option,
    json_option,
    limit_option,
    out_option,
    predictor_option,
    resumable,
    with_bundle,
    with_draws,
    with_workers,
)
from robollm.cli.options import take
from robollm.core.errors import ConfigError
from robollm.core.settings import RuntimeConfig

_TASKS = ("segmentation", "identification", "defects", "videos")
_VIEWS = ("PickRGB", "ToteWallRGB", "OnArmLowRGB", "FarTrayRGB")
_OPTIONS = (
    click.option("--task", "tasks", multiple=True, type=click.Choice(_TASKS),
                 help="Only this task; repeatable. Default: all that are found."),
    click.option("--subset", "subsets", multiple=True,
                 help="Only this part of segmentation; repeatable. Default: all that are found."),
    click.option("--split", type=click.Choice(["test", "val", "train"]), default="test",
                 show_default=True, help="Samples to use; train flatters: it was learned."),
    click.option("--baselines", is_flag=True,
                 help="Let the built-in baselines answer the same samples, too."),
    click.option("--masks", type=click.Choice(["polygons", "rle"]), default="polygons",
                 show_default=True, help="SPLIT.json, or the exact SPLIT-rle.json."),
    click.option("--category", "categories", multiple=True, metavar="NAME=KIND",
                 help="A category of another name is a tote or an object, as Item=object."),
    click.option("--min-area", type=click.FloatRange(0), default=0.0, show_default=True,
                 help="Instances of less px cost nothing, found or not; ARMBench counts all."),
    click.option("--min-visibility", type=click.FloatRange(0, 1), default=0.0, show_default=True,
                 help="Nor do those of which a smaller share can be seen, where annotations say "
                 "it, as simulated ones."),
    click.option("--views", multiple=True, type=click.Choice(_VIEWS),
                 help="A picture of a pick to ask with; repeatable. Default: those that the bundle "
                 "joins, else the first three."),
    click.option("--pick-crop", type=click.Choice(["image", "segment"]),
                 help="The whole picture of a pick, as the devkit, or the outline's box. "
                 "Default: as the bundle was trained."),
    click.option("--defect-crop", type=click.Choice(["box", "image"]),
                 help="The annotated box, or the whole picture. Default: as the bundle was "
                 "trained."),
    click.option("--references", type=click.Choice(["all", "split", "manifests"]),
                 help="Reference images to embed: all, those of the split's products, or those of "
                 "the picks' containers. Default: all; with --limit those of the containers."),
    click.option("--frames-per-second", type=click.FloatRange(0, min_open=True), default=2.0,
                 show_default=True, help="Frames of a video that are judged."),
    click.option("--frames-per-video", type=click.IntRange(1), default=64, show_default=True,
                 help="The same, at most of one video."),
    click.option("--report/--no-report", default=True, show_default=True,
                 help="Write report.html, too; `robollm eval report` can do that later."),
)  # fmt: skip


def _options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@out_option
@predictor_option
@with_bundle
@_options
@gallery_option
@limit_option
@with_workers
@with_draws
@json_option
def command(
    data: Path,
    out: Path,
    predictor: str,
    tasks: tuple[str, ...],
    subsets: tuple[str, ...],
    split: str,
    baselines: bool,
    masks: str,
    categories: tuple[str, ...],
    min_area: float,
    min_visibility: float,
    views: tuple[str, ...],
    pick_crop: str | None,
    defect_crop: str | None,
    references: str | None,
    frames_per_second: float,
    frames_per_video: int,
    report: bool,
    gallery: Path | None,
    limit: int | None,
    workers: int,
    ray: str,
    draws: int,
    seed: int,
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Evaluate on ARMBench's folders in DATA: the thesis' tables, with our column.

    DATA holds armbench-segmentation-0.1, armbench-object-id-0.1, armbench-defects-image-0.1 and
    armbench-defects-video-0.1, or is one of them. What is there is evaluated, and said; so is what
    is missing.

    \b
      robollm eval armbench DATA --bundle B --out RUN
      robollm eval armbench DATA --bundle B --out RUN --baselines
      robollm eval armbench DATA --predictor oracle --out RUN --limit 50

    RUN gets a line per sample, metrics.json and report.html. The same command goes on where it was
    stopped; --limit makes a quick look, which calls itself partial.
    """
    from robollm.eval.armbench import Order, evaluate, evaluate_baselines
    from robollm.eval.progress import shown

    config = take(RuntimeConfig, settings)
    order = Order(
        data=data,
        out=out,
        predictor=predictor,
        config=config,
        tasks=tasks,
        subsets=subsets,
        split=split,
        limit=limit or 0,
        masks=masks,
        categories=_pairs(categories),
        min_area=min_area,
        min_visibility=min_visibility,
        views=views,
        identification_crop=pick_crop or "",
        defect_crop=defect_crop or "",
        references=references or "",
        gallery=gallery,
        frames_per_second=frames_per_second,
        frames_per_video=frames_per_video,
        seed=seed,
        workers=workers,
        ray=ray,
    )
    with resumable(out, as_json=as_json), shown() as progress:
        settled = evaluate(order, progress)
        missing = evaluate_baselines(settled, progress) if baselines else {}
        finish(out, draws, seed, as_json=as_json, progress=progress, report=report,
               more={"baselines_left_out": missing})  # fmt: skip


def _pairs(categories: tuple[str, ...]) -> dict[str, str]:
    out = {}
    for one in categories:
        name, _, kind = one.rpartition("=")
        if not name or kind not in ("tote", "object"):
            raise ConfigError(
                f"--category is {one!r}, want NAME=tote or NAME=object",
                fix="for example --category Item=object",
            )
        out[name] = kind
    return out
